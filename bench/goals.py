"""The goals of reading, and how far they were met where it was hardest."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from bench.operations import Operation
from bench.results import Column, Pick, Results, database_cpu, p50, p99, per_second
from bench.variations import ORDERS, first_page, last_page

BUSY = 32  # the connections at which p99 is held against p50


@dataclass(frozen=True)
class Found:
    """How far a goal was met by one of the things that it is about; None when that was not measured."""

    where: str
    number: float | None


@dataclass(frozen=True)
class Goal:
    """`found` has a number for each thing the goal is about."""

    name: str
    limit: float
    found: Callable[[Results], Iterable[Found]]
    at_least: bool = True

    def worst(self, results: Results) -> tuple[float, str] | None:
        """And where. None when it cannot be said: a goal is not met where we were too slow to be measured."""
        if not results.complete:
            return None
        numbers = [(one.number, one.where) for one in self.found(results) if one.number is not None]
        return (min if self.at_least else max)(numbers) if numbers else None

    def met(self, number: float) -> bool:
        return number >= self.limit if self.at_least else number <= self.limit


def _against(
    who: Callable[[Results], str], chosen: Callable[[Operation], bool], pick: Pick = per_second
) -> Callable[[Results], Iterator[Found]]:
    """The service against somebody, wherever an operation was measured."""

    def found(results: Results) -> Iterator[Found]:
        for column in results.columns:
            if chosen(column[0]):
                yield Found(_where(column), results.ratio(results.service, who(results), column, pick))

    return found


def _where(column: Column) -> str:
    return f"{column[0].value}, {column[1]} connections"


def _depth(results: Results) -> Iterator[Found]:
    for order in ORDERS:
        column = results.varied(Operation.PAGE_50)
        yield Found(f"by {order}", results.ratio(first_page(order), last_page(order), column))


def _spread(results: Results) -> Iterator[Found]:
    for column in results.columns:
        middle, high = (results.median(results.service, column, pick) for pick in (p50, p99))
        if column[1] == BUSY and middle and high is not None:
            yield Found(_where(column), high / middle)


def _memory(results: Results) -> Iterator[Found]:
    start, end = results.memory(results.service)
    if start and end is not None:
        yield Found("", end / start)


def _floor(results: Results) -> str:
    return results.floor


def _rival(results: Results) -> str:
    return results.rival


def _any(_: Operation) -> bool:
    return True


GOALS = (
    Goal("a page, against the floor", 1.0, _against(_floor, lambda operation: operation is not Operation.ITEM)),
    Goal("one item, against the floor", 0.8, _against(_floor, lambda operation: operation is Operation.ITEM)),
    Goal("everything, against PostGraphile with hand-tuned SQL", 1.5, _against(_rival, _any)),
    Goal(
        "PostgreSQL's CPU per request, against the floor's", 1.0, _against(_floor, _any, database_cpu), at_least=False
    ),
    Goal("requests/s of the first page, against the last page", 1.2, _depth, at_least=False),
    Goal(f"p99 at {BUSY} connections, against p50", 3.0, _spread, at_least=False),
    Goal("memory at the end, against after warming up", 1.1, _memory, at_least=False),
)
