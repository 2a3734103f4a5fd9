"""`stockshift restore`."""

from pathlib import Path

import click

from service import backups
from service.commands.options import backup_folder


@click.command(short_help="Restore a backup into an empty database.")
@backup_folder
@click.option("--into", required=True, metavar="URL", help="The empty database.")
def command(directory: Path, into: str) -> int:
    """Restore the backup in DIR into an empty database, and prove that it is what was backed up.

    Exit code 1: the backup is not as it was made, the database is not empty or cannot take it; nothing was written.
    """
    return backups.restore_backup(into, directory)
