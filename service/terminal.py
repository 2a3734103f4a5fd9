"""What the commands print: plain sentences and tables for a person, a progress bar on a terminal, lines otherwise."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import click
import orjson
from rich.cells import cell_len, set_cell_size
from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from migration.gates import Gate
from migration.history import Act
from migration.plan import Group, Plan
from migration.progress import Progress as Step
from migration.progress import Report
from migration.report import Compared, Listed, Mismatch, VerificationReport
from migration.run import Run
from migration.schedule import Stage
from migration.status import Phase, Status
from service.watch import Show

SHOWN = 20
NAME_WIDTH = 40


def plain(text: str) -> str:
    """What came from outside, fit for a line of a terminal: control characters are spelled out, not obeyed."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def name(text: str, *, padded: bool = False) -> str:
    """A name of the shop's, cut to what a table has room for."""
    shown = plain(text)
    if cell_len(shown) > NAME_WIDTH:
        shown = set_cell_size(shown, NAME_WIDTH - 1) + "…"
    return set_cell_size(shown, NAME_WIDTH) if padded else shown


def complain(message: str) -> None:
    """One line on stderr."""
    click.echo(f"stockshift: {plain(' '.join(message.split()))}", err=True)


class Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:,.0f}/s")


class Bars(Progress):
    """A bar a stage, and under them what is waited for."""

    waiting: str | None = None

    def get_renderables(self) -> Iterator[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        if self.waiting:
            yield Text(f"waits: {plain(self.waiting)}", no_wrap=True, overflow="ellipsis")


@contextmanager
def progress() -> Iterator[Report]:
    """Reports as a bar with rate and time left; where there is no terminal, as lines."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Lines()
        return
    columns = (
        TextColumn("{task.description:8}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[chunk]}"),
    )
    with Bars(*columns, console=console, expand=True) as bars:
        tasks: dict[str, TaskID] = {}

        def report(step: Step) -> None:
            if step.stage not in tasks:
                # What was done before is no work of this stage, and none of its rate.
                tasks[step.stage] = bars.add_task(step.stage, total=step.total, completed=step.done, chunk="")
            task = tasks[step.stage]
            bars.update(task, completed=step.done, total=step.total)
            if step.chunk is not None:
                bars.update(task, chunk=f"chunks of {step.chunk}")
            bars.waiting = step.waiting

        yield report


class Lines:
    """A line a stage and each tenth of it; and what is waited for when that changes, so many at once and then one each
    WAIT_SECONDS."""

    WAITS = 20
    WAIT_SECONDS = 10.0

    def __init__(self) -> None:
        self._tenths: dict[str, int] = {}
        self._waiting: str | None = None
        self._left = float(self.WAITS)
        self._since = time.monotonic()

    def __call__(self, step: Step) -> None:
        tenth = step.done * 10 // step.total if step.total else 10
        if self._tenths.get(step.stage) != tenth:
            self._tenths[step.stage] = tenth
            chunk = f", chunks of {step.chunk}" if step.chunk else ""
            click.echo(f"{step.stage}: {step.done} of {step.total}{chunk}", err=True)
        if step.waiting and step.waiting != self._waiting and self._may_wait_be_told():
            self._waiting = step.waiting
            click.echo(f"{step.stage}: waits: {plain(step.waiting)}", err=True)

    def _may_wait_be_told(self) -> bool:
        now = time.monotonic()
        self._left = min(self.WAITS, self._left + (now - self._since) / self.WAIT_SECONDS)
        self._since = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def show_plan(plan: Plan) -> None:
    click.echo(f"Database {plain(plan.database)}, PostgreSQL {plan.server}. Nothing was written.")
    if plan.totals is not None:
        totals = plan.totals
        click.echo(f"\nThe shop now: {totals.items} items, {totals.quantity} units, ${totals.value_usd:,.2f} arrived")
        _groups("by status", totals.by_status, "no status")
        _groups("by location", totals.by_location, "no location")
        click.echo(
            f"\nTo copy: {plan.to_copy} items, about {max(1, round(plan.seconds))} s; copied before: {plan.copied}"
        )
    if plan.decisions:
        click.echo("\nRows that cannot be taken as they stand:")
        for decision in plan.decisions:
            fate = "held back" if decision.held_back else "taken"
            more = ", …" if decision.count > len(decision.examples) else ""
            click.echo(f"  {decision.kind}: {decision.count} {fate}; {decision.outcome}")
            click.echo(f"    {', '.join(map(name, decision.examples))}{more}")
    if plan.steps:
        click.echo("\nWhat would run (--sql shows it):")
        for number, step in enumerate(plan.steps, 1):
            click.echo(f"  {number}. {step.why}")
    elif not plan.blockers:
        click.echo("\nNothing is left to do.")
    show_blockers(plan)


def show_sql(plan: Plan) -> None:
    for step in plan.steps:
        click.echo(f"-- {step.why}\n{step.sql};\n")
    show_blockers(plan)


def show_blockers(plan: Plan) -> None:
    for blocker in plan.blockers:
        click.echo(f"BLOCKED: {plain(blocker)}", err=True)


def _groups(title: str, groups: Iterable[Group], nothing: str) -> None:
    click.echo(f"  {title}:")
    for group in groups:
        label = nothing if group.label is None else group.label
        click.echo(f"    {name(label, padded=True)} {group.items:>9} items {group.quantity:>12} units")


def show_status(status: Status, schedule: list[Stage], gates: list[Gate]) -> None:
    click.echo(f"phase        {status.phase}")
    click.echo(f"read source  {status.read_source}")
    click.echo(f"write-back   {'on' if status.write_back else 'off'}")
    click.echo(f"items        {status.items}")
    click.echo(f"copied       {status.copied}")
    click.echo(f"held back    {status.held_back}")
    click.echo(f"cut over     {status.cut_over}")
    click.echo(f"drifted      {status.drifted}")
    for line in run_lines(status.run):
        click.echo(line)
    click.echo("\nThe plan of weeks:")
    for stage in schedule:
        since = f"since {stage.since:%Y-%m-%d %H:%M} UTC" if stage.since else ""
        click.echo(f"  {stage.state:5} {stage.name:14} {stage.what if stage.state == 'NEXT' else ''}{since}".rstrip())
        for reason in stage.against:
            click.echo(f"        against: {plain(reason)}")
    click.echo()
    show_gates(gates)


def show_gates(gates: Iterable[Gate]) -> None:
    click.echo("The gates of contract:")
    for gate in gates:
        click.echo(f"  {'open' if gate.open else 'CLOSED':6} {gate.name:19} {plain(gate.reason)}")


def show_history(acts: Iterable[Act]) -> None:
    for act in acts:
        details = ", ".join(f"{key} {value}" for key, value in act.details.items())
        told = plain(f"by {act.actor}{f' from {act.client}' if act.client else ''}{f': {details}' if details else ''}")
        click.echo(f"{act.at:%Y-%m-%d %H:%M:%S} UTC  {act.action}  {told}")


def run_lines(run: Run | None) -> list[str]:
    if run is None:
        return []
    asked = (
        f", as asked for by {plain(run.requested_by)}"
        if run.state in ("PAUSED", "CANCELLED") and run.requested_by
        else ""
    )
    stage = f", stage {run.stage}" if run.stage else ""
    place = " inside the service" if run.place == "service" else ""
    lines = [
        f"run          {run.id}, {run.kind}: {run_state(run)}{stage}{asked}",
        f"driver       {plain(run.driver)}{place}",
        f"begun        {run.started_at:%Y-%m-%d %H:%M:%S} UTC",
        f"progress     {run_progress(run)}",
    ]
    if run.waiting:
        lines.append(f"waits        {plain(run.waiting)}")
    if run.error:
        lines.append(f"error        {plain(run.error)}")
    return lines


def run_state(run: Run) -> str:
    return "INTERRUPTED" if run.interrupted else run.state


def run_progress(run: Run) -> str:
    told = f"{run.items_copied} of {run.items_total} items"
    if run.driven and run.rate is not None:
        told += f", {run.rate:,.0f}/s"
    if run.driven and run.seconds_left is not None:
        told += f", {timedelta(seconds=round(run.seconds_left))} left"
    if run.driven and run.chunk_size is not None:
        told += f", chunks of {run.chunk_size}"
    return told


def run_line(run: Run) -> str:
    """All of it on one line."""
    told = f"run {run.id} {run_state(run)}{f', {run.stage}' if run.stage else ''}: {run_progress(run)}"
    for name_of, what in (("waits", run.waiting), ("error", run.error)):
        told += f"; {name_of}: {plain(what)}" if what else ""
    return told


def run_data(run: Run | None) -> dict[str, Any] | None:
    """For programs; with what a reader would have to work out."""
    if run is None:
        return None
    return {**asdict(run), "state": run_state(run), "seconds_left": run.seconds_left}


def status_data(status: Status, schedule: list[Stage], gates: list[Gate]) -> dict[str, Any]:
    lists = {"schedule": [asdict(stage) for stage in schedule], "gates": [asdict(gate) for gate in gates]}
    return {**asdict(status), "run": run_data(status.run), **lists}


@contextmanager
def watching(*, as_json: bool) -> Iterator[Show]:
    """Shows runs in place on a terminal, else a line a change; as JSON always a line a change."""
    console = Console()
    if console.is_terminal and not as_json:
        with Live(console=console, auto_refresh=False) as live:

            def refresh(phase: Phase, run: Run | None, away: str | None) -> None:
                lines = [f"phase        {phase}", *run_lines(run), *([f"away         {plain(away)}"] if away else [])]
                live.update(Text("\n".join(lines)), refresh=True)

            yield refresh
        return
    said = None

    def add(phase: Phase, run: Run | None, away: str | None) -> None:
        nonlocal said
        if as_json:
            line = orjson.dumps({"phase": phase, "run": run_data(run), "away": away}).decode()
        elif away:
            line = f"away: {plain(away)}"
        else:
            line = run_line(run) if run else f"{phase}: there was no run"
        if line != said:
            said = line
            click.echo(line)

    yield add


def by_whom(mismatch: Mismatch) -> str:
    """Who made the difference, where anything recorded it."""
    evidence = mismatch.evidence or {}
    if evidence.get("when") is None:
        return ""
    application = evidence["application"] or "without a name"
    return f", by {plain(str(evidence['who']))}, application {plain(application)}, at {evidence['when']}"


def show_report(report: VerificationReport) -> None:
    click.echo(f"Verification {report.id}: {report.state}, {report.items_checked} items checked")
    for check in report.checks:
        mark = "ok  " if check.passed else "FAIL"
        expected = f", expected {check.expected}" if check.expected is not None and not check.passed else ""
        detail = f" ({plain(check.detail)})" if check.detail else ""
        click.echo(f"  {mark} {check.name}: {check.actual}{expected}{detail}")
    for one in report.explanations:
        click.echo(f"  explained by {one.kind}: {one.items} items, {one.units:+} units")
    _show_mismatches(report.mismatches)
    if len(report.mismatches) > SHOWN:
        click.echo(f"… and {len(report.mismatches) - SHOWN} more mismatches; --json FILE has all")


def show_reports(reports: Iterable[Listed]) -> None:
    for report in reports:
        took = f", {(report.finished_at - report.started_at).total_seconds():.1f} s" if report.finished_at else ""
        of = f" of company {name(report.company_id)}" if report.company_id else ""
        click.echo(
            f"{report.id:>6}  {report.started_at:%Y-%m-%d %H:%M:%S} UTC  {report.state:11}"
            f" {report.items_checked} items{of}, {report.items_mismatched} mismatches{took},"
            f" by {plain(report.requested_by or 'somebody')}"
        )


def show_compared(compared: Compared) -> None:
    for title, mismatches in (
        ("new", compared.new),
        ("still there", compared.still_there),
        ("gone", compared.gone),
    ):
        click.echo(f"{title}: {len(mismatches)}")
        _show_mismatches(mismatches)


def _show_mismatches(mismatches: list[Mismatch]) -> None:
    for mismatch in mismatches[:SHOWN]:
        fields = f" [{', '.join(mismatch.fields)}]" if mismatch.fields else ""
        click.echo(
            f'{mismatch.kind} {name(mismatch.item_id)} "{name(mismatch.item_name)}": '
            f"legacy {mismatch.legacy_quantity}, batches {mismatch.batch_quantity}, difference {mismatch.difference}"
            f"{fields}\n"
            f"    {plain(mismatch.cause)}{by_whom(mismatch)}; proposed: {plain(mismatch.repair or 'none')}"
        )
