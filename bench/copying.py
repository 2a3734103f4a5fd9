"""Part five: what an online copy costs, and what it costs the shop that sells beside it.

The copy is held against the least that ends in the same state: one INSERT ... SELECT into a table without keys, which
are added behind it. All on a server that loses nothing in a crash, and on fresh databases, each a copy of the same.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum

import asyncpg
from sqlalchemy import text

from bench import data
from bench.copy_run import CopyRun, Meter, read_meter, run_copy
from bench.errors import BenchError
from bench.machine import describe
from bench.selling import Sales, Served, Write, Written, press, selling
from bench.sql import statements
from db.demo_shop import load_demo_shop
from db.embedded import EmbeddedServer
from db.engine import create_engine
from db.url import DatabaseUrl
from migration.capture import TRIGGERS

DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "autovacuum": "on"}
FLOOR, SOLD = statements("copy_floor.sql"), statements("sold.sql")
SHARE = 5
"""Where the shop sells meanwhile it has one in so many of the items."""
CLIENTS = (1, 8)
BESIDE_CLIENTS = 8
RATE = 500  # sales a second of a busy shop
WARM_SECONDS = 2
ALONE_SECONDS = 5
THROTTLE = "sleep=1"
Say = Callable[[str], None]


class Way(Enum):
    """What becomes of a legacy shop's database before it is written to."""

    LEGACY = "legacy alone"
    EXPANDED = "migrated, without the triggers on items"
    MIGRATED = "migrated"


@dataclass(frozen=True)
class Floor:
    """One INSERT ... SELECT and what it takes to end where a copy does: seconds by step."""

    steps: dict[str, float]
    cost: Meter

    @property
    def seconds(self) -> float:
        return sum(self.steps.values())


@dataclass(frozen=True)
class Cell:
    """Where a write of the shop's was measured."""

    way: Way
    write: Write
    clients: int
    durable: bool


@dataclass(frozen=True)
class Beside:
    """Selling before, while and after a copy; and by its phase. `rate` None: as fast as it goes."""

    rate: int | None
    throttle: str | None
    alone: Served
    during: Served
    after: Served
    phases: dict[str, Served]
    copy: CopyRun


@dataclass(frozen=True)
class Copying:
    """Everything once a round; `besides` once in all, as each has its own time alone to be held against."""

    items: int
    fewer: int
    floors: Sequence[Floor] = field(default_factory=list)
    copies: Sequence[CopyRun] = field(default_factory=list)
    writes: Sequence[tuple[Cell, Written]] = field(default_factory=list)
    besides: Sequence[Beside] = field(default_factory=list)
    machine: dict[str, str] = field(default_factory=dict)


def copying(items: int, rounds: int, seconds: int, say: Say) -> Copying:
    """BenchError: something failed, or a copy did not end with everything verified."""
    return asyncio.run(_measure(items, rounds, seconds, say))


