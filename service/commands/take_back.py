"""`stockshift take-back`."""

from typing import Any

import click

from service import cutting_over
from service.commands.options import database_url, which_items


@click.command(short_help="Undo a cut-over.")
@which_items
@database_url
def command(database_url: str | None, **words: Any) -> int:
    """Undo a cut-over: the legacy columns are the truth again, and take what became of the opening batch since.

    Exit code 1: some items are not taken back, as a program wrote their legacy columns since; they are named.
    """
    return cutting_over.on_the_command_line("take-back", database_url, words)
