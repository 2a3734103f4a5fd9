"""The command line: one verb a function, each a thin caller of what the service calls too."""

import asyncio
import dataclasses
import getpass
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
import click
import orjson
import stamina
from sqlalchemy.ext.asyncio import AsyncEngine

from db.demo_shop import MOST_ITEMS
from db.engine import connecting, create_engine
from db.errors import StockshiftError
from db.shape import load_shape
from db.url import DatabaseUrl
from migration.atomic import Migrated, migrate_atomic
from migration.failures import ConnectionLost, explained
from migration.locks import DRIVER_PREFIX
from migration.plan import Plan, make_plan
from migration.read_source import set_read_source
from migration.report import VerificationReport, load_report, to_json
from migration.status import Status, read_status
from migration.verify import ByteSink, verify
from resolvers.reader import NotAShop
from resolvers.viewer import Role
from schema import build_schema
from service import endings, terminal
from service.database import Database, chosen_database
from service.demo import run_demo
from service.endings import Declined
from service.server import listening, run_server
from service.settings import load_settings
from service.tokens import TokenVerifier, issue_token, parse_ttl
from service.whole_file import whole_file

ATOMIC_ITEMS = 100_000


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


@asynccontextmanager
async def engine_for(database: Database, name: str) -> AsyncIterator[AsyncEngine]:
    """The unpooled engine of a command, without a limit on how long a statement may take.

    What the database refuses in the block is raised as `explained` says.
    """
    stamina.instrumentation.set_on_retry_hooks([])  # they print; who waits in vain is told at the end what for
    engine = create_engine(
        DatabaseUrl.parse(database.direct), application_name=name, pool_size=2, statement_timeout_ms=0
    )
    try:
        async with explained(engine):
            yield engine
    except (asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError) as error:  # from below SQLAlchemy
        raise ConnectionLost from error
    finally:
        await engine.dispose()


def who() -> str:
    """Who drives, for the records: user, machine and process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()} pid {os.getpid()}"


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


@cli.command(short_help="Copy every item to batches, or change nothing.")
@database_url
@click.option("--atomic", is_flag=True, help=f"In one transaction, even for more than {ATOMIC_ITEMS:,} items.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def migrate(database_url: str | None, atomic: bool, yes: bool) -> None:
    """Copy every item to batches, in one transaction that is kept only if every item verifies.

    Meanwhile the shop can read its items but not write them. Safe to run again: what was copied stays as it is.
    """
    settings = load_settings()
    with chosen_database(settings, database_url) as database:
        found = asyncio.run(_plan(database))
        if found.ready and found.steps:
            if found.to_copy > ATOMIC_ITEMS and not atomic:
                raise Declined(
                    f"{found.to_copy} items are more than {ATOMIC_ITEMS}, and the shop could not write while they are "
                    f"copied, for about {found.seconds:.0f} s; add --atomic to do it all the same"
                )
            if not yes:
                _confirm(f"Copy {found.to_copy} items of database {terminal.plain(found.database)!r} to batches?")
        done = asyncio.run(_migrate(database, settings.lock_timeout_ms))
    if done.verification is None:
        click.echo(f"Nothing was left to do; {done.held_back} items are held back.")
        return
    click.echo(
        f"Copied {done.copied} items ({done.adopted} had their batch already), {done.held_back} held back; "
        f"verified as number {done.verification}."
    )
    if done.mismatched:
        click.echo(f"{done.mismatched} items differ for reasons from before; `stockshift verify` names them.")


async def _migrate(database: Database, lock_timeout_ms: int) -> Migrated:
    async with engine_for(database, f"{DRIVER_PREFIX} {who()}") as engine:
        with terminal.progress() as report:
            return await migrate_atomic(engine, driver=who(), lock_timeout_ms=lock_timeout_ms, progress=report)


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("nobody is there to be asked; add --yes to go ahead.")
    if not click.confirm(question):
        raise Declined


@cli.command(short_help="How far the migration is.")
@database_url
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(database_url: str | None, as_json: bool) -> None:
    """How far the migration is: items, how many are copied and held back, and where reads come from."""
    with chosen_database(load_settings(), database_url) as database:
        found = asyncio.run(_status(database))
    if as_json:
        click.echo(orjson.dumps(dataclasses.asdict(found), option=orjson.OPT_INDENT_2))
    else:
        terminal.show_status(found)


async def _status(database: Database) -> Status:
    async with engine_for(database, "stockshift status") as engine, connecting(engine) as connection:
        if not (await load_shape(connection)).is_a_shop:
            raise NotAShop
        return await read_status(connection, None)


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
        await set_read_source(connection, "LEGACY" if source == "legacy" else "AUTO")


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
def schema_command() -> None:
    """Print the schema (SDL)."""
    click.echo(build_schema().as_str())


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
