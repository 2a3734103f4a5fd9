"""`stockshift repair`: what is shown of each change, before it is made and after."""

import asyncio
from typing import Any

import click
import orjson

from migration.repair import SHOWN, Asked, Change, Repair, repair
from service.database import Database
from service.sessions import engine_for, who
from service.terminal import name, plain

TOLD = ("quantity", "status", "costPerUnitUSD", "locationId")
"""Of a batch that comes or goes as a whole."""

NOT_MENDED = {
    "conservation": "nobody recorded how, so nothing here mends it; compare with a backup",
    "originals": "nobody recorded who, so nothing here mends it; compare with a backup",
    "tables, keys and indexes": "`stockshift migrate` makes what is missing",
}
"""What to do about a check of UNNAMED."""


def repair_database(
    database: Database, lock_timeout_ms: int, accepted: tuple[str, ...], kept: tuple[str, ...], *, make: bool
) -> int:
    """Does what the command line says, and answers the exit code: 0 if nothing is wrong any more."""
    if both := set(accepted) & set(kept):
        raise click.UsageError(f"--accept-drift and --keep-batches exclude each other: {min(both)!r} is in both.")
    done = asyncio.run(_repair(database, Asked(who(), make, accepted, kept, lock_timeout_ms)))
    _show(done)
    return 0 if (done.made or not done.proposed) and not done.left_number and not done.failed else 1


async def _repair(database: Database, asked: Asked) -> Repair:
    async with engine_for(database, "stockshift repair") as engine:
        return await repair(engine, asked)


def _show(done: Repair) -> None:
    for step in done.steps:
        click.echo(f"MISSING {plain(step)}")
    for change in done.shown:
        click.echo(f"{change.kind} {name(change.item_id)}: {words(change)}")
    number = sum(done.changes.values())
    if number > SHOWN:
        click.echo(f"… and {number - SHOWN} more changes: {_counted(done.changes)}")
    for left in done.left:
        click.echo(f"LEFT {left.kind} {name(left.item_id)}: {plain(left.what)}")
    if done.left_number > SHOWN:
        click.echo(f"… and {done.left_number - SHOWN} more are left; `stockshift verify --json FILE` has all")
    for check in done.failed:
        click.echo(f"FAILED {check.name}: {plain(check.detail or '')}; {NOT_MENDED[check.name]}")
    if not done.proposed:
        wrong = done.left_number or done.failed
        click.echo("Nothing was changed: " + ("what is left is for you to decide." if wrong else "all is well."))
    elif not done.made:
        click.echo(f"Nothing was changed. `stockshift repair --yes` makes {_of(done)}.")
    else:
        proven = f", proven by verification {done.proof}" if done.proof is not None else ""
        click.echo(f"Made {_of(done)}{proven}.")


def _of(done: Repair) -> str:
    number = sum(done.changes.values())
    things = len(done.steps)
    steps = f"{things} thing{'s' if things > 1 else ''} that {'are' if things > 1 else 'is'} missing" if things else ""
    changes = f"{number} change{'s' if number > 1 else ''}" if number else ""
    return ", and ".join(part for part in (steps, changes) if part)


def _counted(changes: dict[str, int]) -> str:
    return ", ".join(f"{number} {kind}" for kind, number in changes.items())


def words(change: Change) -> str:
    """One change for a person, what is before it and after."""
    before, after = change.before or {}, change.after or {}
    batch = f"batch {name(change.batch_id)}" if change.batch_id else ""
    changed = ", ".join(f"{key} {_shown(before.get(key))} -> {_shown(value)}" for key, value in after.items())
    told = {
        "SET": f"{batch}: {changed}",
        "PUT_BACK": f"{batch} is put back: {_told(after)}",
        "REMOVE": f"{batch} is taken away, and kept in stockshift.repair_archive: {_told(before)}",
        "COPY": f"{batch} becomes its opening batch" if batch else f"is copied: {_told(after)}",
        "MOVE": f"a movement of {after.get('delta')} units is recorded",
        "FLAG": changed,
        "WRITE_BACK": f"its legacy columns: {changed}",
        "RECORD": f"the write of its legacy columns is recorded: {changed}",
        "SETTLE": f"its drift is settled: {after.get('settled')}",
    }
    return told[change.act]


def _told(batch: dict[str, Any]) -> str:
    return ", ".join(f"{key} {_shown(batch.get(key))}" for key in TOLD)


def _shown(value: object) -> str:
    if isinstance(value, str):
        return plain(value)
    return "NULL" if value is None else orjson.dumps(value).decode()
