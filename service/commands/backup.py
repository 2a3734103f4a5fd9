"""`stockshift backup`."""

from pathlib import Path

import click

from service import backups
from service.commands.options import backup_folder, database_url
from service.database import chosen_database
from service.settings import load_settings


@click.command(short_help="Back the database up.")
@backup_folder
@database_url
def command(directory: Path, database_url: str | None) -> int:
    """Back the database up into DIR, which must not be there: a dump, CSV files and a manifest, all of one instant.

    The shop goes on meanwhile. Only you can read the files.
    """
    settings = load_settings()
    with chosen_database(settings, database_url) as database:
        return backups.make_backup(database, settings.lock_timeout_ms, directory)
