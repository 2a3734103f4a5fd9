"""What one process of the service holds while it runs: connections, what it knows of the database, work under way."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import stamina
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import create_engine
from db.errors import StockshiftError
from db.read_pool import ReadPool
from db.replica import Replica
from db.url import DatabaseUrl
from resolvers.driving import Driving
from resolvers.dual_read import DualReads
from resolvers.polls import Polls
from resolvers.reader import Reader
from resolvers.run_verification import MOST_AT_ONCE
from service.sessions import who
from service.settings import Settings
from service.signals import on_signal_to_stop

NO_ANSWER = (StockshiftError, SQLAlchemyError, OSError)
"""What is raised when the database is away, or is no shop's."""
DIRECT_CONNECTIONS = MOST_AT_ONCE + 3
"""Each verification has one; who drives a run has its own, one for its heartbeat, and one that verifies."""


@dataclass(frozen=True, eq=False)
class Runtime:
    """`reader` answers over the pooled connection; `direct` is the unpooled one, for verification and migration.

    `stopping` is set as soon as the process is told to stop. Counted since it started: `requests`, and the `seconds`
    they took, by status and way of answering; `mutations` by name and outcome.
    """

    reader: Reader
    direct: AsyncEngine
    driving: Driving
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    polls: Polls = field(default_factory=Polls)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: defaultdict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    mutations: Counter[tuple[str, str]] = field(default_factory=Counter)


@asynccontextmanager
async def running(settings: Settings, database_url: str) -> AsyncIterator[Runtime]:
    """Work that is under way at the end is cancelled; a verification then reads as interrupted, and so does a run of
    the migration, until another process, or the next, drives it on."""
    stamina.instrumentation.set_on_retry_hooks([])  # they log each retry; a run that waits says so in its row
    url = DatabaseUrl.parse(database_url)
    pooled = create_engine(
        url,
        application_name="stockshift serve",
        pool_size=settings.pool_size,
        statement_timeout_ms=settings.statement_timeout_ms,
    )
    direct = create_engine(
        DatabaseUrl.parse(settings.direct_url or database_url),
        application_name="stockshift serve direct",
        pool_size=DIRECT_CONNECTIONS,
        statement_timeout_ms=0,
    )
    reads = _reads(url, settings, settings.pool_size)
    replica = _replica(url, settings)
    driving = Driving(direct, name=who(), lock_timeout_ms=settings.lock_timeout_ms)
    dual = DualReads(pooled, settings.compare_reads) if settings.compare_reads else None
    reader = Reader(pooled, reads, replica=replica, dual=dual, most_rows=settings.max_page)
    runtime = Runtime(reader, direct, driving)
    async with AsyncExitStack() as stack:
        if replica is not None:
            await stack.enter_async_context(replica.watched())
        stack.enter_context(on_signal_to_stop(runtime.stopping.set))
        watching = [asyncio.create_task(driving.watch(pooled))]
        if dual is not None:
            watching.append(asyncio.create_task(dual.keep_writing()))
        try:
            yield runtime
        finally:
            under_way = [*watching, *runtime.tasks]
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
            await driving.close()
            if dual is not None:
                await dual.flush()
            await reads.close()
            await pooled.dispose()
            await direct.dispose()


def _reads(url: DatabaseUrl, settings: Settings, size: int) -> ReadPool:
    return ReadPool(
        url,
        application_name="stockshift serve",
        size=size,
        statement_timeout_ms=settings.statement_timeout_ms,
    )


def _replica(primary: DatabaseUrl, settings: Settings) -> Replica | None:
    if settings.replica_url is None:
        return None
    url = DatabaseUrl.parse(settings.replica_url)
    return Replica(
        _reads(url, settings, settings.pool_size),
        primary_probe=_reads(primary, settings, 1),
        probe=_reads(url, settings, 1),
        max_lag_ms=settings.replica_max_lag_ms,
    )
