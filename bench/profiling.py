"""Part four: where the time of a request goes, between PostgreSQL and Python and among Python's functions.

The costs are measured first and without a profiler, which makes every call dearer; the profile only says which
functions are worth a look. PROFILE.md has both.
"""

import asyncio
import os
import pstats
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bench import data
from bench.client import drawn, listing
from bench.contestants import ROOT, SERVER, Assignment
from bench.errors import BenchError
from bench.load import Load, Measurement, write_requests, wrk
from bench.machine import describe
from bench.operations import SERVICE, Operation
from bench.processes import Cores, program
from bench.report import number, table
from bench.service import service

OPERATIONS = (Operation.PAGE_50, Operation.ITEM)
CONNECTIONS = 8
TOP = 25
WAIT_SECONDS = 30


@dataclass(frozen=True)
class Spent:
    """By one function itself, in µs of a request, and calls of it in a request."""

    function: str
    own_us: float
    calls: float


@dataclass(frozen=True)
class Profile:
    """`cost` was measured without the profiler, `functions` with it, dearest first."""

    cost: Measurement
    functions: Sequence[Spent]
    total_us: float


def profile(items: int, seconds: int, say: Callable[[str], None]) -> str:
    """The report. BenchError: a request failed."""
    cores = Cores.choose()
    program("wrk", "wrk")
    os.sched_setaffinity(0, {cores.database})
    profiles: list[Profile] = []
    with data.server() as server, TemporaryDirectory(prefix="stockshift-bench-") as folder:
        say(f"loading {items:,} items")
        url = asyncio.run(data.create_database(server, "shop"))
        asyncio.run(data.load(url, items))
        asyncio.run(data.index_names(url))
        out, file = Path(folder) / "profile", Path(folder) / "requests"

        def command(given: Assignment) -> list[str]:
            return [sys.executable, "-m", "bench.profiled", str(out), "serve", "--port", str(given.port)]

        with service(url, cores.server, command) as running:
            sample = drawn(listing(running.client))
            for operation in OPERATIONS:
                say(f"profiling {operation.value}")
                write_requests(file, (SERVICE.request(operation, place) for place in sample), running.token)
                load = Load(server).wrk
                for seed in (0, 1):  # the first to warm up
                    cost = load(
                        SERVER.name,
                        running.process,
                        operation,
                        file,
                        connections=CONNECTIONS,
                        seconds=seconds,
                        seed=seed,
                    )
                os.kill(running.process.pid, signal.SIGUSR1)
                pressed = wrk(running.process, file, connections=CONNECTIONS, seconds=seconds, seed=2)
                os.kill(running.process.pid, signal.SIGUSR2)
                profiles.append(_read(awaited(out), pressed.requests, cost))
        machine = describe(server, cores, {"data": f"{items:,} items of all companies, about 3 batches each"})
    return render_profiles(profiles, machine)


def awaited(file: Path) -> Path:
    deadline = time.monotonic() + WAIT_SECONDS
    while not file.exists():
        if time.monotonic() > deadline:
            raise BenchError(f"the service left no profile within {WAIT_SECONDS} s")
        time.sleep(0.1)
    return file


def _read(file: Path, requests: int, cost: Measurement) -> Profile:
    stats = pstats.Stats(str(file)).stats  # type: ignore[attr-defined]  # typeshed leaves it out
    file.unlink()
    spent = [
        Spent(_name(*where), own / requests * 1e6, calls / requests) for where, (_, calls, own, _, _) in stats.items()
    ]
    spent.sort(key=lambda one: -one.own_us)
    return Profile(cost, spent[:TOP], sum(one.own_us for one in spent))


def _name(path: str, line: int, function: str) -> str:
    """As short as it can be found by: a module's path in its package, or a built-in's name."""
    if path == "~":
        return function.strip("<>")
    short = path.removeprefix(f"{ROOT}{os.sep}").rpartition("site-packages/")[2].rpartition("python3.")[2]
    return f"{short}:{line} {function}"


def render_profiles(profiles: Iterable[Profile], machine: dict[str, str]) -> str:
    preface = (
        "Written by `python -m bench --profile`; [README.md](README.md) says how it measures. Costs are measured"
        " without the profiler. That makes calls dearer than they are: own times say where to look."
    )
    parts = ["# Profile", preface, "\n".join(f"- {name}: {value}" for name, value in machine.items())]
    for one in profiles:
        cost = one.cost
        server, database = cost.server_cpu_ms or 0.0, cost.database_cpu_ms
        split = (
            f"{cost.per_second:,.0f} requests/s at {cost.connections} connections. CPU of a request: Python"
            f" {server:.3f} ms ({server / (server + database):.0%}), PostgreSQL {database:.3f} ms"
            f" ({database / (server + database):.0%}). Of its core Python uses {server * cost.per_second / 1e3:.0%},"
            f" PostgreSQL {database * cost.per_second / 1e3:.0%} of the one that it shares with the load generator."
        )
        parts += [
            f"## {cost.operation.value}",
            split,
            table(["function", "own time, µs a request", "share", "calls a request"], _rows(one)),
        ]
    return "\n\n".join(parts) + "\n"


def _rows(one: Profile) -> Iterable[Sequence[str]]:
    for spent in one.functions:
        function = spent.function.replace("|", "\\|")
        yield f"`{function}`", number(spent.own_us, 1), f"{spent.own_us / one.total_us:.0%}", number(spent.calls, 1)
