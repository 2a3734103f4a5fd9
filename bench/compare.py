"""Part one: everybody beside everybody, in interleaved rounds, so that the machine's moods meet all alike."""

import asyncio
import itertools
import math
import os
import random
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg

from bench import data
from bench.client import Answers, check_equal, connect, places
from bench.contestants import CONTESTANTS, SERVER, Assignment, Contestant
from bench.errors import BenchError, Missing
from bench.load import Load, Measurement, write_requests
from bench.machine import describe
from bench.operations import Operation, Place
from bench.processes import Cores, Process, free_port, program, serving
from bench.results import Column, Results
from bench.sql import statements
from db.embedded import EmbeddedServer
from db.url import DatabaseUrl
from resolvers.viewer import Role
from service.tokens import issue_token

PGBENCH, PGBENCH_TITLE = "pgbench", "floor: pgbench, the SQL alone"
SLACK = 1.5
LONGEST = 10  # times as long as other measurements may one be
Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    items: int
    rounds: int
    seconds: int
    connections: Sequence[int]
    only: Sequence[str] = ()


@dataclass(frozen=True)
class Running:
    contestant: Contestant
    process: Process
    token: str | None


def compare(options: Options, say: Say) -> Results:
    """Loads the data, starts everybody, measures, stops everybody."""
    cores = Cores.choose()
    program("wrk", "wrk")  # before a minute of loading, not after it
    os.sched_setaffinity(0, {cores.database})  # PostgreSQL and the load generators inherit it
    with data.server() as server, TemporaryDirectory(prefix="stockshift-bench-") as folder, ExitStack() as stack:
        say(f"loading {options.items:,} items")
        url, notes = asyncio.run(_prepare(server, options.items))
        missing: dict[str, str] = {}
        running = list(_started(stack, options, url, cores.server, Path(folder), missing, say))
        clients = [(one.contestant, connect(one.process.url, one.token)) for one in running]
        say("collecting cursors and comparing answers")
        sample = places(clients[0][1])
        asyncio.run(_keep_places(url, sample))
        answers = check_equal(clients, sample)
        run = Run(options, Load(server), running, answers, _pgbench_arguments(url), Path(folder))
        run.write_requests(sample)
        able = run.warm_up(missing, say)
        measurements = list(run.measure(able, say))
        machine = describe(server, cores, _parameters(options) | notes)
    titles = {one.contestant.name: one.contestant.title for one in able} | {PGBENCH: PGBENCH_TITLE}
    return Results(titles, measurements, missing, machine)


def _parameters(options: Options) -> dict[str, str]:
    connections = " and ".join(map(str, options.connections))
    return {
        "data": f"{options.items:,} items of all companies, about 3 batches each, 20 locations; 1% never copied",
        "load": f"{options.rounds} rounds of {options.seconds} s each, at {connections} connections",
    }


async def _prepare(server: EmbeddedServer, items: int) -> tuple[str, dict[str, str]]:
    url = await data.create_database(server, "shop")
    await data.load(url, items)
    made = await data.index_names(url)
    connection = await asyncpg.connect(url)
    try:
        for statement in statements("postgraphile.sql"):
            await connection.execute(statement)
    finally:
        await connection.close()
    note = "made by the benchmark for everybody: the migration makes none" if made else "made by the migration"
    return url, {"index on items (name, id)": note}


