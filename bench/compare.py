"""Part one: everybody beside everybody, in interleaved rounds, so that the machine's moods meet all alike."""

import asyncio
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg

from bench import data
from bench.client import around, check_equal, connect, drawn, listing
from bench.contestants import CONTESTANTS, SERVER, Assignment, Contestant
from bench.errors import BenchError, Missing
from bench.load import Load
from bench.machine import describe
from bench.operations import Place
from bench.processes import Cores, free_port, program, serving
from bench.results import Results
from bench.rounds import PGBENCH, PGBENCH_TITLE, Rounds, Running
from bench.service import token
from bench.sql import statements
from bench.variations import COMPANY, variations
from db.embedded import EmbeddedServer
from db.url import DatabaseUrl

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    items: int
    rounds: int
    seconds: int
    connections: Sequence[int]
    only: Sequence[str] = ()


def compare(options: Options, say: Say) -> Results:
    """Loads the data, starts everybody, measures, stops everybody."""
    cores = Cores.choose()
    program("wrk", "wrk")  # before a minute of loading, not after it
    os.sched_setaffinity(0, {cores.database})  # PostgreSQL and the load generators inherit it
    with data.server() as server, TemporaryDirectory(prefix="stockshift-bench-") as folder, ExitStack() as stack:
        say(f"loading {options.items:,} items")
        url, notes = asyncio.run(_prepare(server, options.items))
        secret = secrets.token_hex(32)
        missing: dict[str, str] = {}
        running = list(_started(stack, options, Common(url, secret, cores.server, Path(folder)), missing, say))
        say("collecting cursors and comparing answers")
        clients = [(one.contestant, connect(one.process.url, one.token)) for one in running]
        (_, everything), *_ = clients
        every = listing(everything)
        sample = drawn(every)
        asyncio.run(_keep_places(url, sample))
        answers = check_equal(clients, sample, around(every, asyncio.run(data.odd_items(url))))
        company_token = token(secret, COMPANY)
        varied = list(variations(everything, connect(running[0].process.url, company_token), sample))
        rounds = Rounds(
            options.rounds,
            options.seconds,
            options.connections,
            Load(server),
            running,
            answers,
            _pgbench_arguments(url),
            Path(folder),
        )
        rounds.write_requests(sample)
        say(f"measuring will take about {rounds.minutes(len(varied)):.0f} minutes")
        rounds.warm_up(say)
        measurements = rounds.measure(varied, company_token, say)
        machine = describe(server, cores, _parameters(options) | notes)
    titles = {one.contestant.name: one.contestant.title for one in running} | {PGBENCH: PGBENCH_TITLE}
    for (name, (operation, connections)), reason in rounds.left_out.items():
        missing[f"{titles.get(name, name)}, {operation.value}, {connections} connections"] = reason
    return Results(titles, measurements, missing, machine, {one.title: one.operation for one in varied})


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


@dataclass(frozen=True)
class Common:
    """What all servers are given, and where their logs go."""

    url: str
    secret: str
    core: int
    folder: Path


def _started(
    stack: ExitStack, options: Options, common: Common, missing: dict[str, str], say: Say
) -> Iterator[Running]:
    """Everybody who can run. The service always must: all others are held against it."""
    for contestant in CONTESTANTS:
        if options.only and contestant.name not in options.only and contestant is not SERVER:
            continue
        given = Assignment(common.url, free_port(), common.secret)
        say(f"starting {contestant.title}")
        try:
            with _explaining(contestant):
                server = serving(
                    contestant.command(given),
                    contestant.environment(given),
                    port=given.port,
                    core=common.core,
                    log=common.folder / f"{contestant.name}.log",
                )
                process = stack.enter_context(server)
        except Missing as error:
            missing[contestant.title] = error.message
            say(f"missing: {error.message}")
            continue
        yield Running(contestant, process, token(common.secret) if contestant.wants_token else None)


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
