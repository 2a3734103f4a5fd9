"""`stockshift schema`."""

import click

from schema import build_schema
from service.prisma import prisma_snippet


@click.command(short_help="Print the schema (SDL).")
@click.option("--prisma", is_flag=True, help="Print what your schema.prisma needs instead.")
def command(prisma: bool) -> None:
    """Print the schema (SDL).

    With --prisma: the model of the batches and the lines for your own models, so that `prisma db push` finds a
    migrated database in sync with your schema.prisma instead of dropping what it does not know.
    """
    click.echo(prisma_snippet() if prisma else build_schema().as_str(), nl=not prisma)
