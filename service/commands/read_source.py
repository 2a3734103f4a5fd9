"""`stockshift read-source`."""

import asyncio

import click

from db.engine import connecting
from migration.read_source import set_read_source
from service.commands.options import database_url
from service.database import Database, chosen_database
from service.sessions import engine_for, who
from service.settings import load_settings


@click.command(short_help="Choose where items are answered from.")
@click.argument("source", type=click.Choice(["auto", "legacy"], case_sensitive=False))
@database_url
def command(source: str, database_url: str | None) -> None:
    """Answer items from their batches (auto), or everything from the legacy columns (legacy)."""
    with chosen_database(load_settings(), database_url) as database:
        asyncio.run(_set_read_source(database, source))
    click.echo(f"Reads come from {source.upper()} now, in every process.")


async def _set_read_source(database: Database, source: str) -> None:
    name = "stockshift read-source"
    async with engine_for(database, name) as engine, connecting(engine) as connection, connection.begin():
        await set_read_source(connection, "LEGACY" if source == "legacy" else "AUTO", who())
