"""`stockshift serve`."""

import click

from service.commands.options import database_url, whole_number
from service.database import chosen_database
from service.server import listening, run_server
from service.settings import load_settings
from service.tokens import TokenVerifier


@click.command(short_help="Serve GraphQL.")
@database_url
@click.option("--host", help="The address to listen on.  [default: STOCKSHIFT_HOST, else 127.0.0.1]")
@click.option("--port", type=whole_number, help="The port to listen on.  [default: STOCKSHIFT_PORT, else 8000]")
@click.option("--workers", type=whole_number, help="How many processes serve.  [default: STOCKSHIFT_WORKERS, else 1]")
def command(database_url: str | None, host: str | None, port: int | None, workers: int | None) -> None:
    """Serve GraphQL at /graphql, with GraphiQL for a browser, /healthz and /readyz.

    Who may ask is told by STOCKSHIFT_JWT_SECRET or STOCKSHIFT_JWKS_URL; without them it does not start.
    """
    settings = load_settings(host=host, port=port, workers=workers)
    verifier = TokenVerifier.from_settings(settings)
    with listening(settings.host, settings.port) as listener, chosen_database(settings, database_url) as database:
        run_server(settings, database, verifier, listener)
