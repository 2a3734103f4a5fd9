"""COPY.md: goals first, then what a copy costs, what a legacy write costs, and what the shop notices."""

import statistics
from collections.abc import Callable, Iterable, Sequence

from bench.copy_run import BESIDE, JUDGED, CopyRun
from bench.copying import BESIDE_CLIENTS, CLIENTS, Beside, Cell, Copying, Way
from bench.report import NONE, number, table
from bench.selling import Served, Write, Written

FLOOR = (
    "The floor is one INSERT ... SELECT into a table without keys, and then its keys and an index on itemId. The copy"
    " is judged by the phases that end in the same state; it has a ledger with each item's row besides."
)
RATE, PACE, MEMORY, WRITE = 0.7, 0.9, 1.1, 1.25
TITLES = {
    "plan": "plan: everything is counted and judged",
    "expand": "expand: tables, keys, indexes on batches, triggers, the flag",
    "copy": "copy",
    "sweep": "sweep",
    "keys": "validation of keys",
    "indexes": "six indexes on items, made concurrently; statistics",
    "verify": "verification",
}


def render_copying(copying: Copying) -> str:
    preface = (
        "Written by `python -m bench --copy`; [README.md](README.md) says how it measures. Medians over the rounds."
        " Compare ratios: absolute numbers are this machine's, and of that hour."
    )
    parts = [
        "# Copy",
        preface,
        "\n".join(f"- {name}: {value}" for name, value in copying.machine.items()),
        "## Goals",
        table(["goal", "wanted", "measured, where it was worst", ""], _goals(copying)),
        f"## Copying {copying.items:,} items",
        FLOOR,
        table(["", "s", "items/s", "against the floor", "log, MB", "CPU of PostgreSQL, s"], _rates(copying)),
        table(["phase", "s", "log, MB", "CPU of PostgreSQL, s", "judged"], _phases(copying)),
        table(["step of the floor", "s"], _steps(copying)),
        "### From its beginning to its end",
        table(
            ["tenth of the items", *map(str, range(1, 11))],
            [["items/s", *(number(rate, 0) for rate in _rates_of_tenths(copying))]],
        ),
        table(["", ""], _course(copying)),
        f"## A legacy write, in a shop of {copying.fewer:,} items",
        "Latency of the UPDATE and its commit, ms, and what PostgreSQL works for its transaction, ms of CPU.",
        table(["", *(way.value for way in Way), "triggers", "all"], _writes(copying)),
        f"## Selling beside a copy of {copying.fewer:,} items, at {BESIDE_CLIENTS} connections",
        "Alone, before it began, and after its end, when the triggers stay. Times are from when a sale was due, ms.",
        table(["", "", "sales/s", "p50", "p99", "longest", "copy and sweep, items/s"], _selling(copying)),
        "By phase of the copy: sales/s, p50 / p99 / longest.",
        table(["", *TITLES], _by_phase(copying)),
    ]
    return "\n\n".join(parts) + "\n"


def _goals(copying: Copying) -> Iterable[Sequence[str]]:
    def goal(name: str, limit: float, found: tuple[float, str], *, at_least: bool) -> Sequence[str]:
        measured, where = found
        met = measured >= limit if at_least else measured <= limit
        wanted = f"{'at least' if at_least else 'at most'} {limit}"
        return [name, wanted, f"{number(measured, 2)} {where}".strip(), "met" if met else "missed"]

    first, *_, last = _rates_of_tenths(copying)
    memory = _median(copying.copies, lambda run: run.memory[1] / run.memory[0])
    yield goal("items/s of the copy, against the floor", RATE, (_floor(copying) / _judged(copying), ""), at_least=True)
    yield goal("items/s of the last tenth, against the first", PACE, (last / first, ""), at_least=True)
    yield goal("the driver's memory, the most after a tenth against then", MEMORY, (memory, ""), at_least=False)
    for durable in (True, False):
        worst = max(
            (_factor(copying, Cell(Way.MIGRATED, write, clients, durable), Way.LEGACY), _where(write, clients))
            for write in Write
            for clients in CLIENTS
        )
        how = "durable" if durable else "synchronous_commit=off"
        yield goal(f"a legacy write in a migrated shop, against before; {how}", WRITE, worst, at_least=False)


def _where(write: Write, clients: int) -> str:
    return f"{write.name.lower()}, {clients} {'connection' if clients == 1 else 'connections'}"


def _median(runs: Sequence[CopyRun], pick: Callable[[CopyRun], float]) -> float:
    return statistics.median(pick(run) for run in runs)


def _judged(copying: Copying) -> float:
    return _median(copying.copies, lambda run: run.seconds(*JUDGED))


