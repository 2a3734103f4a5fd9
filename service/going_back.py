"""`stockshift rollback` and its undo: what is said before, and after."""

import asyncio

import click

from migration.exclusively import Actor
from migration.locks import DRIVER_PREFIX
from migration.rollback import Rehearsal, rehearse, roll_back
from migration.undo_rollback import Undone, undo_rollback
from service import terminal
from service.database import Database
from service.sessions import engine_for, who

SHOWN = 20


def rollback(database: Database, lock_timeout_ms: int, confirm: str | None, *, fold: bool, undo: bool) -> int:
    """Does what the command line says, and answers the exit code. Without `confirm` it only looks."""
    if confirm is None:
        if undo or fold:
            raise click.UsageError("--undo and --fold need --confirm with the database's name.")
        _say_rehearsal(asyncio.run(_rehearse(database)))
    elif undo:
        if fold:
            raise click.UsageError("--fold is for a rollback; --undo takes back what was folded.")
        _say_undone(asyncio.run(_undo(database, lock_timeout_ms, confirm)))
    else:
        _say_rolled_back(asyncio.run(_roll_back(database, lock_timeout_ms, confirm, fold=fold)))
    return 0


async def _rehearse(database: Database) -> Rehearsal:
    async with engine_for(database, "stockshift rollback") as engine:
        return await rehearse(engine)


async def _roll_back(database: Database, lock_timeout_ms: int, confirm: str, *, fold: bool) -> Rehearsal:
    async with engine_for(database, f"{DRIVER_PREFIX} rollback {who()}") as engine:
        with terminal.progress() as report:
            actor = Actor(who(), lock_timeout_ms=lock_timeout_ms, report=report)
            return await roll_back(engine, actor, confirm=confirm, fold=fold)


async def _undo(database: Database, lock_timeout_ms: int, confirm: str) -> Undone:
    async with engine_for(database, f"{DRIVER_PREFIX} rollback --undo {who()}") as engine:
        with terminal.progress() as report:
            actor = Actor(who(), lock_timeout_ms=lock_timeout_ms, report=report)
            return await undo_rollback(engine, actor, confirm=confirm)


def _say_rehearsal(found: Rehearsal) -> None:
    click.echo(f"A rollback of database {terminal.plain(found.database)} would archive {found.batches} batches.")
    _say_only_in_batches(found)
    for stays in found.stays:
        click.echo(f"Stays in place: {stays}.")
    click.echo(
        f"Nothing was written. `stockshift rollback --confirm {terminal.plain(found.database)}` rolls back; with "
        "--fold the quantities of these items go to the legacy columns."
    )


def _say_only_in_batches(found: Rehearsal) -> None:
    if not found.items:
        click.echo("The legacy columns tell of every unit: nothing exists only in batches.")
        return
    click.echo(
        f"Of {found.items} items something exists only in batches, {found.units:+} units against the legacy columns:"
    )
    for item in found.listed[:SHOWN]:
        click.echo(
            f"  {terminal.name(item.name, padded=True)} {item.legacy:>10} legacy {item.batches:>10} in batches"
            f"  {item.others} beside the opening batch  {terminal.plain(item.item_id)}"
        )
    if found.items > SHOWN:
        click.echo(f"  ... and {found.items - SHOWN} more")


def _say_rolled_back(done: Rehearsal) -> None:
    click.echo(
        f"Rolled back: {done.batches} batches, the copy ledger and every movement are in schema {done.archive}; "
        "items are answered from their legacy columns."
    )
    _say_only_in_batches(done)
    if done.items:
        click.echo(f"View {done.archive}.only_in_batches has all of them.")
    if done.folded:
        click.echo(
            f"Folded {done.folded} items into the legacy columns: {done.archive}.fold has each before and after."
        )
    click.echo(f"`stockshift rollback --undo --confirm {terminal.plain(done.database)}` puts everything back.")


def _say_undone(done: Undone) -> None:
    click.echo(
        f"Put back {done.batches} batches. Meanwhile the shop wrote {done.written} items, which their batches follow, "
        f"or is drift where they are cut over; made {done.inserted}, which `stockshift migrate` copies; and deleted "
        f"{done.deleted}."
    )
    if done.unfolded:
        click.echo(
            f"{done.unfolded} items that were folded have their legacy quantities again, less what was sold since."
        )
    if done.lost:
        click.echo(f"{done.lost} batches of items that are gone stay in {done.archive}.lost_batches.")
