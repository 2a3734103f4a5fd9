"""`stockshift demo`: a shop that is made once and kept, served with tokens that are good for this run."""

import asyncio
import secrets
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
from service.database import EMBEDDED_DATABASE, Database, embedded_database
from service.keys import SharedSecret
from service.server import run_server
from service.settings import Settings
from service.tokens import TokenVerifier, issue_token

LIFETIME = timedelta(days=7)
LOOPBACK = ("127.0.0.1", "localhost")


def run_demo(settings: Settings, given: str | None, items: int) -> int:
    """Makes the shop if it is not there yet, says what to try, and serves until told to stop."""
    secret = secrets.token_hex(32)
    settings = settings.model_copy(update={"allowed_hosts": LOOPBACK})
    verifier = TokenVerifier(SharedSecret(secret))
    with ExitStack() as stack:
        url = given or stack.enter_context(embedded_database(settings.data))
        made = asyncio.run(_prepare(url, items, own_server=given is None))
        company = DEMO_COMPANIES[0]
        tokens = {
            role: issue_token(secret, role=role, company=None, ttl=LIFETIME, subject=f"demo-{role.name.lower()}")
            for role in Role
        }
        scoped = issue_token(secret, role=Role.STAFF, company=company.id, ttl=LIFETIME, subject="demo-company-staff")
        address = f"http://127.0.0.1:{settings.port}"
        click.echo(f"A shop of {items} items was made." if made else "The shop of an earlier run is kept as it is.")
        click.echo(f"""
GraphiQL      {address}/graphql   (signed in as an admin)
Database      {url}

Tokens, good for this run (Authorization: Bearer ...):""")
        for role, token in tokens.items():
            click.echo(f"  {role.name:8} {token}")
        click.echo(f"  {'STAFF':8} of {company.name} only: {scoped}")
        click.echo(f"""
Try, in another shell:
  export DATABASE_URL='{url}'
  .venv/bin/stockshift plan                 what a migration would do; writes nothing
  .venv/bin/stockshift migrate --yes        copy every item to batches, or nothing at all
  .venv/bin/stockshift verify               compare both systems
and ask item demo-item-1 in GraphiQL before and after. Ctrl-C ends it; the shop is kept in {settings.data}.
""")
        headers = {"Authorization": f"Bearer {tokens[Role.ADMIN]}"}
        return run_server(settings, Database(url, url), verifier, headers)


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
