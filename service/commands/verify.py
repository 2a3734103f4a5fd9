"""`stockshift verify`."""

import asyncio
from contextlib import ExitStack

import click

from db.engine import connecting
from db.errors import StockshiftError
from migration.report import VerificationReport, load_report, to_json
from migration.verify import ByteSink, verify
from service import terminal
from service.commands.options import database_url
from service.database import Database, chosen_database
from service.sessions import engine_for, who
from service.settings import load_settings
from service.whole_file import whole_file


@click.command(short_help="Compare both systems item by item.")
@database_url
@click.option("--json", "json_file", metavar="FILE", help="Write the report here; - for stdout.")
@click.option("--csv", "csv_file", metavar="FILE", help="Write a line an item here; - for stdout.")
def command(database_url: str | None, json_file: str | None, csv_file: str | None) -> int:
    """Compare both systems item by item, in one snapshot, and keep the report.

    Exit code 0: everything matches. 1: something does not, and is named. 2: it could not be compared.
    """
    if json_file == csv_file == "-":
        raise click.UsageError("--json - and --csv - cannot share stdout; give one of them a file.")
    with ExitStack() as stack:
        database = stack.enter_context(chosen_database(load_settings(), database_url))
        json_sink, csv_sink = (stack.enter_context(whole_file(path)) for path in (json_file, csv_file))
        report, passed = asyncio.run(_verify(database, csv_sink))
        if json_sink is not None:
            json_sink.write(to_json(report))
    if "-" not in (json_file, csv_file):
        terminal.show_report(report)
    return 0 if passed else 1


async def _verify(database: Database, csv_sink: ByteSink | None) -> tuple[VerificationReport, bool]:
    async with engine_for(database, "stockshift verify") as engine:
        verified = await verify(engine, requested_by=who(), items_csv=csv_sink)
        async with connecting(engine) as connection:
            report = await load_report(connection, verified.id, None)
    if report is None:
        raise StockshiftError(f"report {verified.id} was deleted while it was made; run `stockshift verify` again")
    return report, verified.passed
