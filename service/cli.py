"""The command line: one verb a function, each a thin caller of what the service calls too.

Exit codes: 0 done, 1 the answer is no (a mismatch, a blocker, a refusal), 2 it could not run.
"""

import asyncio
import dataclasses
import getpass
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path
from typing import BinaryIO, ParamSpec

import click
import orjson
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import connecting, create_engine
from db.errors import StockshiftError
from db.url import DatabaseUrl
from migration.atomic import NotVerified, migrate_atomic
from migration.blockers import Blocked
from migration.failures import Refused
from migration.locks import DRIVER_PREFIX, LockNotHad, MigrationRunning
from migration.plan import make_plan
from migration.read_source import set_read_source
from migration.report import load_report, to_json
from migration.status import read_status
from migration.verify import verify
from resolvers.viewer import Role
from schema import build_schema
from service import terminal
from service.database import Database, chosen_database
from service.demo import run_demo
from service.server import run_server
from service.settings import load_settings
from service.tokens import TokenVerifier, issue_token, parse_ttl

Parameters = ParamSpec("Parameters")
ATOMIC_ITEMS = 100_000


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="stockshift")
def cli() -> None:
    """A GraphQL stock service, and the way from one row per item to many batches without losing anything."""


def command(function: Callable[Parameters, int | None]) -> Callable[Parameters, None]:
    """Errors become one line on stderr and an exit code; a function's own answer is its exit code."""

    @wraps(function)
    def wrapped(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        try:
            sys.exit(function(*args, **kwargs) or 0)
        except REFUSALS as error:
            terminal.fail(error.message, 1)
        except StockshiftError as error:
            terminal.fail(error.message, 2)
        except DBAPIError as error:
            terminal.fail(f"the database answered: {str(error.orig).splitlines()[0]}", 2)
        except KeyboardInterrupt:
            terminal.fail("interrupted; what was not finished was undone", 130)

    return wrapped


REFUSALS = (Blocked, LockNotHad, MigrationRunning, NotVerified, Refused)

database_url = click.option("--database-url", metavar="URL", help="The shop's database. Default: DATABASE_URL.")


@asynccontextmanager
async def engine_for(database: Database, name: str) -> AsyncIterator[AsyncEngine]:
    """The unpooled engine of a command, without a limit on how long a statement may take."""
    engine = create_engine(
        DatabaseUrl.parse(database.direct), application_name=name, pool_size=2, statement_timeout_ms=0
    )
    try:
        yield engine
    finally:
        await engine.dispose()


def who() -> str:
    """Who drives, for the records: user, machine and process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()} pid {os.getpid()}"


@cli.command()
@database_url
@click.option("--sql", is_flag=True, help="Print the statements instead.")
@command
def plan(database_url: str | None, sql: bool) -> int:
    """Look at the database and say what a migration would do. Writes nothing."""

    async def run(database: Database) -> int:
        async with engine_for(database, "stockshift plan") as engine:
            found = await make_plan(engine)
        (terminal.show_sql if sql else terminal.show_plan)(found)
        return 0 if found.ready else 1

    with chosen_database(load_settings(), database_url) as database:
        return asyncio.run(run(database))


@cli.command()
@database_url
@click.option("--atomic", is_flag=True, help=f"In one transaction, however many items. Default up to {ATOMIC_ITEMS:,}.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@command
def migrate(database_url: str | None, atomic: bool, yes: bool) -> int:
    """Copy every item to batches, in one transaction that is kept only if every item verifies."""
    settings = load_settings()

    async def run(database: Database) -> int:
        async with engine_for(database, f"{DRIVER_PREFIX} {who()}") as engine:
            found = await make_plan(engine)
            if found.ready and found.steps:
                if found.to_copy > ATOMIC_ITEMS and not atomic:
                    message = f"{found.to_copy} items are more than {ATOMIC_ITEMS}, and the shop could not write"
                    terminal.fail(f"{message} while they are copied; add --atomic to do it all the same", 1)
                _confirm(f"Copy {found.to_copy} items of database {found.database!r} to batches?", yes)
            with terminal.progress() as report:
                done = await migrate_atomic(
                    engine, driver=who(), lock_timeout_ms=settings.lock_timeout_ms, progress=report
                )
        if done.verification is None:
            click.echo(f"Nothing was left to do; {done.held_back} items are held back.")
        else:
            click.echo(
                f"Copied {done.copied} items ({done.adopted} had their batch already), {done.held_back} held back; "
                f"verified as number {done.verification}."
            )
        return 0

    with chosen_database(settings, database_url) as database:
        return asyncio.run(run(database))


def _confirm(question: str, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        terminal.fail("nobody is there to be asked; add --yes to go ahead", 2)
    if not click.confirm(question):
        terminal.fail("nothing was changed", 1)


@cli.command()
@database_url
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@command
def status(database_url: str | None, as_json: bool) -> None:
    """How far the migration is."""

    async def run(database: Database) -> None:
        async with engine_for(database, "stockshift status") as engine, connecting(engine) as connection:
            found = await read_status(connection, None)
        if as_json:
            click.echo(orjson.dumps(dataclasses.asdict(found), option=orjson.OPT_INDENT_2))
        else:
            terminal.show_status(found)

    with chosen_database(load_settings(), database_url) as database:
        asyncio.run(run(database))


@cli.command("verify")
@database_url
@click.option("--json", "json_file", type=click.File("wb", lazy=True), help="Write the report here; - for stdout.")
@click.option("--csv", "csv_file", type=click.File("wb", lazy=True), help="Write a line an item here.")
@command
def verify_command(database_url: str | None, json_file: BinaryIO | None, csv_file: BinaryIO | None) -> int:
    """Compare both systems item by item, in one snapshot, and keep the report."""

    async def run(database: Database) -> int:
        async with engine_for(database, "stockshift verify") as engine:
            verified = await verify(engine, requested_by=who(), items_csv=csv_file)
            async with connecting(engine) as connection:
                report = await load_report(connection, verified.id, None)
        if report is None:
            raise StockshiftError(f"report {verified.id} was deleted while it was made")
        if json_file is not None:
            json_file.write(to_json(report))
        else:
            terminal.show_report(report)
        return 0 if verified.passed else 1

    with chosen_database(load_settings(), database_url) as database:
        return asyncio.run(run(database))


@cli.command("read-source")
@click.argument("source", type=click.Choice(["auto", "legacy"], case_sensitive=False))
@database_url
@command
def read_source(source: str, database_url: str | None) -> None:
    """Answer items from their batches (auto), or everything from the legacy columns (legacy)."""

    async def run(database: Database) -> None:
        name = "stockshift read-source"
        async with engine_for(database, name) as engine, connecting(engine) as connection, connection.begin():
            await set_read_source(connection, "LEGACY" if source.lower() == "legacy" else "AUTO")
        click.echo(f"Reads come from {source.upper()} now, in every process.")

    with chosen_database(load_settings(), database_url) as database:
        asyncio.run(run(database))


@cli.command()
@click.option("--role", required=True, type=click.Choice([role.name.lower() for role in Role], case_sensitive=False))
@click.option("--company", metavar="ID", help="See this company only. Default: all companies.")
@click.option("--ttl", default="1h", show_default=True, help="How long it is valid, such as 30m, 1h or 7d.")
@click.option("--subject", default="cli", show_default=True, help="Whom it is for, in reports and logs.")
@command
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


@cli.command("schema")
@command
def schema_command() -> None:
    """Print the schema (SDL)."""
    click.echo(build_schema().as_str())


@cli.command()
@database_url
@click.option("--host", help="The address to listen on.")
@click.option("--port", type=int, help="The port to listen on.")
@click.option("--workers", type=int, help="How many processes serve.")
@command
def serve(database_url: str | None, host: str | None, port: int | None, workers: int | None) -> int:
    """Serve GraphQL."""
    settings = load_settings(host=host, port=port, workers=workers)
    verifier = TokenVerifier.from_settings(settings)
    with chosen_database(settings, database_url) as database:
        return run_server(settings, database, verifier)


@cli.command("demo")
@database_url
@click.option("--port", type=int, help="The port to listen on.  [default: 8000]")
@click.option("--items", default=5_000, show_default=True, help="How many items a new shop has.")
@click.option("--data", type=click.Path(path_type=Path), help="Where the shop is kept.  [default: STOCKSHIFT_DATA]")
@command
def demo_command(database_url: str | None, port: int | None, items: int, data: Path | None) -> int:
    """A shop to try everything on: its own PostgreSQL, thousands of items, not migrated yet, and served."""
    settings = load_settings(port=port, data=data, host="127.0.0.1", workers=1)
    return run_demo(settings, database_url, items)


def main() -> None:
    cli(prog_name="stockshift")
