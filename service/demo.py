"""`stockshift demo`: a shop that is made once and kept, served with tokens that are good for this run."""

import asyncio
import os
import secrets
import shlex
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from datetime import timedelta

import click
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from db.demo_shop import DEMO_COMPANIES, load_demo_shop
from db.engine import connecting, create_engine
from db.url import DatabaseUrl
from resolvers.viewer import Role
from service.database import EMBEDDED_DATABASE, Database, own_database
from service.keys import SharedSecret
from service.server import listening, run_server
from service.settings import Settings
from service.tokens import TokenVerifier, issue_token

LIFETIME = timedelta(days=7)
LOOPBACK = ("127.0.0.1", "localhost")
MANY_ITEMS = 50_000


def run_demo(settings: Settings, given: str | None, items: int) -> None:
    """Makes the shop if it is not there yet, says what to try, and serves until told to stop.

    Anybody on this machine is let in by the page, so nobody else may reach it: it listens on the loopback alone and
    answers to no other name. AddressTaken is raised before anything is made.
    """
    settings = settings.model_copy(update={"host": LOOPBACK[0], "workers": 1, "allowed_hosts": LOOPBACK})
    secret = secrets.token_hex(32)
    with ExitStack() as stack:
        listener = stack.enter_context(listening(settings.host, settings.port))
        if given is None and "DATABASE_URL" in os.environ:
            click.echo("DATABASE_URL is left alone: a demo never touches a shop. It has a database of its own.")
        url = given or stack.enter_context(own_database(settings.data))
        if items >= MANY_ITEMS:
            click.echo(f"A shop of {items:,} items takes a while to make, about a minute a million.")
        made = asyncio.run(_prepare(url, items, own_server=given is None))
        click.echo(f"A shop of {items:,} items was made." if made else "The shop of an earlier run is kept as it is.")
        tokens = {
            role: issue_token(secret, role=role, company=None, ttl=LIFETIME, subject=f"demo-{role.name.lower()}")
            for role in Role
        }
        address = f"http://{LOOPBACK[0]}:{listener.getsockname()[1]}"
        click.echo(_what_to_try(address, tokens, _company_token(secret), None if given else url, settings))
        headers = {"Authorization": f"Bearer {tokens[Role.ADMIN]}"}
        run_server(settings, Database(url, url), TokenVerifier(SharedSecret(secret)), listener, headers)


def _company_token(secret: str) -> str:
    company = DEMO_COMPANIES[0]
    return issue_token(secret, role=Role.STAFF, company=company.id, ttl=LIFETIME, subject="demo-company-staff")


def _what_to_try(
    address: str, tokens: dict[Role, str], company_token: str, own_url: str | None, settings: Settings
) -> str:
    """`own_url`: of the demo's own database. That of another may hold a password, and is known to whoever gave it."""
    program = shlex.quote(sys.argv[0])
    listed = "\n".join(f"  {role.name:8} {token}" for role, token in tokens.items())
    shell = (
        f":\n  export DATABASE_URL={shlex.quote(own_url)}" if own_url else " with DATABASE_URL set to this database:"
    )
    kept = f"; the shop is kept in {settings.data}" if own_url else ""
    return f"""
GraphiQL      {address}/graphql   (signed in as an admin)

Tokens, good for this run (Authorization: Bearer ...):
{listed}
  {Role.STAFF.name:8} of {DEMO_COMPANIES[0].name} only: {company_token}

Try, in another shell{shell}
  {program} plan                 what a migration would do; writes nothing
  {program} migrate --yes        copy every item to batches, or nothing at all
  {program} verify               compare both systems
and ask item demo-item-1 in GraphiQL before and after. Ctrl-C ends it{kept}.
"""


async def _prepare(url: str, items: int, *, own_server: bool) -> bool:
    """Makes the shop; answers whether it did, or found one. Half a shop is never found: it has another name yet."""
    target = DatabaseUrl.parse(url)
    if not own_server:
        async with _engine(target) as engine, connecting(engine) as connection, connection.begin():
            await load_demo_shop(connection, items=items)
        return True
    loading = f"{EMBEDDED_DATABASE}_loading"
    async with _engine(target.with_database("postgres")) as admin, connecting(admin) as connection:
        await connection.execution_options(isolation_level="AUTOCOMMIT")
        known = text("SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = :name)")
        if await connection.scalar(known, {"name": EMBEDDED_DATABASE}):
            return False
        await connection.execute(text(f"DROP DATABASE IF EXISTS {loading} WITH (FORCE)"))
        await connection.execute(text(f"CREATE DATABASE {loading}"))
        async with _engine(target.with_database(loading)) as engine, connecting(engine) as shop, shop.begin():
            await load_demo_shop(shop, items=items)
        await connection.execute(text(f"ALTER DATABASE {loading} RENAME TO {EMBEDDED_DATABASE}"))
    return True


@asynccontextmanager
async def _engine(url: DatabaseUrl) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(url, application_name="stockshift demo", pool_size=1, statement_timeout_ms=0)
    try:
        yield engine
    finally:
        await engine.dispose()
