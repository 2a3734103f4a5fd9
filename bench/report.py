"""RESULTS.md: ratios first, for they carry over to other machines; absolute numbers belong to the one they name."""

from collections.abc import Callable, Iterable, Sequence

from bench.goals import GOALS
from bench.results import Column, Pick, Results, database_cpu, p50, p99, per_second, server_cpu

NONE = "-"


def render(results: Results) -> str:
    preface = (
        "Written by `make bench`; [README.md](README.md) says how it measures. Medians over the rounds. Compare ratios:"
        " absolute numbers are this machine's, and of that hour."
    )
    parts = [
        "# Results",
        preface,
        "\n".join(f"- {name}: {value}" for name, value in results.machine.items()),
        "## Goals",
        _goals(results),
        "## Requests/s, against the floor",
        _grid(results, lambda name, column: number(results.ratio(name, results.floor, column), 2)),
        "## Requests/s, against PostGraphile with hand-tuned SQL",
        _grid(results, lambda name, column: number(results.ratio(name, results.rival, column), 2)),
        "## Requests/s",
        _grid(results, lambda name, column: number(results.median(name, column, per_second), 0)),
        "## Latency: p50 / p99, ms",
        _grid(results, lambda name, column: _pair(results, name, column, p50, p99)),
        "## CPU per request: server / PostgreSQL, ms",
        _grid(results, lambda name, column: _pair(results, name, column, server_cpu, database_cpu)),
        "## Memory of the server, MB",
        _memory(results),
        "## The service elsewhere",
        "Both ends of the list, a filter, and a token of one company, beside random places and all companies.",
        _variations(results),
    ]
    if results.missing:
        parts += ["## Not measured", "\n".join(f"- {who}: {why}" for who, why in results.missing.items())]
    return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:,.{digits}f}"


def _goals(results: Results) -> str:
    def rows() -> Iterable[Sequence[str]]:
        for goal in GOALS:
            worst = goal.worst(results)
            wanted = f"{'at least' if goal.at_least else 'at most'} {goal.limit}"
            if worst is None:
                yield goal.name, wanted, NONE, "not measured"
            else:
                measured, where = worst
                yield (
                    goal.name,
                    wanted,
                    f"{number(measured, 2)} {where}".strip(),
                    "met" if goal.met(measured) else "missed",
                )

    return table(["goal", "wanted", "measured, where it was worst", ""], rows())


def _grid(results: Results, cell: Callable[[str, Column], str]) -> str:
    head = ["", *(f"{operation.value}, {connections}" for operation, connections in results.columns)]
    rows = ([title, *(cell(name, column) for column in results.columns)] for name, title in results.titles.items())
    return table(head, rows)


def _pair(results: Results, name: str, column: Column, *picks: Pick) -> str:
    return " / ".join(number(results.median(name, column, pick), 2) for pick in picks)


def _variations(results: Results) -> str:
    def rows() -> Iterable[Sequence[str]]:
        for operation in dict.fromkeys(results.variations.values()):
            column = results.varied(operation)
            names = [title for title, of in results.variations.items() if of is operation]
            for name in (results.service, *names):
                yield [
                    f"{operation.value}, random, all companies" if name == results.service else name,
                    number(results.ratio(name, results.service, column), 2),
                    number(results.median(name, column, per_second), 0),
                    _pair(results, name, column, p50, p99),
                    _pair(results, name, column, server_cpu, database_cpu),
                ]

    head = ["", "ratio", "requests/s", "p50 / p99, ms", "CPU: server / PostgreSQL, ms"]
    return table(head, rows())


def _memory(results: Results) -> str:
    spans = ((title, results.memory(name)) for name, title in results.titles.items())
    rows = ([title, number(start, 0), number(end, 0)] for title, (start, end) in spans if start is not None)
    return table(["", "after warming up", "at the end"], rows)
