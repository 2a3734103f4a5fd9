"""`stockshift verify`: a verification, or one that was kept: listed, shown again, exported, compared."""

import asyncio
import io
from contextlib import ExitStack

import click

from db.engine import connecting
from db.errors import StockshiftError
from migration.report import (
    Listed,
    VerificationReport,
    compare_reports,
    latest_reports,
    load_report,
    to_json,
    write_mismatches_csv,
)
from migration.verify import ByteSink, verify
from service import terminal
from service.commands.options import database_url
from service.database import Database, chosen_database
from service.sessions import engine_for, who
from service.settings import load_settings
from service.whole_file import whole_file

LISTED = 20


class NoSuchReport(StockshiftError):
    """There is no such report."""


@click.command(short_help="Compare both systems item by item.")
@database_url
@click.option("--json", "json_file", metavar="FILE", help="Write the report here; - for stdout.")
@click.option("--csv", "csv_file", metavar="FILE", help="Write a line an item here; - for stdout.")
@click.option("--list", "listed", is_flag=True, help=f"List the latest {LISTED} reports instead.")
@click.option("--report", "kept", type=int, metavar="ID", help="Show this report again; --csv has a line a mismatch.")
@click.option(
    "--compare", type=int, nargs=2, metavar="ID ID", help="Show what became of the mismatches from one to the other."
)
def command(
    database_url: str | None,
    json_file: str | None,
    csv_file: str | None,
    listed: bool,
    kept: int | None,
    compare: tuple[int, int] | None,
) -> int:
    """Compare both systems item by item, in one snapshot, and keep the report.

    Exit code 0: everything matches. 1: something does not, and is named. 2: it could not be compared. With --compare: 1
    if the later report has a mismatch that the earlier has not.
    """
    if json_file == csv_file == "-":
        raise click.UsageError("--json - and --csv - cannot share stdout; give one of them a file.")
    if [listed, kept is not None, compare is not None].count(True) > 1:
        raise click.UsageError("--list, --report and --compare exclude each other.")
    if (listed or compare is not None) and (json_file or csv_file):
        raise click.UsageError("--json and --csv are for one report: of now, or that of --report.")
    with ExitStack() as stack:
        database = stack.enter_context(chosen_database(load_settings(), database_url))
        if listed:
            terminal.show_reports(asyncio.run(_list(database)))
            return 0
        if compare is not None:
            earlier, later = asyncio.run(_load(database, *compare))
            compared = compare_reports(earlier, later)
            terminal.show_compared(compared)
            return 1 if compared.new else 0
        json_sink, csv_sink = (stack.enter_context(whole_file(path)) for path in (json_file, csv_file))
        if kept is None:
            report = asyncio.run(_verify(database, csv_sink))
        else:
            (report,) = asyncio.run(_load(database, kept))
            if csv_sink is not None:
                lines = io.StringIO(newline="")
                write_mismatches_csv(report, lines)
                csv_sink.write(lines.getvalue().encode())
        if json_sink is not None:
            json_sink.write(to_json(report))
    if "-" not in (json_file, csv_file):
        terminal.show_report(report)
    return 0 if report.state == "PASSED" else 1


async def _verify(database: Database, csv_sink: ByteSink | None) -> VerificationReport:
    async with engine_for(database, "stockshift verify") as engine:
        verified = await verify(engine, requested_by=who(), items_csv=csv_sink)
        async with connecting(engine) as connection:
            report = await load_report(connection, verified.id, None)
    if report is None:
        raise StockshiftError(f"report {verified.id} was deleted while it was made; run `stockshift verify` again")
    return report


async def _list(database: Database) -> list[Listed]:
    async with engine_for(database, "stockshift verify") as engine, connecting(engine) as connection:
        return await latest_reports(connection, None, first=LISTED)


async def _load(database: Database, *ids: int) -> list[VerificationReport]:
    async with engine_for(database, "stockshift verify") as engine, connecting(engine) as connection:
        reports = [await load_report(connection, each, None) for each in ids]
    for each, report in zip(ids, reports, strict=True):
        if report is None:
            raise NoSuchReport(f"there is no report {each}; `stockshift verify --list` lists the latest")
    return [report for report in reports if report is not None]
