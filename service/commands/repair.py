"""`stockshift repair`."""

import click

from service import repairing
from service.commands.options import database_url
from service.database import chosen_database
from service.settings import load_settings


@click.command(short_help="Put right what a verification finds.")
@database_url
@click.option("--yes", is_flag=True, help="Make the changes; without it they are only shown.")
@click.option("--accept-drift", multiple=True, metavar="ID", help="Write this item's drift into its batches.")
@click.option("--keep-batches", multiple=True, metavar="ID", help="Let this item's batches stand; settles its drift.")
def command(database_url: str | None, yes: bool, accept_drift: tuple[str, ...], keep_batches: tuple[str, ...]) -> int:
    """Verify, and show what would put right each thing that is wrong, before and after; with --yes, make it so.

    All of it is one transaction with the verification that proves it; what does not prove right is undone. Exit code 1:
    something is left, and is named with what to do.
    """
    settings = load_settings()
    with chosen_database(settings, database_url) as database:
        return repairing.repair_database(database, settings.lock_timeout_ms, accept_drift, keep_batches, make=yes)