async def _keep_places(url: str, sample: Sequence[Place]) -> None:
    """For pgbench, which draws by number."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("CREATE SCHEMA bench")
        await connection.execute("CREATE TABLE bench.place (number int PRIMARY KEY, name text, id text)")
        rows = [(number, place.name, place.id) for number, place in enumerate(sample, 1)]
        await connection.copy_records_to_table("place", schema_name="bench", records=rows)
        await connection.execute("VACUUM ANALYZE bench.place")
    finally:
        await connection.close()


def _started(
    stack: ExitStack, options: Options, url: str, core: int, folder: Path, missing: dict[str, str], say: Say
) -> Iterator[Running]:
    """Everybody who can run. The service always must: all others are held against it."""
    secret = secrets.token_hex(32)
    for contestant in CONTESTANTS:
        if options.only and contestant.name not in options.only and contestant is not SERVER:
            continue
        given = Assignment(url, free_port(), secret)
        token = None
        if contestant.wants_token:
            token = issue_token(secret, role=Role.STAFF, company=None, ttl=timedelta(days=1), subject="bench")
        say(f"starting {contestant.title}")
        try:
            with _explaining(contestant):
                server = serving(
                    contestant.command(given),
                    contestant.environment(given),
                    port=given.port,
                    core=core,
                    log=folder / f"{contestant.name}.log",
                )
                process = stack.enter_context(server)
        except Missing as error:
            missing[contestant.title] = error.message
            say(f"missing: {error.message}")
            continue
        yield Running(contestant, process, token)


@contextmanager
def _explaining(contestant: Contestant) -> Iterator[None]:
    """Whoever cannot do it is missing; but for ourselves, that is the end."""
    try:
        yield
    except BenchError as error:
        if contestant is SERVER:
            raise BenchError(f"{contestant.title}: {error.message}") from error
        raise Missing(error.message) from error


def _pgbench_arguments(url: str) -> list[str]:
    parsed = DatabaseUrl.parse(url)
    ((host, port),) = parsed.hosts
    return ["--host", str(host), "--port", str(port), "--username", parsed.user or "", parsed.database or ""]


@dataclass(frozen=True)
class Run:
    options: Options
    load: Load
    running: Sequence[Running]
    answers: dict[tuple[str, Operation], Answers]
    pgbench: Sequence[str]
    folder: Path

    def file(self, contestant: Contestant, operation: Operation) -> Path:
        return self.folder / f"{contestant.name}-{operation.name}"

    def write_requests(self, sample: Sequence[Place]) -> None:
        for one in self.running:
            for operation in Operation:
                requests = (one.contestant.dialect.request(operation, place) for place in sample)
                write_requests(self.file(one.contestant, operation), requests, one.token)

    def seconds(self, one: Running, operation: Operation, connections: int) -> int:
        """How long a measurement must be for about one answer a connection at least."""
        alone = self.answers[one.contestant.name, operation].seconds
        return max(self.options.seconds, math.ceil(alone * connections * SLACK))

    def too_slow(self, one: Running, operation: Operation, connections: int) -> bool:
        return self.seconds(one, operation, connections) > self.options.seconds * LONGEST

    def warm_up(self, missing: dict[str, str], say: Say) -> list[Running]:
        """Those who bear the load; why others, or some of what they would be asked, are missing."""
        able = []
        for one in self.running:
            title = one.contestant.title
            say(f"warming up {title}")
            try:
                with _explaining(one.contestant):
                    for operation, connections in self.cells():
                        if self._warm(one, operation, connections) is None:
                            alone = self.answers[one.contestant.name, operation].seconds
                            missing[f"{title}, {operation.value}, {connections} connections"] = (
                                f"too slow for measurements of {self.options.seconds} s, as an answer alone takes"
                                f" {alone:.1f} s; give more --seconds"
                            )
            except Missing as error:
                missing[title] = error.message
                say(f"missing: {error.message}")
            else:
                able.append(one)
        return able

    def _warm(self, one: Running, operation: Operation, connections: int) -> Measurement | None:
        return None if self.too_slow(one, operation, connections) else self._wrk(one, operation, connections, seed=0)

    def measure(self, running: Sequence[Running], say: Say) -> Iterator[Measurement]:
        order = random.Random(0)  # noqa: S311 - turns, the same in every run
        for number in range(1, self.options.rounds + 1):
            for operation, connections in self.cells():
                say(f"round {number} of {self.options.rounds}: {operation.value}, {connections} connections")
                turns: list[Running | None] = [*running, None]  # None: pgbench
                order.shuffle(turns)
                for turn in turns:
                    if turn is None:
                        yield self.load.pgbench(
                            PGBENCH, operation, self.pgbench, connections=connections, seconds=self.options.seconds
                        )
                    elif not self.too_slow(turn, operation, connections) and (
                        measured := self._wrk(turn, operation, connections, seed=number)
                    ):
                        yield measured

    def cells(self) -> Iterator[Column]:
        return itertools.product(Operation, self.options.connections)

    def _wrk(self, one: Running, operation: Operation, connections: int, *, seed: int) -> Measurement | None:
        return self.load.wrk(
            one.contestant.name,
            one.process,
            operation,
            self.file(one.contestant, operation),
            connections=connections,
            seconds=self.seconds(one, operation, connections),
            seed=seed,
            answer_bytes=self.answers[one.contestant.name, operation].bytes,
        )
