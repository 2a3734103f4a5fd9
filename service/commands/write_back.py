"""`stockshift write-back`."""

import click

from service import cutting_over
from service.commands.options import database_url
from service.database import chosen_database
from service.settings import load_settings


@click.command(short_help="Keep old readers right after a cut-over.")
@click.argument("switch", type=click.Choice(["on", "off"], case_sensitive=False))
@database_url
def command(switch: str, database_url: str | None) -> int:
    """Keep the legacy quantity, status and location of items that are cut over as their batches say, or stop it."""
    settings = load_settings()
    with chosen_database(settings, database_url) as database:
        return cutting_over.write_back(database, settings.lock_timeout_ms, on=switch == "on")
