"""`stockshift contract` and its undo: what is said before, and after."""

import asyncio

import click

from migration.contract import Contracted, Preview, contract, preview
from migration.exclusively import Actor
from migration.locks import DRIVER_PREFIX
from migration.undo_contract import Restored, undo_contract
from service import terminal
from service.database import Database
from service.sessions import engine_for, who


def on_the_command_line(database: Database, lock_timeout_ms: int, confirm: str | None, *, undo: bool) -> int:
    """Does what the command line says, and answers the exit code. Without `confirm` it only looks."""
    if confirm is None:
        if undo:
            raise click.UsageError("--undo needs --confirm with the database's name.")
        return _say_preview(asyncio.run(_preview(database)))
    if undo:
        _say_restored(asyncio.run(_undo(database, lock_timeout_ms, confirm)))
    else:
        _say_contracted(asyncio.run(_contract(database, lock_timeout_ms, confirm)), confirm)
    return 0


async def _preview(database: Database) -> Preview:
    async with engine_for(database, "stockshift contract") as engine:
        return await preview(engine)


async def _contract(database: Database, lock_timeout_ms: int, confirm: str) -> Contracted:
    async with engine_for(database, f"{DRIVER_PREFIX} contract {who()}") as engine:
        with terminal.progress() as report:
            return await contract(engine, Actor(who(), lock_timeout_ms=lock_timeout_ms, report=report), confirm=confirm)


async def _undo(database: Database, lock_timeout_ms: int, confirm: str) -> Restored:
    async with engine_for(database, f"{DRIVER_PREFIX} contract --undo {who()}") as engine:
        with terminal.progress() as report:
            actor = Actor(who(), lock_timeout_ms=lock_timeout_ms, report=report)
            return await undo_contract(engine, actor, confirm=confirm)


def _say_preview(found: Preview) -> int:
    terminal.show_gates(found.gates)
    if found.columns:
        click.echo("\nWould be archived, and dropped from items:")
        named = {"columns": found.columns, "indexes": found.indexes, "keys": found.keys}
        for what, names in named.items():
            click.echo(f"  {what:8} {terminal.plain(', '.join(names) or '-')}")
    closed = sum(not gate.open for gate in found.gates)
    if closed:
        click.echo(f"\nNothing was written. {closed} of {len(found.gates)} gates are closed.")
    else:
        name = terminal.plain(found.database)
        click.echo(f"\nNothing was written. `stockshift contract --confirm {name}` drops them.")
    return 1 if closed else 0


def _say_contracted(done: Contracted, database: str) -> None:
    click.echo(
        f"Contracted: the legacy columns of {done.items} items are in {done.archive}.legacy, and no longer in items; "
        "every item is answered as before, from its batches."
    )
    click.echo(f"`stockshift contract --undo --confirm {terminal.plain(database)}` puts them back.")


def _say_restored(done: Restored) -> None:
    click.echo(f"Put back the legacy columns of {done.restored} items, as they were, with their keys and indexes.")
    if done.made_since:
        click.echo(f"{done.made_since} items were made since, and have them from their batches.")
    if done.kept:
        click.echo(f"{done.kept} items were deleted since: theirs stay in {done.archive}.legacy.")
