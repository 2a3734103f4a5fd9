"""The measuring of part one: rounds in which everybody is asked for everything, in shuffled order."""

import itertools
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.client import Answers
from bench.contestants import SERVER, Contestant
from bench.errors import BenchError
from bench.load import Load, Measurement, write_requests
from bench.operations import Operation, Place
from bench.processes import Process
from bench.results import Column
from bench.variations import Variation

PGBENCH, PGBENCH_TITLE = "pgbench", "floor: pgbench, the SQL alone"
SLACK = 1.5
LONGEST = 15  # times as long as other measurements may one be
WARM_SECONDS = 2
Say = Callable[[str], None]


@dataclass(frozen=True)
class Running:
    contestant: Contestant
    process: Process
    token: str | None


@dataclass(frozen=True)
class Rounds:
    """`left_out` gets, in the course of measuring, what could not be measured, and why.

    Whoever fails a request is not measured in that column at all: a server is not fast at what it fails.
    """

    rounds: int
    seconds: int
    connections: Sequence[int]
    load: Load
    running: Sequence[Running]
    answers: Mapping[tuple[str, Operation], Answers]
    pgbench: Sequence[str]
    folder: Path
    left_out: dict[tuple[str, Column], str] = field(default_factory=dict)

    @property
    def columns(self) -> list[Column]:
        return list(itertools.product(Operation, self.connections))

    def minutes(self, variations: int) -> float:
        """How long warming up and measuring will take, about."""
        lengths = [
            self._seconds(one, column) for one in self.running for column in self.columns if not self._slow(one, column)
        ]
        once = sum(lengths) + self.seconds * (len(self.columns) + variations)
        return (self.rounds * once + WARM_SECONDS * len(lengths)) / 60

    def write_requests(self, sample: Sequence[Place]) -> None:
        for one in self.running:
            for operation in Operation:
                requests = (one.contestant.dialect.request(operation, place) for place in sample)
                write_requests(self._file(one.contestant, operation), requests, one.token)

    def warm_up(self, say: Say) -> None:
        """Finds out as well who does not bear the load."""
        for one in self.running:
            say(f"warming up {one.contestant.title}")
            for column in self.columns:
                if self._slow(one, column):
                    alone = self.answers[one.contestant.name, column[0]].seconds
                    self.left_out[one.contestant.name, column] = (
                        f"too slow for measurements of {self.seconds} s, as an answer alone takes {alone:.1f} s; give"
                        " more --seconds"
                    )
                else:
                    self._measured(one, column, seconds=WARM_SECONDS, seed=0)

    def measure(self, variations: Sequence[Variation], company_token: str, say: Say) -> list[Measurement]:
        """Of everybody, and of the service in its variations: under their titles, at the fewest connections."""
        files = {one.title: self.folder / f"variation-{number}" for number, one in enumerate(variations)}
        service = next(one for one in self.running if one.contestant is SERVER)
        for variation in variations:
            granted = company_token if variation.of_company else service.token
            write_requests(files[variation.title], variation.requests, granted)
        found: list[Measurement] = []
        order = random.Random(0)  # noqa: S311 - turns, the same in every run
        for number in range(1, self.rounds + 1):
            for column in self.columns:
                say(f"round {number} of {self.rounds}: {column[0].value}, {column[1]} connections")
                turns: list[Running | None] = [*self.running, None]  # None: pgbench
                order.shuffle(turns)
                for turn in turns:
                    found += self._pgbench(column) if turn is None else self._measured(turn, column, seed=number)
            say(f"round {number} of {self.rounds}: variations")
            for variation in order.sample(variations, len(variations)):
                column = (variation.operation, min(self.connections))
                found += self._wrk(
                    variation.title, service.process, column, files[variation.title], self.seconds, seed=number
                )
        return [one for one in found if (one.contestant, (one.operation, one.connections)) not in self.left_out]

    def _file(self, contestant: Contestant, operation: Operation) -> Path:
        return self.folder / f"{contestant.name}-{operation.name}"

    def _seconds(self, one: Running, column: Column, seconds: int | None = None) -> int:
        """How long a measurement must be for about one answer a connection at least."""
        operation, connections = column
        alone = self.answers[one.contestant.name, operation].seconds
        return max(seconds or self.seconds, math.ceil(alone * connections * SLACK))

    def _slow(self, one: Running, column: Column) -> bool:
        return self._seconds(one, column) > self.seconds * LONGEST

    def _measured(self, one: Running, column: Column, *, seed: int, seconds: int | None = None) -> list[Measurement]:
        file = self._file(one.contestant, column[0])
        return self._wrk(one.contestant.name, one.process, column, file, self._seconds(one, column, seconds), seed=seed)

    def _wrk(
        self, name: str, process: Process, column: Column, file: Path, seconds: int, *, seed: int
    ) -> list[Measurement]:
        """One, or none when it failed, now or before."""
        if (name, column) in self.left_out:
            return []
        operation, connections = column
        try:
            return [self.load.wrk(name, process, operation, file, connections=connections, seconds=seconds, seed=seed)]
        except BenchError as error:
            self.left_out[name, column] = error.message
            return []

    def _pgbench(self, column: Column) -> list[Measurement]:
        operation, connections = column
        return [self.load.pgbench(PGBENCH, operation, self.pgbench, connections=connections, seconds=self.seconds)]
