"""Part two: what a page, an item or a sum costs as the shop grows, in buffers, which no noise touches, and in time.

PostgreSQL itself tells the buffers (auto_explain: EXPLAIN with ANALYZE and BUFFERS of every statement as it ran), so
nothing here depends on how the service makes its statements.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import orjson

from bench import data
from bench.client import Client
from bench.errors import BenchError
from bench.growth_cases import ORDERS, Case, cases
from bench.machine import describe
from bench.operations import ITEM
from bench.processes import Cores
from bench.service import service
from bench.sql import statements
from db.embedded import EmbeddedServer

SIZES = (1_000, 100_000, 1_000_000)
REPEATS = 9
ENOUGH_SECONDS = 3.0  # a slow page is measured less often
LOG_SECONDS = 30.0
PATIENT_SECONDS = 50
PATIENT = {"STOCKSHIFT_STATEMENT_TIMEOUT_MS": str(PATIENT_SECONDS * 1_000)}
"""A cost is to be stated even where users would be told that it is too much."""

EXPLAINING = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "-1",  # each database says when
    "auto_explain.log_analyze": "on",
    "auto_explain.log_buffers": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_format": "json",
    "logging_collector": "on",
    "log_destination": "jsonlog",
    "log_directory": "log",
    "log_filename": "bench.log",
    "log_rotation_age": "0",
    "log_rotation_size": "0",
}


@dataclass(frozen=True)
class Cost:
    """Of one request: shared buffers read, statements, and the median time in ms; or why there is none."""

    buffers: int = 0
    statements: int = 0
    ms: float = 0.0
    failed: str | None = None


@dataclass(frozen=True)
class Growth:
    """`costs` are by case and number of items."""

    sizes: Sequence[int]
    costs: dict[tuple[Case, int], Cost]
    machine: dict[str, str]


def grow(sizes: Sequence[int], say: Callable[[str], None]) -> Growth:
    cores = Cores.choose()
    os.sched_setaffinity(0, {cores.database})
    costs: dict[tuple[Case, int], Cost] = {}
    for size in sizes:
        with data.server(EXPLAINING) as server:
            say(f"loading {size:,} items")
            for case, cost in _measure(server, size, cores, say):
                costs[case, size] = cost
            machine = describe(server, cores, {"data": "all companies, about 3 batches an item, 20 locations"})
    return Growth(sizes, costs, machine)


def _measure(
    server: EmbeddedServer, size: int, cores: Cores, say: Callable[[str], None]
) -> Iterator[tuple[Case, Cost]]:
    url = asyncio.run(data.create_database(server, "shop"))
    asyncio.run(data.load(url, size))
    with service(url, cores.server, settings=PATIENT) as running:
        say(f"{size:,} items: measuring")
        starts = asyncio.run(_starts(url, running.client, size))
        times = {case: _timed(running.client, case, starts.get(case)) for case in cases()}
    asyncio.run(_execute(url, "ALTER DATABASE shop SET auto_explain.log_min_duration = 0"))
    say(f"{size:,} items: explaining")
    with service(url, cores.server, settings=PATIENT) as running, PlanLog(server, url) as log:
        for case, cost in times.items():
            yield case, cost if cost.failed else _explained(running.client, log, case, starts.get(case), cost.ms)


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _starts(url: str, client: Client, items: int) -> dict[Case, str]:
    """Where each case begins that does not at the start: an item's id, or its cursor."""
    found: dict[Case, str] = {}
    by_order = dict(zip(ORDERS, statements("places_in_order.sql"), strict=True))
    connection = await asyncpg.connect(url)
    try:
        for case in cases():
            position = case.position(items)
            if position is not None:
                for id_, name in await connection.fetch(by_order[case.order], position):
                    found[case] = _cursor(client, case, id_, name)
            elif case.document == ITEM:
                found[case] = await connection.fetchval(*statements("item_of_three.sql"))
    finally:
        await connection.close()
    return found


def _cursor(client: Client, case: Case, id_: str, name: str) -> str:
    """The service makes it: it is asked for items of that name."""
    query = (
        "query Cursor($name: String!, $after: String, $orderBy: ItemOrder) { items(first: 1000, after: $after,"
        " orderBy: $orderBy, filter: { search: $name }) { edges { cursor node { id } } } }"
    )
    after = None
    while edges := client.graphql(query, name=name, orderBy=case.order_by, after=after)["items"]["edges"]:
        after = edges[-1]["cursor"]
        for edge in edges:
            if edge["node"]["id"] == id_:
                return str(edge["cursor"])
    raise BenchError(f"the service does not find item {id_} by its name")


def _ask(client: Client, case: Case, start: str | None) -> None:
    client.graphql(case.document, **case.variables(start))


def _timed(client: Client, case: Case, start: str | None) -> Cost:
    times: list[float] = []
    begin = time.monotonic()
    try:
        _ask(client, case, start)  # plans are made, pages are in memory
        first = time.monotonic() - begin
        if first > ENOUGH_SECONDS:
            times.append(first * 1e3)
        while len(times) < REPEATS and (not times or time.monotonic() - begin < ENOUGH_SECONDS):
            before = time.perf_counter()
            _ask(client, case, start)
            times.append((time.perf_counter() - before) * 1e3)
    except BenchError as error:
        return Cost(failed=error.message)
    return Cost(ms=statistics.median(times))


def _explained(client: Client, log: "PlanLog", case: Case, start: str | None, ms: float) -> Cost:
    try:
        _ask(client, case, start)
        log.plans()
        _ask(client, case, start)
    except BenchError as error:
        return Cost(failed=error.message)
    plans = [one["Plan"] for one in log.plans()]
    buffers = sum(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] for plan in plans)
    return Cost(buffers, len(plans), ms)


class PlanLog:
    """The plans that the server logged since they were last asked for. A statement of ours marks the end of them."""

    def __init__(self, server: EmbeddedServer, url: str) -> None:
        self._file = server.data_dir / "log" / "bench.json"
        self._url = url
        self._marks = 0
        self._read = 0

    def __enter__(self) -> "PlanLog":
        self.plans()
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is held open."""

    def plans(self) -> list[dict[str, Any]]:
        self._marks += 1
        mark = f"SELECT 'mark {self._marks}'"
        asyncio.run(_execute(self._url, mark))
        deadline = time.monotonic() + LOG_SECONDS
        found: list[dict[str, Any]] = []
        while time.monotonic() < deadline:
            for plan in self._new():
                if plan["Query Text"] == mark:
                    return found
                found.append(plan)
            time.sleep(0.01)
        raise BenchError(f"PostgreSQL logged no plan of its own within {LOG_SECONDS:.0f} s; it must be 15 or later")

    def _new(self) -> Iterator[dict[str, Any]]:
        with self._file.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._read += len(line)
                _, explained, plan = orjson.loads(line)["message"].partition("plan:\n")
                if explained:
                    yield orjson.loads(plan)
