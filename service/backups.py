"""`stockshift backup`, `restore` and `rehearse`: where they work, and what is said at the end."""

import asyncio
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click
from sqlalchemy import text

from db.embedded import AlreadyRunningError, EmbeddedServer, embedded_server
from db.engine import connecting, create_engine
from db.errors import StockshiftError
from db.url import DatabaseUrl
from migration import rehearse as rehearsing
from migration.backup import back_up
from migration.manifest import Manifest, read_manifest
from migration.rehearse import Rehearsal, rehearse, tell_live
from migration.restore import Restored, restore
from service import terminal
from service.database import Database, chosen_database
from service.endings import Interrupted
from service.sessions import engine_for, who
from service.settings import Settings
from service.whole_file import NotWritable, replacing

SCRATCH = "rehearsal"
LISTED = 5


def make_backup(database: Database, lock_timeout_ms: int, directory: Path) -> int:
    made = asyncio.run(_back_up(database, lock_timeout_ms, directory))
    size = sum(file.bytes for file in made.files.values())
    click.echo(
        f"Backed up {_contents(made)} into {terminal.plain(str(directory))}: {len(made.files)} files, {size:,} bytes, "
        f"by pg_dump {made.pg_dump} from PostgreSQL {made.server}. `stockshift rehearse` tries it out."
    )
    return 0


async def _back_up(database: Database, lock_timeout_ms: int, directory: Path) -> Manifest:
    async with engine_for(database, "stockshift backup") as engine:
        with terminal.progress() as report:
            return await back_up(
                engine,
                DatabaseUrl.parse(database.direct),
                directory,
                made_by=who(),
                lock_timeout_ms=lock_timeout_ms,
                progress=report,
            )


def restore_backup(into: str, directory: Path) -> int:
    done = asyncio.run(_restore(into, directory))
    click.echo(f"Restored {_contents(done.manifest)} into PostgreSQL {done.server}; it is what was backed up.")
    return 0


async def _restore(into: str, directory: Path) -> Restored:
    async with engine_for(Database(into, into), "stockshift restore") as engine:
        with terminal.progress() as report:
            return await restore(engine, DatabaseUrl.parse(into), directory, progress=report)


def _contents(manifest: Manifest) -> str:
    contents = manifest.contents
    rows = sum(table.count for table in contents.tables.values())
    name = terminal.plain(str(manifest.database["name"]))
    batches = "" if contents.batches is None else f"{contents.batches:,} on batches, "
    return (
        f"{name!r} ({contents.totals.items:,} items, {contents.totals.quantity:,} units, {batches}{rows:,} rows in all)"
    )


def rehearse_backup(settings: Settings, live: str | None, into: str | None, directory: Path) -> int:
    """Restores, migrates and verifies in `into`, or on a server of its own; the live database is only told."""
    read_manifest(directory)
    report = directory / rehearsing.NAME
    if not os.access(directory, os.W_OK):
        raise NotWritable(f"{report} could not be written; rehearse a copy of {directory} in a folder you may write")
    try:
        with _scratch(settings.data, into) as url:
            rehearsal = asyncio.run(_rehearse(url, settings.lock_timeout_ms, directory))
    except KeyboardInterrupt as error:
        left = "what was not finished was undone" if into is None else "the scratch database is as it is now; drop it"
        raise Interrupted(left) from error
    _show(rehearsal)
    with replacing(report, private=True) as file:
        file.write(rehearsal.to_json())
    click.echo(f"The report is in {terminal.plain(str(report))}.")
    click.echo(_told(settings, live, rehearsal))
    if into is not None:
        click.echo("The scratch database is left as it is, for you to look at and to drop.")
    return 0 if rehearsal.matched else 1


async def _rehearse(url: str, lock_timeout_ms: int, directory: Path) -> Rehearsal:
    async with engine_for(Database(url, url), "stockshift rehearse") as engine:
        with terminal.progress() as report:
            return await rehearse(
                engine,
                DatabaseUrl.parse(url),
                directory,
                rehearsed_by=who(),
                lock_timeout_ms=lock_timeout_ms,
                progress=report,
            )


@contextmanager
def _scratch(data: Path, into: str | None) -> Iterator[str]:
    """An empty database: the one that is given, else of an embedded server that is removed with all it holds.

    What a rehearsal left that was killed is taken over, and removed with it.
    """
    if into is not None:
        yield into
        return
    folder = data / SCRATCH
    with _removed(folder), embedded_server(folder) as server:
        asyncio.run(_make_empty(server))
        yield server.url(SCRATCH)


@contextmanager
def _removed(folder: Path) -> Iterator[None]:
    """Unless there was no server to be had there: then another rehearsal has it."""
    busy = False
    try:
        yield
    except StockshiftError as error:
        busy = isinstance(error, AlreadyRunningError)
        raise
    finally:
        if not busy:
            with suppress(OSError):
                shutil.rmtree((folder / "postgres").resolve(strict=True))  # as root it may be kept elsewhere
            shutil.rmtree(folder, ignore_errors=True)


async def _make_empty(server: EmbeddedServer) -> None:
    engine = create_engine(DatabaseUrl.parse(server.url()), application_name="stockshift rehearse", pool_size=1)
    try:
        async with connecting(engine) as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(text(f"DROP DATABASE IF EXISTS {SCRATCH} WITH (FORCE)"))
            await connection.execute(text(f"CREATE DATABASE {SCRATCH}"))
    finally:
        await engine.dispose()


def _show(rehearsal: Rehearsal) -> None:
    click.echo(
        f"Rehearsed on PostgreSQL {rehearsal.server}: {rehearsal.items:,} items, {rehearsal.copied:,} copied now, "
        f"{rehearsal.held_back:,} held back."
    )
    for stage, seconds in rehearsal.seconds.items():
        click.echo(f"  {stage:8} {seconds:>10,.1f} s")
    for decision in rehearsal.decisions:
        fate = "held back" if decision.held_back else "taken"
        examples = ", ".join(map(terminal.name, decision.examples[:LISTED]))
        click.echo(f"  {decision.kind}: {decision.count} {fate}; {decision.outcome} ({examples})")
    for blocker in rehearsal.blockers:
        click.echo(f"BLOCKED: {terminal.plain(blocker)}", err=True)
    if rehearsal.verification is not None:
        terminal.show_report(rehearsal.verification)
    click.echo("It matched." if rehearsal.matched else "It did not match.")


def _told(settings: Settings, live: str | None, rehearsal: Rehearsal) -> str:
    """What is said of the live database's audit."""
    try:
        with chosen_database(settings, live) as database:
            told = asyncio.run(_tell(database, rehearsal))
    except StockshiftError as error:
        return f"It is not recorded in the live database: {terminal.plain(error.message)}"
    if told:
        return "It is recorded in the live database."
    return (
        "It is not recorded in the live database: that is not the one the backup is of, or it was never migrated; "
        "rehearse again once it was, for `stockshift contract` wants it."
    )


async def _tell(database: Database, rehearsal: Rehearsal) -> bool:
    async with engine_for(database, "stockshift rehearse") as engine:
        return await tell_live(engine, rehearsal, who())
