"""GROWTH.md: a row for each page, a column for each size of the shop."""

from collections.abc import Iterable, Sequence

from bench.growth import Growth
from bench.growth_cases import Case
from bench.report import NONE, number, table


def render_growth(growth: Growth) -> str:
    preface = (
        "Written by `python -m bench --growth`; [README.md](README.md) says how it measures. Shared buffers of a page's"
        " statements (EXPLAIN with ANALYZE and BUFFERS), which are the same on every machine, and the median time of"
        " its answer, which is not. A cost that does not grow has a factor near 1."
    )
    failures = sorted({cost.failed for cost in growth.costs.values() if cost.failed})
    parts = [
        "# Growth",
        preface,
        "\n".join(f"- {name}: {value}" for name, value in growth.machine.items()),
        "## Shared buffers of a page of 50",
        table(["page", *(f"{size:,} items" for size in growth.sizes), "factor"], _buffers(growth)),
        "## Time of a page of 50, ms",
        table(["page", *(f"{size:,} items" for size in growth.sizes), "factor"], _times(growth)),
    ]
    counts = sorted({cost.statements for cost in growth.costs.values() if not cost.failed})
    parts.append(f"Statements in a request: {', '.join(map(str, counts))}.")
    if failures:
        parts += ["## Failed", "\n".join(f"- {failure}" for failure in failures)]
    return "\n\n".join(parts) + "\n"


def _rows(growth: Growth) -> Iterable[Case]:
    return dict.fromkeys(case for case, _ in growth.costs)


def _buffers(growth: Growth) -> Iterable[Sequence[str]]:
    for case in _rows(growth):
        costs = [growth.costs[case, size] for size in growth.sizes]
        values = [None if cost.failed else float(cost.buffers) for cost in costs]
        yield [_title(case), *(_cell(value, 0) for value in values), _factor(values)]


def _times(growth: Growth) -> Iterable[Sequence[str]]:
    for case in _rows(growth):
        costs = [growth.costs[case, size] for size in growth.sizes]
        values = [None if cost.failed else cost.ms for cost in costs]
        yield [_title(case), *(_cell(value, 2) for value in values), _factor(values)]


def _title(case: Case) -> str:
    return f"{case.title}, {case.at.value}"


def _cell(value: float | None, digits: int) -> str:
    return "failed" if value is None else number(value, digits)


def _factor(values: Sequence[float | None]) -> str:
    first, last = values[0], values[-1]
    return NONE if not first or last is None else number(last / first, 1)
