"""What one process of the service holds while it runs: connections, what it knows of the database, work under way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import create_engine
from db.errors import StockshiftError
from db.read_pool import ReadPool
from db.replica import Replica
from db.url import DatabaseUrl
from resolvers.polls import Polls
from resolvers.reader import Reader
from service.settings import Settings
from service.signals import on_signal_to_stop

NO_ANSWER = (StockshiftError, SQLAlchemyError, OSError)
"""What is raised when the database is away, or is no shop's."""


@dataclass(frozen=True, eq=False)
class Runtime:
    """`reader` answers over the pooled connection; `direct` is the unpooled one, for verification and migration.

    `stopping` is set as soon as the process is told to stop.
    """

    reader: Reader
    direct: AsyncEngine
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    polls: Polls = field(default_factory=Polls)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def running(settings: Settings, database_url: str) -> AsyncIterator[Runtime]:
    """Work that is under way at the end is cancelled; a verification then reads as interrupted."""
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
        pool_size=2,
        statement_timeout_ms=0,
    )
    reads = _reads(url, settings, settings.pool_size)
    replica = _replica(url, settings)
    runtime = Runtime(Reader(pooled, reads, replica=replica, most_rows=settings.max_page), direct)
    async with AsyncExitStack() as stack:
        if replica is not None:
            await stack.enter_async_context(replica.watched())
        stack.enter_context(on_signal_to_stop(runtime.stopping.set))
        try:
            yield runtime
        finally:
            for task in runtime.tasks:
                task.cancel()
            await asyncio.gather(*runtime.tasks, return_exceptions=True)
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