def _floor(copying: Copying) -> float:
    return statistics.median(floor.seconds for floor in copying.floors)


def _rates(copying: Copying) -> Iterable[Sequence[str]]:
    floor = _floor(copying)

    def row(title: str, seconds: float, written: float, cpu: float) -> Sequence[str]:
        rate = number(copying.items / seconds, 0)
        return [title, number(seconds, 1), rate, number(floor / seconds, 2), number(written / 1e6, 0), number(cpu, 1)]

    costs = [floor.cost for floor in copying.floors]
    yield row(
        "the floor",
        floor,
        statistics.median(cost.written for cost in costs),
        statistics.median(cost.cpu for cost in costs),
    )
    for title, phases in (("the copy, as judged", JUDGED), ("the whole migration", (*JUDGED, *BESIDE))):
        yield row(title, *(_phase(copying, *phases)))


def _phase(copying: Copying, *phases: str) -> tuple[float, float, float]:
    """Seconds, bytes and CPU seconds."""
    return (
        _median(copying.copies, lambda run: run.seconds(*phases)),
        _median(copying.copies, lambda run: run.cost(*phases).written),
        _median(copying.copies, lambda run: run.cost(*phases).cpu),
    )


def _phases(copying: Copying) -> Iterable[Sequence[str]]:
    for phase, title in TITLES.items():
        seconds, written, cpu = _phase(copying, phase)
        yield title, number(seconds, 2), number(written / 1e6, 0), number(cpu, 1), "yes" if phase in JUDGED else ""


def _steps(copying: Copying) -> Iterable[Sequence[str]]:
    for step in copying.floors[0].steps:
        yield step, number(statistics.median(floor.steps[step] for floor in copying.floors), 2)


def _rates_of_tenths(copying: Copying) -> list[float]:
    return [statistics.median(rates) for rates in zip(*(run.rates() for run in copying.copies), strict=True)]


def _course(copying: Copying) -> Iterable[Sequence[str]]:
    seconds, items = max(run.longest_chunk() for run in copying.copies)
    yield "longest chunk of all rounds", f"{number(seconds, 2)} s, {items:,} items"
    when = ("after a tenth", "the most from then on", "at the end")
    for title, memory in zip(when, zip(*(run.memory for run in copying.copies), strict=True), strict=True):
        yield f"memory of the driver {title}", f"{number(statistics.median(memory), 1)} MB"


def _factor(copying: Copying, cell: Cell, against: Way) -> float:
    return _of(copying, cell) / _of(copying, Cell(against, cell.write, cell.clients, cell.durable))


def _latency(written: Written) -> float:
    return written.latency_ms


def _of(copying: Copying, cell: Cell, pick: Callable[[Written], float] = _latency) -> float:
    return statistics.median(pick(written) for where, written in copying.writes if where == cell)


def _writes(copying: Copying) -> Iterable[Sequence[str]]:
    picks: dict[str, Callable[[Written], float]] = {
        "latency": _latency,
        "CPU": lambda written: written.cpu_ms,
        "a second": lambda written: written.per_second,
    }
    for durable in (True, False):
        for write in Write:
            for clients in CLIENTS:
                for title, pick in picks.items():
                    found = [_of(copying, Cell(way, write, clients, durable), pick) for way in Way]
                    yield [
                        f"{_where(write, clients)}, {'durable' if durable else 'synchronous_commit=off'}: {title}",
                        *(number(value, 0 if title == "a second" else 3) for value in found),
                        number(found[2] / found[1], 2),
                        number(found[2] / found[0], 2),
                    ]


def _how(beside: Beside) -> str:
    rate = f"{beside.rate} a second" if beside.rate else "as fast as they go"
    return f"{rate}, {beside.throttle or 'no throttle'}"


def _times(served: Served) -> Sequence[str]:
    return [number(served.quantile(share), 2) for share in (0.5, 0.99, 1.0)]


def _selling(copying: Copying) -> Iterable[Sequence[str]]:
    for beside in copying.besides:
        rate = copying.fewer / beside.copy.seconds("copy", "sweep")
        yield _how(beside), "alone", number(beside.alone.per_second, 0), *_times(beside.alone), ""
        yield "", "during", number(beside.during.per_second, 0), *_times(beside.during), number(rate, 0)
        yield "", "after", number(beside.after.per_second, 0), *_times(beside.after), ""


def _by_phase(copying: Copying) -> Iterable[Sequence[str]]:
    for beside in copying.besides:
        cells = []
        for phase in TITLES:
            served = beside.phases.get(phase)
            cells.append(
                f"{number(served.per_second, 0)}, {' / '.join(_times(served))}" if served and served.times else NONE
            )
        yield _how(beside), *cells