async def _measure(items: int, rounds: int, seconds: int, say: Say) -> Copying:
    order = random.Random(0)  # noqa: S311 - turns, the same in every run
    floors: list[Floor] = []
    copies: list[CopyRun] = []
    writes: list[tuple[Cell, Written]] = []
    besides: list[Beside] = []
    fewer = max(1_000, items // SHARE)
    with data.server(DURABLE) as server:
        for name, size in (("shop", items), ("fewer", fewer)):
            say(f"loading {size:,} items")
            await _load(await data.create_database(server, name), size)
        for number in range(1, rounds + 1):
            for own in order.sample([True, False], 2):
                say(f"round {number} of {rounds}: {'the online copy' if own else 'the floor'}")
                async with _clone(server, "shop") as name:
                    if own:
                        copies.append(_complete(await run_copy(server, server.url(name)), items))
                    else:
                        floors.append(await _floor(server, server.url(name)))
        async for cell, written in _write(server, fewer, rounds, seconds, order, say):
            writes.append((cell, written))
        ways = [(rate, throttle) for rate in (RATE, None) for throttle in (None, THROTTLE)]
        for rate, throttle in ways:
            how = f"{rate} sales a second" if rate else "sales as fast as they go"
            say(f"{how}, beside a copy{f' with {throttle}' if throttle else ''}")
            besides.append(await _beside(server, fewer, rate, throttle))
        machine = describe(server, None, {"data": f"{items:,} items, and {fewer:,} where the shop sells meanwhile"})
    return Copying(items, fewer, floors, copies, writes, besides, machine)


def _complete(run: CopyRun, items: int) -> CopyRun:
    if run.copied != items:
        raise BenchError(f"the online copy ended with {run.copied:,} of {items:,} items copied")
    return run


async def _load(url: str, items: int) -> None:
    engine = create_engine(DatabaseUrl.parse(url), application_name="bench load", statement_timeout_ms=0)
    try:
        async with engine.begin() as connection:
            await load_demo_shop(connection, items=items)
            for statement in SOLD:
                await connection.execute(text(statement))
        async with engine.connect() as connection:
            settled = await connection.execution_options(isolation_level="AUTOCOMMIT")
            await settled.execute(text("VACUUM ANALYZE"))
    finally:
        await engine.dispose()


@asynccontextmanager
async def _clone(server: EmbeddedServer, template: str) -> AsyncIterator[str]:
    """The name of a database like another, with nothing left to be written of it."""
    name = f"{template} {time.monotonic_ns()}"
    await _execute(server.url(), f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY', "CHECKPOINT")
    try:
        yield name
    finally:
        await _execute(server.url(), f'DROP DATABASE "{name}" WITH (FORCE)')


async def _execute(url: str, *commands: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for command in commands:
            await connection.execute(command)
    finally:
        await connection.close()


async def _floor(server: EmbeddedServer, url: str) -> Floor:
    connection = await asyncpg.connect(url)
    try:
        steps: dict[str, float] = {}
        before = await read_meter(server, connection)
        for statement in FLOOR:
            title = statement.splitlines()[0].removeprefix("-- ")
            started = time.monotonic()
            await connection.execute(statement)
            steps[title] = time.monotonic() - started
        return Floor(steps, (await read_meter(server, connection)).since(before))
    finally:
        await connection.close()


async def _write(
    server: EmbeddedServer, items: int, rounds: int, seconds: int, order: random.Random, say: Say
) -> AsyncIterator[tuple[Cell, Written]]:
    """The shop's writes, one after the other, of each way in turn."""
    async with _clone(server, "fewer") as legacy, _clone(server, "fewer") as migrated:
        say("migrating, to write to it")
        await run_copy(server, server.url(migrated))
        async with _clone(server, migrated) as expanded:
            off = [f"DROP TRIGGER {name} ON {trigger.table}" for name, trigger in TRIGGERS.items()]
            await _execute(server.url(expanded), *[drop for drop in off if drop.endswith("public.items")])
            databases = {Way.LEGACY: legacy, Way.EXPANDED: expanded, Way.MIGRATED: migrated}
            for database in databases.values():
                await _execute(server.url(database), "VACUUM ANALYZE", "CHECKPOINT")
            for number in range(1, rounds + 1):
                for durable in (True, False):
                    say(f"round {number} of {rounds}: legacy writes{'' if durable else ', synchronous_commit=off'}")
                    for write in Write:
                        for clients in CLIENTS:
                            for way in order.sample(list(Way), len(Way)):
                                yield (
                                    Cell(way, write, clients, durable),
                                    press(
                                        server,
                                        databases[way],
                                        write,
                                        items=items,
                                        clients=clients,
                                        seconds=seconds,
                                        durable=durable,
                                    ),
                                )


async def _beside(server: EmbeddedServer, items: int, rate: int | None, throttle: str | None) -> Beside:
    async with _clone(server, "fewer") as name:
        async with selling(server, name, items=items, clients=BESIDE_CLIENTS, rate=rate) as sales:
            await asyncio.sleep(WARM_SECONDS)
            began = time.time()
            await asyncio.sleep(ALONE_SECONDS)
            run = await run_copy(server, server.url(name), *([throttle] if throttle else []))
            await asyncio.sleep(ALONE_SECONDS)
            ended = time.time()
        return _divided(sales, began, ended, run, rate, throttle)


def _divided(sales: Sales, began: float, ended: float, run: CopyRun, rate: int | None, throttle: str | None) -> Beside:
    start, end = run.spans[0].start, run.spans[-1].end
    return Beside(
        rate,
        throttle,
        sales.between(began, start),
        sales.between(start, end),
        sales.between(end, ended),
        {span.phase: sales.between(span.start, span.end) for span in run.spans},
        run,
    )
