"""What was measured, and the questions that reports ask of it."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from bench.load import Measurement
from bench.operations import Operation

Pick: TypeAlias = Callable[[Measurement], float | None]
Column: TypeAlias = tuple[Operation, int]
"""An operation at a number of connections."""


def per_second(one: Measurement) -> float:
    return one.per_second


def p50(one: Measurement) -> float:
    return one.p50_ms


def p99(one: Measurement) -> float:
    return one.p99_ms


def server_cpu(one: Measurement) -> float | None:
    return one.server_cpu_ms


def database_cpu(one: Measurement) -> float:
    return one.database_cpu_ms


@dataclass(frozen=True)
class Results:
    """Measurements in the order they were made in. `titles` is in the order of rows; `missing` says why who is not in.

    `variations` are what else the service was asked: measurements have their titles in the place of a contestant.
    `service`, `floor` and `rival` are the contestants that goals are about.
    """

    titles: Mapping[str, str]
    measurements: Sequence[Measurement]
    missing: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)
    variations: Mapping[str, Operation] = field(default_factory=dict)
    service: str = "service"
    floor: str = "floor"
    rival: str = "postgraphile-tuned"

    @property
    def columns(self) -> list[Column]:
        measured = {(one.operation, one.connections) for one in self.measurements}
        counts = sorted({count for _, count in measured})
        return [(operation, count) for operation in Operation for count in counts if (operation, count) in measured]

    def varied(self, operation: Operation) -> Column:
        """Where variations of an operation were measured."""
        return operation, min(count for _, count in self.columns)

    @property
    def complete(self) -> bool:
        """The service was measured wherever anybody was."""
        return all(self.median(self.service, column, per_second) is not None for column in self.columns)

    def median(self, contestant: str, column: Column, pick: Pick) -> float | None:
        """Over the rounds; None where it was not measured."""
        found = [
            value
            for one in self.measurements
            if (one.contestant, (one.operation, one.connections)) == (contestant, column)
            and (value := pick(one)) is not None
        ]
        return statistics.median(found) if found else None

    def ratio(self, contestant: str, against: str, column: Column, pick: Pick = per_second) -> float | None:
        mine, theirs = self.median(contestant, column, pick), self.median(against, column, pick)
        return mine / theirs if mine is not None and theirs else None

    def memory(self, contestant: str) -> tuple[float | None, float | None]:
        """MB after warming up, and at the end."""
        own = [one for one in self.measurements if one.contestant == contestant]
        return (own[0].start_mb, own[-1].end_mb) if own else (None, None)
