"""What the commands print: plain sentences and tables for a person, a progress bar on a terminal, lines otherwise."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import click
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from migration.plan import Group, Plan
from migration.progress import Progress as Step
from migration.progress import Report
from migration.report import VerificationReport
from migration.status import Status

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


@contextmanager
def progress() -> Iterator[Report]:
    """Reports as a bar with rate and time left; where there is no terminal, as a line a stage and each tenth of it."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines()
        return
    columns = (TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        tasks = {}

        def report(step: Step) -> None:
            if step.stage not in tasks:
                tasks[step.stage] = bar.add_task(step.stage, total=step.total)
            bar.update(tasks[step.stage], completed=step.done, total=step.total)

        yield report


def _lines() -> Report:
    said: dict[str, int] = {}

    def report(step: Step) -> None:
        tenth = step.done * 10 // step.total if step.total else 10
        if said.get(step.stage) != tenth:
            said[step.stage] = tenth
            click.echo(f"{step.stage}: {step.done} of {step.total}", err=True)

    return report


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
        click.echo("\nWhat would run, in one transaction (--sql shows it):")
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


def show_status(status: Status) -> None:
    click.echo(f"phase        {status.phase}")
    click.echo(f"read source  {status.read_source}")
    click.echo(f"items        {status.items}")
    click.echo(f"copied       {status.copied}")
    click.echo(f"held back    {status.held_back}")


def show_report(report: VerificationReport) -> None:
    click.echo(f"Verification {report.id}: {report.state}, {report.items_checked} items checked")
    for check in report.checks:
        mark = "ok  " if check.passed else "FAIL"
        expected = f", expected {check.expected}" if check.expected is not None and not check.passed else ""
        detail = f" ({plain(check.detail)})" if check.detail else ""
        click.echo(f"  {mark} {check.name}: {check.actual}{expected}{detail}")
    for mismatch in report.mismatches[:SHOWN]:
        fields = f" [{', '.join(mismatch.fields)}]" if mismatch.fields else ""
        click.echo(
            f'MISMATCH {name(mismatch.item_id)} "{name(mismatch.item_name)}": legacy {mismatch.legacy_quantity}, '
            f"batches {mismatch.batch_quantity}, difference {mismatch.difference}{fields}\n"
            f"    {mismatch.cause}; proposed: {plain(mismatch.repair or 'none')}"
        )
    if len(report.mismatches) > SHOWN:
        click.echo(f"… and {len(report.mismatches) - SHOWN} more mismatches; --json FILE has all")
