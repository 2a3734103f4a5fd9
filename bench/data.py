"""The shop that everybody is measured on: its server, its rows, and a random sample of what to ask for.

Beside copied items the shop has what R1 is about: items that were never copied and answer from their legacy columns,
and items that were copied and whose batches are gone.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import text

from bench.sql import statements
from db.demo_shop import load_demo_shop
from db.embedded import EmbeddedServer, embedded_server
from db.engine import create_engine
from db.url import DatabaseUrl
from migration.atomic import migrate_atomic

LEGACY_SHARE = 100  # one item in so many is added after the migration, and stays on its legacy columns

# What a server of a few GB is set to in production. JIT is off, as poolers and hosts of PostgreSQL advise for short
# statements. Nothing is written while it is measured, so what a crash would lose does not matter.
SETTINGS: Mapping[str, str] = {
    "shared_buffers": "1GB",
    "effective_cache_size": "3GB",
    "work_mem": "16MB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "4GB",
    "random_page_cost": "1.1",
    "max_connections": "200",
    "autovacuum": "off",  # what it would do is done once, after loading
    "jit": "off",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
}


@contextmanager
def server(settings: Mapping[str, str] | None = None) -> Iterator[EmbeddedServer]:
    """A server of our own in a temporary folder; PG_BINDIR chooses its programs."""
    with TemporaryDirectory(prefix="stockshift-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # root's server runs as another user, who must reach it
        with embedded_server(Path(folder), settings={**SETTINGS, **(settings or {})}) as running:
            yield running


async def load(url: str, items: int) -> None:
    """A migrated shop of so many items in an empty database, with about 3 batches each."""
    engine = create_engine(DatabaseUrl.parse(url), application_name="bench load", statement_timeout_ms=0)
    try:
        legacy = items // LEGACY_SHARE
        async with engine.begin() as connection:
            await load_demo_shop(connection, items=items - legacy)
            await connection.execute(text("ANALYZE"))  # a shop that was not made this minute has statistics
        await migrate_atomic(engine, driver="bench")
        async with engine.begin() as connection:
            for statement in statements("data.sql"):
                await connection.execute(text(statement), {"legacy": legacy} if ":legacy" in statement else {})
        async with engine.connect() as connection:
            settled = await connection.execution_options(isolation_level="AUTOCOMMIT")
            for statement in ("VACUUM ANALYZE", "CHECKPOINT"):
                await settled.execute(text(statement))
    finally:
        await engine.dispose()


async def odd_items(url: str) -> list[str]:
    """Ids of a few items of each kind that answers otherwise than most."""
    engine = create_engine(DatabaseUrl.parse(url), application_name="bench", statement_timeout_ms=0)
    try:
        async with engine.connect() as connection:
            (found,) = statements("odd_items.sql")
            return list((await connection.execute(text(found))).scalars())
    finally:
        await engine.dispose()


async def create_database(server: EmbeddedServer, name: str) -> str:
    """The URL of a new database, empty."""
    engine = create_engine(DatabaseUrl.parse(server.url()), application_name="bench", statement_timeout_ms=0)
    try:
        async with engine.connect() as connection:
            settled = await connection.execution_options(isolation_level="AUTOCOMMIT")
            await settled.execute(text(f'CREATE DATABASE "{name}" TEMPLATE template0'))
    finally:
        await engine.dispose()
    return server.url(name)


async def index_names(url: str) -> bool:
    """Makes the index that a page in the order of names needs; False when the migration has made one already."""
    engine = create_engine(DatabaseUrl.parse(url), application_name="bench", statement_timeout_ms=0)
    try:
        async with engine.begin() as connection:
            (found,) = statements("name_index.sql")
            if (await connection.execute(text(found))).scalar_one():
                return False
            await connection.execute(text("CREATE INDEX bench_items_name ON public.items (name, id)"))
        return True
    finally:
        await engine.dispose()
