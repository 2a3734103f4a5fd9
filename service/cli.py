"""The command line: one verb a function, each a thin caller of what the service calls too."""

import asyncio
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import orjson

from db.demo_shop import MOST_ITEMS
from db.engine import connecting
from db.errors import StockshiftError
from db.shape import load_shape
from migration.gates import Gate, gates
from migration.history import Act, read_history
from migration.plan import Plan, make_plan
from migration.read_source import set_read_source
from migration.report import VerificationReport, load_report, to_json
from migration.schedule import Stage, read_schedule
from migration.status import Status, read_status
from migration.verify import ByteSink, verify
from resolvers.reader import NotAShop
from resolvers.viewer import Role
from schema import build_schema
from service import backups, cutting_over, endings, going_back, migrating, repairing, terminal
from service.database import Database, chosen_database
from service.demo import run_demo
from service.migrating import Asked
from service.prisma import prisma_snippet
from service.server import listening, run_server
from service.sessions import engine_for, who
from service.settings import load_settings
from service.tokens import TokenVerifier, issue_token, parse_ttl
from service.watch import watch
from service.whole_file import whole_file


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="stockshift", message="%(prog)s %(version)s")
def cli() -> None:
    """A GraphQL stock service, and the way from one row per item to many batches without losing anything.

    Exit codes: 0 done, 1 the answer is no (a mismatch, a blocker, a refusal), 2 it could not run.
    """


database_url = click.option(
    "--database-url", metavar="URL", help="The shop's database.  [default: DATABASE_URL, else the demo's]"
)
whole_number = click.IntRange(min=0)


@cli.command(short_help="Say what a migration would do; writes nothing.")
@database_url
@click.option("--sql", is_flag=True, help="Print the statements instead.")
def plan(database_url: str | None, sql: bool) -> int:
    """Look at the database and say what a migration would do. Writes nothing.

    Exit code 1: something must be put right first, and is named.
    """
    with chosen_database(load_settings(), database_url) as database:
        found = asyncio.run(_plan(database))
    (terminal.show_sql if sql else terminal.show_plan)(found)
    return 0 if found.ready else 1


async def _plan(database: Database) -> Plan:
    async with engine_for(database, "stockshift plan") as engine:
        return await make_plan(engine)


