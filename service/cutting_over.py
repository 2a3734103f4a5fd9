"""`stockshift cut-over`, `take-back` and `write-back`: which items are meant, and what is said of them."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import click

from db.engine import connecting
from db.shape import load_shape
from migration.cut_over import cut_over
from migration.in_chunks import Outcome, Refusal, Selection
from migration.options import UnknownLabel
from migration.take_back import take_back
from migration.write_back import set_write_back
from resolvers.cut_over import chosen_items
from resolvers.status import Status
from service import terminal
from service.database import Database, chosen_database
from service.sessions import engine_for, who
from service.settings import load_settings

SHOWN = 20
Verb = Literal["cut-over", "take-back"]
ACTS = {"cut-over": cut_over, "take-back": take_back}
DONE = {"cut-over": "Cut over", "take-back": "Took back"}


@dataclass(frozen=True)
class Meant:
    """The words of the command line that say which items."""

    ids: tuple[str, ...]
    everything: bool
    company: str | None
    status: tuple[str, ...]
    location: tuple[str, ...]

    @property
    def filter(self) -> Mapping[str, Any]:
        found = {
            "companyId": self.company,
            "statuses": [Status(label) for label in self.status] or None,
            "locationIds": list(self.location) or None,
        }
        return {name: value for name, value in found.items() if value is not None}

    def check(self) -> None:
        """Raises UsageError."""
        if [bool(self.ids), self.everything, bool(self.filter)].count(True) != 1:
            raise click.UsageError("say which items: their ids, --all, or --company, --status and --location.")


def on_the_command_line(verb: Verb, database_url: str | None, words: dict[str, Any]) -> int:
    """Does what the command line says, and answers the exit code: 1 if an item was refused."""
    meant = Meant(**words)
    meant.check()
    settings = load_settings()
    with chosen_database(settings, database_url) as database:
        outcome = asyncio.run(_act(database, settings.lock_timeout_ms, verb, meant))
    click.echo(f"{DONE[verb]} {_items(outcome.done)}.")
    return _say_refused(outcome.refused)


async def _act(database: Database, lock_timeout_ms: int, verb: Verb, meant: Meant) -> Outcome:
    async with engine_for(database, f"stockshift {verb}") as engine:
        async with connecting(engine) as connection:
            labels = (await load_shape(connection)).status_labels
        for label in meant.status:
            if label not in labels:
                raise UnknownLabel(f"{label!r} is no status of this database; give one of {', '.join(labels)}")
        selection = Selection(chosen_items(None, meant.filter), meant.ids or None)
        with terminal.progress() as report:
            act = ACTS[verb]
            return await act(engine, selection, actor=who(), lock_timeout_ms=lock_timeout_ms, progress=report)


def write_back(database: Database, lock_timeout_ms: int, *, on: bool) -> int:
    """Switches it, and answers the exit code: 1 if an item could not be brought up to date."""
    outcome = asyncio.run(_write_back(database, lock_timeout_ms, on=on))
    if on:
        click.echo(f"Write-back is on: of {_items(outcome.done)}, the legacy columns are as the batches say.")
    else:
        click.echo("Write-back is off: the legacy columns stay as they are.")
    return _say_refused(outcome.refused)


async def _write_back(database: Database, lock_timeout_ms: int, *, on: bool) -> Outcome:
    async with engine_for(database, "stockshift write-back") as engine:
        with terminal.progress() as report:
            return await set_write_back(engine, on=on, actor=who(), lock_timeout_ms=lock_timeout_ms, progress=report)


def _items(number: int) -> str:
    return f"{number} item{'' if number == 1 else 's'}"


def _say_refused(refused: Mapping[str, Refusal]) -> int:
    for item_id, refusal in sorted(refused.items())[:SHOWN]:
        click.echo(f"REFUSED {terminal.name(item_id)}: {terminal.plain(refusal.reason)}")
    if len(refused) > SHOWN:
        click.echo(f"… and {len(refused) - SHOWN} more; `stockshift verify --json FILE` has all that do not verify")
    return 1 if refused else 0
