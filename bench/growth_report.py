"""GROWTH.md: a row for each thing that is asked, a column for each size of the shop."""

from collections.abc import Iterable, Sequence

from bench.growth import PATIENT_SECONDS, Cost, Growth
from bench.growth_cases import Case
from bench.report import NONE, number, table
from service.settings import Settings

MOST = 1.5  # the largest shop's buffers may be so many times the smallest's: an index gets a level or two deeper


def render_growth(growth: Growth) -> str:
    preface = (
        "Written by `python -m bench --growth`; [README.md](README.md) says how it measures. Shared buffers of a"
        " request's statements (EXPLAIN with ANALYZE and BUFFERS), which are the same on every machine, and the median"
        " time of its answer in ms, which is not. Factors are of the largest shop against the smallest. The service is"
        f" given {PATIENT_SECONDS} s for a statement: by default it refuses what takes it more than"
        f" {Settings.model_fields['statement_timeout_ms'].default / 1e3:.0f} s."
    )
    failures = sorted({cost.failed for cost in growth.costs.values() if cost.failed})
    counts = sorted({cost.statements for cost in growth.costs.values() if not cost.failed})
    parts = [
        "# Growth",
        preface,
        "\n".join(f"- {name}: {value}" for name, value in growth.machine.items()),
        "## Goals",
        table(["goal", "wanted", "measured, where it was worst", ""], _goals(growth)),
        f"Statements in a request: {', '.join(map(str, counts))}.",
        "## What must not grow: pages by NAME and CREATED_AT, and an item",
        _grid(growth, steady=True),
        "## What may grow: pages by TOTAL_QUANTITY, filtered pages, and sums over all items",
        _grid(growth, steady=False),
    ]
    if failures:
        parts += ["## Failed", "\n".join(f"- {failure}" for failure in failures)]
    return "\n\n".join(parts) + "\n"


def _goals(growth: Growth) -> Iterable[Sequence[str]]:
    name = "shared buffers of what must not grow, largest shop against smallest"
    factors = [_factor([cost.buffers for cost in costs]) for case, costs in _rows(growth) if case.steady]
    if any(cost.failed for case, costs in _rows(growth) if case.steady for cost in costs):
        yield name, f"at most {MOST}", "failed", "missed"
        return
    worst = max((factor for factor in factors if factor is not None), default=None)
    verdict = "not measured" if worst is None else "met" if worst <= MOST else "missed"
    yield name, f"at most {MOST}", number(worst, 2), verdict


def _rows(growth: Growth) -> Iterable[tuple[Case, Sequence[Cost]]]:
    for case in dict.fromkeys(case for case, _ in growth.costs):
        yield case, [growth.costs[case, size] for size in growth.sizes]


def _grid(growth: Growth, *, steady: bool) -> str:
    head = ["buffers / ms", *(f"{size:,} items" for size in growth.sizes), "factor"]
    return table(head, (_row(case, costs) for case, costs in _rows(growth) if case.steady is steady))


def _row(case: Case, costs: Sequence[Cost]) -> Sequence[str]:
    title = f"{case.title}, {case.at.value}" if case.at else case.title
    cells = ("failed" if cost.failed else f"{cost.buffers:,} / {cost.ms:,.2f}" for cost in costs)
    if any(cost.failed for cost in costs):
        return [title, *cells, NONE]
    factors = _factor([cost.buffers for cost in costs]), _factor([cost.ms for cost in costs])
    return [title, *cells, " / ".join(number(factor, 1) for factor in factors)]


def _factor(values: Sequence[float]) -> float | None:
    return values[-1] / values[0] if len(values) > 1 and values[0] else None
