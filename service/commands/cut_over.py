"""`stockshift cut-over`."""

from typing import Any

import click

from service import cutting_over
from service.commands.options import database_url, which_items


@click.command(short_help="Make their batches the truth of items.")
@which_items
@database_url
def command(database_url: str | None, **words: Any) -> int:
    """Mark items as migrated: from then on their batches are the truth, and a write of the legacy columns is drift.

    Each is copied if it never was, verified, and marked in one transaction, beside a shop that goes on selling. Safe to
    run again. Exit code 1: some items do not verify, and are named; the others are cut over.
    """
    return cutting_over.on_the_command_line("cut-over", database_url, words)
