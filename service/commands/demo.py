"""`stockshift demo`."""

from pathlib import Path

import click

from db.demo_shop import MOST_ITEMS
from service.commands.options import whole_number
from service.demo import run_demo
from service.settings import load_settings


@click.command(short_help="A shop to try everything on.")
@click.option("--database-url", metavar="URL", help="An empty database to make the shop in.  [default: one of its own]")
@click.option("--port", type=whole_number, help="The port to listen on.  [default: STOCKSHIFT_PORT, else 8000]")
@click.option(
    "--items",
    type=click.IntRange(0, MOST_ITEMS),
    default=5_000,
    show_default=True,
    metavar="N",
    help="How many items a new shop has.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the shop is kept.  [default: STOCKSHIFT_DATA, else .stockshift]",
)
def command(database_url: str | None, port: int | None, items: int, data: Path | None) -> None:
    """A shop to try everything on: its own PostgreSQL, thousands of items, not migrated yet, and served.

    It is made at the first start and kept. DATABASE_URL is left alone.
    """
    run_demo(load_settings(port=port, data=data), database_url, items)
