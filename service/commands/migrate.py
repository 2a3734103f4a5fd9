"""`stockshift migrate`."""

from typing import Any

import click

from service import migrating
from service.commands.options import database_url
from service.database import chosen_database
from service.migrating import Asked
from service.settings import load_settings


class SeveralItems(click.Command):
    """`--items A B C` is `--items A --items B --items C`. An id that begins with - is written --items=-A."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words: list[str] = []
        several = False
        for word in args:
            if word.startswith("-"):
                if words[-1:] == ["--items"]:
                    break  # click says what is missing
                several = word == "--items"
            elif several and words[-1] != "--items":
                words.append("--items")
            words.append(word)
        return super().parse_args(ctx, words)


@click.command(cls=SeveralItems, short_help="Copy every item to batches.")
@database_url
@click.option("--atomic", is_flag=True, help="In one transaction, or nothing at all; the shop cannot write meanwhile.")
@click.option("--online", is_flag=True, help="In small transactions, beside a shop that goes on selling.")
@click.option("--items", multiple=True, metavar="ID ...", help="These alone.")
@click.option("--chunk-size", type=click.IntRange(min=1), metavar="N", help="At most so many items at once.  [online]")
@click.option(
    "--throttle",
    multiple=True,
    metavar="WORD",
    help="Hold back: sleep=R times as long as a chunk takes; while a replica is more than lag=S seconds behind, or "
    "more than active=N sessions are at work; to wal=M MB of log a second.  [online]",
)
@click.option("--null-cost", metavar="AMOUNT", help="The cost of items that have none.")
@click.option("--null-order-date", metavar="DATE", help="Their order date: today, or YYYY-MM-DD[THH:MM:SS.mmm], UTC.")
@click.option("--null-status", metavar="LABEL", help="Their status.")
@click.option("--pause", is_flag=True, help="Have the run that is under way stop, wherever it is driven.")
@click.option("--resume", is_flag=True, help="Go on with a run that was paused, or was interrupted.")
@click.option("--cancel", is_flag=True, help="End the run; what was copied stays.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def command(database_url: str | None, **words: Any) -> int:
    """Copy every item to batches: up to 100,000 in one transaction, more beside a shop that goes on selling.

    Safe to run again: what was copied stays as it is, and a run that was paused or interrupted goes on. Items that
    cannot be copied as they stand are held back; `stockshift plan` names them.
    """
    asked = Asked(**words)
    options = asked.options()
    settings = load_settings()
    with chosen_database(settings, database_url) as database:
        return migrating.migrate(database, settings.lock_timeout_ms, asked, options)
