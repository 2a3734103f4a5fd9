"""`stockshift token`."""

import click

from db.errors import StockshiftError
from resolvers.viewer import Role
from service.settings import load_settings
from service.tokens import issue_token, parse_ttl


@click.command(short_help="Print a token for a client.")
@click.option("--role", required=True, type=click.Choice([role.name.lower() for role in Role], case_sensitive=False))
@click.option("--company", metavar="ID", help="See this company only.  [default: all companies]")
@click.option("--ttl", default="1h", show_default=True, help="How long it is valid, such as 30m, 1h or 7d.")
@click.option("--subject", default="cli", show_default=True, help="Whom it is for, in reports and logs.")
def command(role: str, company: str | None, ttl: str, subject: str) -> None:
    """Print a token, signed with STOCKSHIFT_JWT_SECRET."""
    settings = load_settings()
    if settings.jwt_secret is None:
        raise StockshiftError("STOCKSHIFT_JWT_SECRET is not set, and only who has it can sign; set it as for `serve`")
    click.echo(
        issue_token(
            settings.jwt_secret.get_secret_value(),
            role=Role[role.upper()],
            company=company,
            ttl=parse_ttl(ttl),
            subject=subject,
            issuer=settings.jwt_issuer,
            audience=settings.jwt_audience,
        )
    )