class SeveralItems(click.Command):
    """`--items A B C` is `--items A --items B --items C`. An id that begins with - is written --items=-A."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words: list[str] = []
        several = False
        for word in args:
            if word.startswith("-"):
                if words[-1:] == ["--items"]:
                    break  # click says what is missing
                several = word == "--items"
            elif several and words[-1] != "--items":
                words.append("--items")
            words.append(word)
        return super().parse_args(ctx, words)


@cli.command(cls=SeveralItems, short_help="Copy every item to batches.")
@database_url
@click.option("--atomic", is_flag=True, help="In one transaction, or nothing at all; the shop cannot write meanwhile.")
@click.option("--online", is_flag=True, help="In small transactions, beside a shop that goes on selling.")
@click.option("--items", multiple=True, metavar="ID ...", help="These alone.")
@click.option("--chunk-size", type=click.IntRange(min=1), metavar="N", help="At most so many items at once.  [online]")
@click.option(
    "--throttle",
    multiple=True,
    metavar="WORD",
    help="Hold back: sleep=R times as long as a chunk takes; while a replica is more than lag=S seconds behind, or "
    "more than active=N sessions are at work; to wal=M MB of log a second.  [online]",
)
@click.option("--null-cost", metavar="AMOUNT", help="The cost of items that have none.")
@click.option("--null-order-date", metavar="DATE", help="Their order date: today, or YYYY-MM-DD[THH:MM:SS.mmm], UTC.")
@click.option("--null-status", metavar="LABEL", help="Their status.")
@click.option("--pause", is_flag=True, help="Have the run that is under way stop, wherever it is driven.")
@click.option("--resume", is_flag=True, help="Go on with a run that was paused, or was interrupted.")
@click.option("--cancel", is_flag=True, help="End the run; what was copied stays.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def migrate(database_url: str | None, **words: Any) -> int:
    """Copy every item to batches: up to 100,000 in one transaction, more beside a shop that goes on selling.

    Safe to run again: what was copied stays as it is, and a run that was paused or interrupted goes on. Items that
    cannot be copied as they stand are held back; `stockshift plan` names them.
    """
    asked = Asked(**words)
    options = asked.options()
    settings = load_settings()
    with chosen_database(settings, database_url) as database:
        return migrating.migrate(database, settings.lock_timeout_ms, asked, options)


@cli.command(short_help="How far the migration is.")
@database_url
@click.option("--watch", "watched", is_flag=True, help="Look every second, until the run has ended.")
@click.option("--history", is_flag=True, help="Who did what to the migration, when and from where, instead.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --watch a line a change.")
def status(database_url: str | None, watched: bool, history: bool, as_json: bool) -> None:
    """How far the migration is: what is copied, held back, cut over and drifted, what the latest run does, and where
    that is in the plan of weeks: what is done, what is next, and what speaks against it. Also which gates of contract
    are open.

    With --watch the run alone, and all of it at the end; Ctrl-C ends the looking, and nothing else.
    """
    if history and watched:
        raise click.UsageError("--history and --watch exclude each other.")
    if history:
        _show_history(database_url, as_json=as_json)
        return
    with chosen_database(load_settings(), database_url) as database:
        if watched:
            try:
                with terminal.watching(as_json=as_json) as show:
                    asyncio.run(watch(database, show))
            except KeyboardInterrupt:
                return
            if as_json:
                return
        found = asyncio.run(_status(database))
    if as_json:
        click.echo(orjson.dumps(terminal.status_data(*found), option=orjson.OPT_INDENT_2))
    else:
        terminal.show_status(*found)


def _show_history(database_url: str | None, *, as_json: bool) -> None:
    with chosen_database(load_settings(), database_url) as database:
        acts = asyncio.run(_history(database))
    if as_json:
        click.echo(orjson.dumps(acts, option=orjson.OPT_INDENT_2))
    elif acts:
        terminal.show_history(acts)
    else:
        click.echo("Nothing was done yet.")


async def _history(database: Database) -> list[Act]:
    async with engine_for(database, "stockshift status") as engine, connecting(engine) as connection:
        return await read_history(connection)


async def _status(database: Database) -> tuple[Status, list[Stage], list[Gate]]:
    async with engine_for(database, "stockshift status") as engine, connecting(engine) as connection:
        if not (await load_shape(connection)).is_a_shop:
            raise NotAShop
        found = await read_status(connection, None)
        return found, await read_schedule(connection, found), await gates(connection)


@cli.command("verify", short_help="Compare both systems item by item.")
@database_url
@click.option("--json", "json_file", metavar="FILE", help="Write the report here; - for stdout.")
@click.option("--csv", "csv_file", metavar="FILE", help="Write a line an item here; - for stdout.")
def verify_command(database_url: str | None, json_file: str | None, csv_file: str | None) -> int:
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


@cli.command(short_help="Put right what a verification finds.")
@database_url
@click.option("--yes", is_flag=True, help="Make the changes; without it they are only shown.")
@click.option("--accept-drift", multiple=True, metavar="ID", help="Write this item's drift into its batches.")
@click.option("--keep-batches", multiple=True, metavar="ID", help="Let this item's batches stand; settles its drift.")
def repair(database_url: str | None, yes: bool, accept_drift: tuple[str, ...], keep_batches: tuple[str, ...]) -> int:
    """Verify, and show what would put right each thing that is wrong, before and after; with --yes, make it so.

    All of it is one transaction with the verification that proves it; what does not prove right is undone. Exit code 1:
    something is left, and is named with what to do.
    """
    settings = load_settings()
    with chosen_database(settings, database_url) as database:
        return repairing.repair_database(database, settings.lock_timeout_ms, accept_drift, keep_batches, make=yes)


@cli.command("read-source", short_help="Choose where items are answered from.")
@click.argument("source", type=click.Choice(["auto", "legacy"], case_sensitive=False))
@database_url
def read_source(source: str, database_url: str | None) -> None:
    """Answer items from their batches (auto), or everything from the legacy columns (legacy)."""
    with chosen_database(load_settings(), database_url) as database:
        asyncio.run(_set_read_source(database, source))
    click.echo(f"Reads come from {source.upper()} now, in every process.")


async def _set_read_source(database: Database, source: str) -> None:
    name = "stockshift read-source"
    async with engine_for(database, name) as engine, connecting(engine) as connection, connection.begin():
        await set_read_source(connection, "LEGACY" if source == "legacy" else "AUTO", who())


def which_items(command: Any) -> Any:
    """The words that say which items a command is for."""
    options = (
        click.argument("ids", nargs=-1, metavar="[ID ...]"),
        click.option("--all", "everything", is_flag=True, help="Every item."),
        click.option("--company", metavar="ID", help="The items of this company."),
        click.option("--status", multiple=True, metavar="LABEL", help="Items with stock in this status."),
        click.option("--location", multiple=True, metavar="ID", help="Items with stock at this location."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@cli.command("cut-over", short_help="Make their batches the truth of items.")
@which_items
@database_url
def cut_over(database_url: str | None, **words: Any) -> int:
    """Mark items as migrated: from then on their batches are the truth, and a write of the legacy columns is drift.

    Each is copied if it never was, verified, and marked in one transaction, beside a shop that goes on selling. Safe to
    run again. Exit code 1: some items do not verify, and are named; the others are cut over.
    """
    return _act_on_items("cut-over", database_url, words)


@cli.command("take-back", short_help="Undo a cut-over.")
@which_items
@database_url
def take_back(database_url: str | None, **words: Any) -> int:
    """Undo a cut-over: the legacy columns are the truth again, and take what became of the opening batch since.

    Exit code 1: some items are not taken back, as a program wrote their legacy columns since; they are named.
    """
    return _act_on_items("take-back", database_url, words)


def _act_on_items(verb: cutting_over.Verb, database_url: str | None, words: dict[str, Any]) -> int:
    meant = cutting_over.Meant(**words)
    meant.check()
    settings = load_settings()
    with chosen_database(settings, database_url) as database:
        return cutting_over.act_on_items(database, settings.lock_timeout_ms, verb, meant)


@cli.command("write-back", short_help="Keep old readers right after a cut-over.")
@click.argument("switch", type=click.Choice(["on", "off"], case_sensitive=False))
@database_url
def write_back(switch: str, database_url: str | None) -> int:
    """Keep the legacy quantity, status and location of items that are cut over as their batches say, or stop it."""
    settings = load_settings()
    with chosen_database(settings, database_url) as database:
        return cutting_over.write_back(database, settings.lock_timeout_ms, on=switch == "on")


backup_folder = click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))


@cli.command(short_help="Go back to the legacy columns.")
@database_url
@click.option("--confirm", metavar="DBNAME", help="The database's name: without it this only says what would be done.")
@click.option("--fold", is_flag=True, help="Put quantities that exist only in batches into the legacy columns.")
@click.option("--undo", is_flag=True, help="Put everything back as it was.")
def rollback(database_url: str | None, confirm: str | None, fold: bool, undo: bool) -> int:
    """Archive what was made since the migration, and answer items from their legacy columns for good.

    Batches, copy ledger and movements are moved to an archive; triggers, indexes and the flag go. Without --confirm it
    says what exists only in batches, and writes nothing. `stockshift read-source legacy` is the switch that changes
    nothing but the answers.
    """
    settings = load_settings()
    with chosen_database(settings, database_url) as database:
        return going_back.rollback(database, settings.lock_timeout_ms, confirm, fold=fold, undo=undo)


@cli.command(short_help="Back the database up.")
@backup_folder
@database_url
def backup(directory: Path, database_url: str | None) -> int:
    """Back the database up into DIR, which must not be there: a dump, CSV files and a manifest, all of one instant.

    The shop goes on meanwhile. Only you can read the files.
    """
    settings = load_settings()
    with chosen_database(settings, database_url) as database:
        return backups.make_backup(database, settings.lock_timeout_ms, directory)


@cli.command(short_help="Restore a backup into an empty database.")
@backup_folder
@click.option("--into", required=True, metavar="URL", help="The empty database.")
def restore(directory: Path, into: str) -> int:
    """Restore the backup in DIR into an empty database, and prove that it is what was backed up.

    Exit code 1: the backup is not as it was made, the database is not empty or cannot take it; nothing was written.
    """
    return backups.restore_backup(into, directory)


@cli.command(short_help="Try the whole migration on a copy.")
@backup_folder
@click.option("--into", metavar="URL", help="An empty database to do it in.  [default: a server of its own]")
@database_url
def rehearse(directory: Path, into: str | None, database_url: str | None) -> int:
    """Restore the backup in DIR into a scratch database, migrate that and verify it, and say how long each stage takes.

    The report is kept in DIR; the live database is not touched, but for its audit. Exit code 1: something differs.
    """
    return backups.rehearse_backup(load_settings(), database_url, into, directory)


@cli.command(short_help="Print a token for a client.")
@click.option("--role", required=True, type=click.Choice([role.name.lower() for role in Role], case_sensitive=False))
@click.option("--company", metavar="ID", help="See this company only.  [default: all companies]")
@click.option("--ttl", default="1h", show_default=True, help="How long it is valid, such as 30m, 1h or 7d.")
@click.option("--subject", default="cli", show_default=True, help="Whom it is for, in reports and logs.")
def token(role: str, company: str | None, ttl: str, subject: str) -> None:
    """Print a token, signed with STOCKSHIFT_JWT_SECRET."""
    settings = load_settings()
    if settings.jwt_secret is None:
        raise StockshiftError("STOCKSHIFT_JWT_SECRET is not set, and only who has it can sign; set it as for `serve`")
    click.echo(
        issue_token(
            settings.jwt_secret.get_secret_value(),
            role=Role[role.upper()],
            company=company,
            ttl=parse_ttl(ttl),
            subject=subject,
            issuer=settings.jwt_issuer,
            audience=settings.jwt_audience,
        )
    )


@cli.command("schema", short_help="Print the schema (SDL).")
@click.option("--prisma", is_flag=True, help="Print what your schema.prisma needs instead.")
def schema_command(prisma: bool) -> None:
    """Print the schema (SDL).

    With --prisma: the model of the batches and the lines for your own models, so that `prisma db push` finds a
    migrated database in sync with your schema.prisma instead of dropping what it does not know.
    """
    click.echo(prisma_snippet() if prisma else build_schema().as_str(), nl=not prisma)


@cli.command(short_help="Serve GraphQL.")
@database_url
@click.option("--host", help="The address to listen on.  [default: STOCKSHIFT_HOST, else 127.0.0.1]")
@click.option("--port", type=whole_number, help="The port to listen on.  [default: STOCKSHIFT_PORT, else 8000]")
@click.option("--workers", type=whole_number, help="How many processes serve.  [default: STOCKSHIFT_WORKERS, else 1]")
def serve(database_url: str | None, host: str | None, port: int | None, workers: int | None) -> None:
    """Serve GraphQL at /graphql, with GraphiQL for a browser, /healthz and /readyz.

    Who may ask is told by STOCKSHIFT_JWT_SECRET or STOCKSHIFT_JWKS_URL; without them it does not start.
    """
    settings = load_settings(host=host, port=port, workers=workers)
    verifier = TokenVerifier.from_settings(settings)
    with listening(settings.host, settings.port) as listener, chosen_database(settings, database_url) as database:
        run_server(settings, database, verifier, listener)


@cli.command("demo", short_help="A shop to try everything on.")
@click.option("--database-url", metavar="URL", help="An empty database to make the shop in.  [default: one of its own]")
@click.option("--port", type=whole_number, help="The port to listen on.  [default: STOCKSHIFT_PORT, else 8000]")
@click.option(
    "--items",
    type=click.IntRange(0, MOST_ITEMS),
    default=5_000,
    show_default=True,
    metavar="N",
    help="How many items a new shop has.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the shop is kept.  [default: STOCKSHIFT_DATA, else .stockshift]",
)
def demo_command(database_url: str | None, port: int | None, items: int, data: Path | None) -> None:
    """A shop to try everything on: its own PostgreSQL, thousands of items, not migrated yet, and served.

    It is made at the first start and kept. DATABASE_URL is left alone.
    """
    run_demo(load_settings(port=port, data=data), database_url, items)


def main() -> None:
    sys.exit(endings.run(cli, "stockshift"))
