"""One online copy as it was seen from outside: when its driver was where, what was written, and what it cost."""

import asyncio
import itertools
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO, Any

import asyncpg
import orjson

from bench.contestants import ROOT
from bench.errors import BenchError
from bench.processes import plain_environment, postgres_cpu_seconds
from db.embedded import EmbeddedServer

JUDGED = ("expand", "copy", "sweep", "keys")
"""The phases that end where the floor does: rows, validated keys, an index on itemId."""
BESIDE = ("plan", "indexes", "verify")
TENTHS = 10


@dataclass(frozen=True)
class Meter:
    """What the server has written (bytes of log) and worked (CPU seconds) since it was started."""

    written: int
    cpu: float

    def since(self, before: "Meter") -> "Meter":
        return Meter(self.written - before.written, self.cpu - before.cpu)

    def plus(self, other: "Meter") -> "Meter":
        return Meter(self.written + other.written, self.cpu + other.cpu)


async def read_meter(server: EmbeddedServer, connection: "asyncpg.Connection[Any]") -> Meter:
    written = await connection.fetchval("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint")
    return Meter(written, postgres_cpu_seconds(server.data_dir))


@dataclass(frozen=True)
class Event:
    """What the driver told: `at` in seconds of the epoch, `done` items in all, its own memory in MB."""

    at: float
    phase: str
    done: int
    resident_mb: float
    waiting: str | None = None


@dataclass(frozen=True)
class Span:
    """A phase, from one time to another, and what the server did meanwhile."""

    phase: str
    start: float
    end: float
    cost: Meter

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass(frozen=True)
class CopyRun:
    """`events` are all that was told, `spans` the phases one behind the other, from before the plan to the end."""

    events: Sequence[Event]
    spans: Sequence[Span]
    copied: int

    def seconds(self, *phases: str) -> float:
        return sum(span.seconds for span in self.spans if span.phase in phases)

    def cost(self, *phases: str) -> Meter:
        total = Meter(0, 0.0)
        for span in self.spans:
            if span.phase in phases:
                total = total.plus(span.cost)
        return total

    @property
    def _copying(self) -> list[Event]:
        return [event for event in self.events if event.phase == "copy"]

    def rates(self) -> list[float]:
        """Items a second in each tenth of the copy, by items."""
        copying = self._copying
        first, last = copying[0], copying[-1]
        bounds = [first.done + (last.done - first.done) * part / TENTHS for part in range(TENTHS + 1)]
        times = [_time_of(copying, bound) for bound in bounds]
        return [
            (more - less) / max(end - start, 1e-6)
            for (less, more), (start, end) in zip(itertools.pairwise(bounds), itertools.pairwise(times), strict=True)
        ]

    def longest_chunk(self) -> tuple[float, int]:
        """In seconds, all round trips of it included, and in items."""
        chunks = [
            (after.at - before.at, after.done - before.done)
            for before, after in itertools.pairwise(self._copying)
            if after.done > before.done
        ]
        return max(chunks)

    @property
    def memory(self) -> tuple[float, float, float]:
        """Of the driver, in MB: after the first tenth of the copy, the most from then on, and at the end."""
        copying = self._copying
        tenth = next(event for event in copying if event.done * TENTHS >= copying[-1].done)
        since = [event.resident_mb for event in self.events if event.at >= tenth.at]
        return tenth.resident_mb, max(since), since[-1]


def _time_of(copying: Sequence[Event], done: float) -> float:
    """When so many items were copied, as if those of a chunk were copied one by one."""
    for before, after in itertools.pairwise(copying):
        if after.done > before.done and after.done >= done:
            return before.at + (after.at - before.at) * max(0.0, done - before.done) / (after.done - before.done)
    return copying[-1].at


def phase_of(stage: str, waiting: str | None) -> str:
    """A driver's stage; but where it makes keys valid and then indexes, each is a phase."""
    if stage == "keys" and waiting is not None and not waiting.startswith("key "):
        return "indexes"
    return stage


async def run_copy(server: EmbeddedServer, url: str, *throttle: str) -> CopyRun:
    """Migrates the database online. BenchError: it failed, or did not end with everything copied and verified."""
    connection = await asyncpg.connect(url, server_settings={"application_name": "bench meter"})
    with TemporaryFile() as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bench.copy_driver",
            url,
            *throttle,
            cwd=ROOT,
            env=plain_environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
        )
        try:
            return await follow(process, errors, lambda: read_meter(server, connection))
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            await connection.close()


async def follow(
    process: asyncio.subprocess.Process, errors: IO[bytes], meter: Callable[[], Awaitable[Meter]]
) -> CopyRun:
    """What a driver tells, to its end; `errors` is what it says besides. BenchError as `run_copy`."""
    assert process.stdout is not None  # noqa: S101 - it is a pipe, as asked for
    events: list[Event] = []
    marks: list[tuple[Event, Meter]] = []
    async for line in process.stdout:
        told = orjson.loads(line)
        if "outcome" in told:
            end = Event(told["at"], "end", told["outcome"]["copied"], told["resident_mb"])
            marks.append((end, await meter()))
            await process.wait()
            return _ended([*events, end], marks, told["outcome"])
        phase = phase_of(told["stage"], told["waiting"])
        events.append(Event(told["at"], phase, told["done"], told["resident_mb"], told["waiting"]))
        if not marks or marks[-1][0].phase != phase:
            marks.append((events[-1], await meter()))
    await process.wait()
    errors.seek(0)
    said = errors.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
    raise BenchError(f"the online copy ended with {process.returncode}: {said[-1]}")


def _ended(events: Sequence[Event], marks: Sequence[tuple[Event, Meter]], outcome: dict[str, Any]) -> CopyRun:
    if outcome["state"] != "FINISHED" or outcome["mismatched"] or outcome["held_back"]:
        raise BenchError(f"the online copy did not end as it must: {outcome}")
    spans = [
        Span(event.phase, event.at, after.at, later.since(now))
        for (event, now), (after, later) in itertools.pairwise(marks)
    ]
    return CopyRun(events, spans, outcome["copied"])
