"""Part six: what all checks of a verification take, against the one query that the migration's recipe verifies with."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from bench import data
from bench.errors import BenchError
from bench.machine import describe
from bench.processes import postgres_cpu_seconds
from bench.sql import statements
from db.demo_shop import load_demo_shop
from db.engine import create_engine
from db.url import DatabaseUrl
from migration.atomic import migrate_atomic
from migration.verify import verify

(RECIPE,) = statements("seed_verification.sql")
WEEKS = statements("weeks.sql")
Say = Callable[[str], None]


class Way(Enum):
    PLANNED = "the recipe's query, as PostgreSQL plans it"
    HASHED = "the recipe's query, without merge joins"
    VERIFY = "all checks"


class Shop(Enum):
    COPIED = "as it was copied"
    WEEKS = "weeks later: one item in 20 sold from, one in 10 with another batch"


@dataclass(frozen=True)
class Taken:
    """Seconds, and CPU seconds of PostgreSQL."""

    seconds: float
    cpu: float


@dataclass(frozen=True)
class Verifying:
    items: int
    taken: Sequence[tuple[Shop, Way, Taken]] = field(default_factory=list)
    machine: dict[str, str] = field(default_factory=dict)


def verifying(items: int, rounds: int, say: Say) -> Verifying:
    """BenchError: a verification did not pass."""
    return asyncio.run(_measure(items, rounds, say))


async def _measure(items: int, rounds: int, say: Say) -> Verifying:
    order = random.Random(0)  # noqa: S311 - turns, the same in every run
    taken: list[tuple[Shop, Way, Taken]] = []
    with data.server() as server:
        url = await data.create_database(server, "shop")
        engine = create_engine(DatabaseUrl.parse(url), application_name="bench", statement_timeout_ms=0)
        try:
            say(f"loading {items:,} items, and copying them")
            await _load(engine, items)
            for shop in Shop:
                if shop is Shop.WEEKS:
                    say("the shop goes on for some weeks")
                    await _go_on(engine)
                for number in range(1, rounds + 1):
                    say(f"round {number} of {rounds}: {shop.value}")
                    for way in order.sample(list(Way), len(Way)):
                        started, cpu = time.monotonic(), postgres_cpu_seconds(server.data_dir)
                        await run(engine, way)
                        seconds, worked = time.monotonic() - started, postgres_cpu_seconds(server.data_dir) - cpu
                        taken.append((shop, way, Taken(seconds, worked)))
        finally:
            await engine.dispose()
        machine = describe(server, None, {"data": f"{items:,} items"})
    return Verifying(items, taken, machine)


async def _load(engine: AsyncEngine, items: int) -> None:
    async with engine.begin() as connection:
        await load_demo_shop(connection, items=items)
        await connection.execute(text("ANALYZE"))
    await migrate_atomic(engine, driver="bench")
    await _settle(engine)


async def _go_on(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        for statement in WEEKS:
            await connection.execute(text(statement))
    await _settle(engine)


async def _settle(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        settled = await connection.execution_options(isolation_level="AUTOCOMMIT")
        for statement in ("VACUUM ANALYZE", "CHECKPOINT"):
            await settled.execute(text(statement))


async def run(engine: AsyncEngine, way: Way) -> None:
    """Once. BenchError: a verification did not pass."""
    if way is Way.VERIFY:
        found = await verify(engine, requested_by="bench")
        if not found.passed:
            failed = ", ".join(check.name for check in found.checks if not check.passed)
            raise BenchError(f"verification {found.id} did not pass: {failed}")
        return
    async with engine.begin() as connection:
        await _ask(connection, hashed=way is Way.HASHED)


async def _ask(connection: AsyncConnection, *, hashed: bool) -> None:
    if hashed:
        await connection.execute(text("SET LOCAL enable_mergejoin = off"))
    await connection.execute(text(RECIPE))
