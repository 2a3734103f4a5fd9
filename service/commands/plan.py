"""`stockshift plan`."""

import asyncio

import click

from migration.plan import Plan, make_plan
from service import terminal
from service.commands.options import database_url
from service.database import Database, chosen_database
from service.sessions import engine_for
from service.settings import load_settings


@click.command(short_help="Say what a migration would do; writes nothing.")
@database_url
@click.option("--sql", is_flag=True, help="Print the statements instead.")
def command(database_url: str | None, sql: bool) -> int:
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
