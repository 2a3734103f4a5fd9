"""What several commands take."""

from pathlib import Path
from typing import Any

import click

database_url = click.option(
    "--database-url", metavar="URL", help="The shop's database.  [default: DATABASE_URL, else the demo's]"
)
whole_number = click.IntRange(min=0)
backup_folder = click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))


def which_items(command: Any) -> Any:
    """The words that say which items a command is for."""
    options = (
        click.argument("ids", nargs=-1, metavar="[ID ...]"),
        click.option("--all", "everything", is_flag=True, help="Every item."),
        click.option("--company", metavar="ID", help="The items of this company."),
        click.option("--status", multiple=True, metavar="LABEL", help="Items with stock in this status."),
        click.option("--location", multiple=True, metavar="ID", help="Items with stock at this location."),
    )
    for option in reversed(options):
        command = option(command)
    return command
