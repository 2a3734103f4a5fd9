"""`stockshift rehearse`."""

from pathlib import Path

import click

from service import backups
from service.commands.options import backup_folder, database_url
from service.settings import load_settings


@click.command(short_help="Try the whole migration on a copy.")
@backup_folder
@click.option("--into", metavar="URL", help="An empty database to do it in.  [default: a server of its own]")
@database_url
def command(directory: Path, into: str | None, database_url: str | None) -> int:
    """Restore the backup in DIR into a scratch database, migrate that and verify it, and say how long each stage takes.

    The report is kept in DIR; the live database is not touched, but for its audit. Exit code 1: something differs.
    """
    return backups.rehearse_backup(load_settings(), database_url, into, directory)
