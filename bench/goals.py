"""The goals of reading, and how far they were met where it was hardest."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from bench.operations import Operation
from bench.results import Column, Results, database_cpu, p50, p99
from bench.variations import ORDERS, first_page, last_page

BUSY = 32  # the connections at which p99 is held against p50


@dataclass(frozen=True)
class Goal:
    """`found` has a number for each thing the goal is about, None for one that was not measured."""

    name: str
    limit: float
    found: Callable[[Results], Iterable[float | None]]
    at_least: bool = True

    def worst(self, results: Results) -> float | None:
        """None when it cannot be said: a goal is not met where we were too slow to be measured."""
        if not results.complete:
            return None
        numbers = [number for number in self.found(results) if number is not None]
        return (min if self.at_least else max)(numbers) if numbers else None

    def met(self, number: float) -> bool:
        return number >= self.limit if self.at_least else number <= self.limit


def _columns(results: Results, chosen: Callable[[Operation], bool]) -> Iterator[Column]:
    return (column for column in results.columns if chosen(column[0]))


def _pages(results: Results) -> Iterator[float | None]:
    for column in _columns(results, lambda operation: operation is not Operation.ITEM):
        yield results.ratio(results.service, results.floor, column)


def _one_item(results: Results) -> Iterator[float | None]:
    for column in _columns(results, lambda operation: operation is Operation.ITEM):
        yield results.ratio(results.service, results.floor, column)


def _rival(results: Results) -> Iterator[float | None]:
    for column in results.columns:
        yield results.ratio(results.service, results.rival, column)


def _database_cpu(results: Results) -> Iterator[float | None]:
    for column in results.columns:
        yield results.ratio(results.service, results.floor, column, database_cpu)


def _depth(results: Results) -> Iterator[float | None]:
    for order in ORDERS:
        yield results.ratio(first_page(order), last_page(order), results.varied(Operation.PAGE_50))


def _spread(results: Results) -> Iterator[float | None]:
    for column in results.columns:
        middle, high = (results.median(results.service, column, pick) for pick in (p50, p99))
        if column[1] == BUSY and middle and high is not None:
            yield high / middle


def _memory(results: Results) -> Iterator[float | None]:
    start, end = results.memory(results.service)
    if start and end is not None:
        yield end / start


GOALS = (
    Goal("a page, against the floor", 1.0, _pages),
    Goal("one item, against the floor", 0.8, _one_item),
    Goal("everything, against PostGraphile with hand-tuned SQL", 1.5, _rival),
    Goal("PostgreSQL's CPU per request, against the floor's", 1.0, _database_cpu, at_least=False),
    Goal("requests/s of the first page, against the last page", 1.2, _depth, at_least=False),
    Goal(f"p99 at {BUSY} connections, against p50", 3.0, _spread, at_least=False),
    Goal("memory at the end, against after warming up", 1.1, _memory, at_least=False),
)
