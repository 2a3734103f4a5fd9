"""`stockshift rollback`."""

import click

from service import going_back
from service.commands.options import database_url
from service.database import chosen_database
from service.settings import load_settings


@click.command(short_help="Go back to the legacy columns.")
@database_url
@click.option("--confirm", metavar="DBNAME", help="The database's name: without it this only says what would be done.")
@click.option("--fold", is_flag=True, help="Put quantities that exist only in batches into the legacy columns.")
@click.option("--undo", is_flag=True, help="Put everything back as it was.")
def command(database_url: str | None, confirm: str | None, fold: bool, undo: bool) -> int:
    """Archive what was made since the migration, and answer items from their legacy columns for good.

    Batches, copy ledger and movements are moved to an archive; triggers, indexes and the flag go. Without --confirm it
    says what exists only in batches, and writes nothing. `stockshift read-source legacy` is the switch that changes
    nothing but the answers.
    """
    settings = load_settings()
    with chosen_database(settings, database_url) as database:
        return going_back.rollback(database, settings.lock_timeout_ms, confirm, fold=fold, undo=undo)
