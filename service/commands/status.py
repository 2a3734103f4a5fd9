"""`stockshift status`, with the plan of weeks and the gates of contract; or who did what."""

import asyncio

import click
import orjson

from db.engine import connecting
from db.shape import NotAShop, load_shape
from migration.gates import Gate, gates
from migration.history import Act, read_history
from migration.schedule import Stage, read_schedule
from migration.status import Status, read_status
from service import terminal
from service.commands.options import database_url
from service.database import Database, chosen_database
from service.sessions import engine_for
from service.settings import load_settings
from service.watch import watch


@click.command(short_help="How far the migration is.")
@database_url
@click.option("--watch", "watched", is_flag=True, help="Look every second, until the run has ended.")
@click.option("--history", is_flag=True, help="Who did what to the migration, when and from where, instead.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --watch a line a change.")
def command(database_url: str | None, watched: bool, history: bool, as_json: bool) -> None:
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
