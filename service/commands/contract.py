"""`stockshift contract`."""

import click

from service import contracting
from service.commands.options import database_url
from service.database import chosen_database
from service.settings import load_settings


@click.command(short_help="Drop the legacy columns, once nobody needs them.")
@database_url
@click.option("--confirm", metavar="DBNAME", help="The database's name: without it this only says what would be done.")
@click.option("--undo", is_flag=True, help="Put the legacy columns back as they were.")
def command(database_url: str | None, confirm: str | None, undo: bool) -> int:
    """Archive the legacy columns of items with their ids, and drop them: the last step, and optional.

    It is refused while a gate is closed. Without --confirm it shows the gates and what would be dropped, and writes
    nothing; exit code 1: a gate is closed. `--undo` puts the columns back with their values, keys and indexes; the shop
    waits while it writes every item.
    """
    settings = load_settings()
    with chosen_database(settings, database_url) as database:
        return contracting.on_the_command_line(database, settings.lock_timeout_ms, confirm, undo=undo)
