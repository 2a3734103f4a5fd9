"""What the tests of the migration share: engines, the whole database as text, and doing things at a statement."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import await_only

from db.engine import create_engine
from db.url import DatabaseUrl
from migration.atomic import Migrated, migrate_atomic
from migration.verify import Verified, verify
from tests.support import Connection, psql

DEADLINE_SECONDS = 20.0
UNFOLLOWED = "ALTER TABLE public.items DISABLE TRIGGER stockshift_follow_update"
"""Legacy columns are written, and no opening batch follows."""


@asynccontextmanager
async def engine_on(url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(DatabaseUrl.parse(url), application_name="stockshift test")
    try:
        yield engine
    finally:
        await engine.dispose()


async def migrate(url: str, **options: Any) -> Migrated:
    async with engine_on(url) as engine:
        return await migrate_atomic(engine, driver="test", **options)


async def verified(url: str, **options: Any) -> Verified:
    async with engine_on(url) as engine:
        return await verify(engine, requested_by="test", **options)


# By catalog: which rows are of objects that somebody made, and columns that change although nothing was changed.
CATALOGS = {
    "pg_namespace": ("true", []),
    "pg_class": (
        "t.oid >= 16384",
        ["relpages", "reltuples", "relallvisible", "relallfrozen", "relfrozenxid", "relminmxid"],
    ),
    "pg_attribute": ("attrelid >= 16384", []),
    "pg_attrdef": ("true", []),
    "pg_constraint": ("t.oid >= 16384", []),
    "pg_depend": ("objid >= 16384", []),
    "pg_description": ("objoid >= 16384", []),
    "pg_enum": ("true", []),
    "pg_index": ("indexrelid >= 16384", []),
    "pg_policy": ("true", []),
    "pg_proc": ("t.oid >= 16384", []),
    "pg_rewrite": ("t.oid >= 16384", []),
    "pg_sequence": ("true", []),
    "pg_trigger": ("true", []),
    "pg_type": ("t.oid >= 16384", []),
    "pg_default_acl": ("true", []),
}


async def whole_database(connection: Connection) -> dict[str, list[str]]:
    """Everything that is in a database: every catalog row, every row with its place and the transaction that wrote it,
    every sequence's position."""
    found = {}
    for catalog, (condition, volatile) in CATALOGS.items():
        rows = await connection.fetch(
            f"SELECT (to_jsonb(t) - $1::text[])::text AS row FROM pg_catalog.{catalog} t WHERE {condition} ORDER BY 1",
            volatile,
        )
        found[catalog] = [row["row"] for row in rows]
    relations = await connection.fetch(
        """
        SELECT c.oid::regclass::text AS name, relkind::text AS kind FROM pg_class c JOIN pg_namespace n
        ON n.oid = relnamespace
        WHERE relkind IN ('r', 'S') AND nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1
        """
    )
    for name, kind in relations:
        what = "concat_ws(' ', ctid, xmin, t)" if kind == "r" else "concat_ws(' ', last_value, is_called)"
        rows = await connection.fetch(f"SELECT {what} AS row FROM {name} t ORDER BY 1")
        found[name] = [row["row"] for row in rows]
    return found


async def structure(connection: Connection) -> list[str]:
    """Columns, keys, indexes and types as text without the numbers that differ from one database to another."""
    rows = await connection.fetch(
        """
        WITH relation AS (
            SELECT c.oid, c.oid::regclass::text AS name, c.relkind FROM pg_class c JOIN pg_namespace n
            ON n.oid = relnamespace WHERE nspname IN ('public', 'stockshift')
        )
        SELECT format('%s (%s)', name, relkind) FROM relation
        UNION ALL SELECT format('%s column %s %s %s not null: %s, default %s, identity %s', name, attnum, attname,
            format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid), attidentity)
        FROM relation JOIN pg_attribute ON attrelid = oid LEFT JOIN pg_attrdef d ON adrelid = attrelid
            AND adnum = attnum WHERE attnum > 0
        UNION ALL SELECT format('%s %s: %s', name, conname, pg_get_constraintdef(c.oid)) FROM relation r
        JOIN pg_constraint c ON conrelid = r.oid
        UNION ALL SELECT pg_get_indexdef(oid) FROM relation WHERE relkind = 'i'
        ORDER BY 1
        """
    )
    return [row[0] for row in rows]


async def legacy_rows(connection: Connection) -> list[str]:
    """Every row of `items`, every column that the shop made, to the digit."""
    columns = await connection.fetch(
        """
        SELECT quote_ident(attname) AS name FROM pg_attribute
        WHERE attrelid = 'public.items'::regclass AND attnum > 0 AND NOT attisdropped AND attname <> 'useBatchSystem'
        ORDER BY attnum
        """
    )
    row = ", ".join(column["name"] for column in columns)
    rows = await connection.fetch(f"SELECT ROW({row})::text AS row FROM public.items ORDER BY id")
    return [found["row"] for found in rows]


Action = Callable[[Any], None]


@contextmanager
def at_statements(engine: AsyncEngine, act: Callable[[str, Any], None]) -> Iterator[None]:
    """Calls `act` with every statement and its cursor, before it is sent."""

    def hook(_connection: Any, cursor: Any, statement: str, *_rest: Any) -> None:
        act(statement, cursor)

    event.listen(engine.sync_engine, "before_cursor_execute", hook)
    try:
        yield
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", hook)


@contextmanager
def once_before(engine: AsyncEngine, words: str, act: Callable[[], Awaitable[None]]) -> Iterator[None]:
    """Awaits `act` before the first statement that has these words in it, which must come."""
    done = False

    def at(statement: str, _cursor: Any) -> None:
        nonlocal done
        if words in statement and not done:
            done = True
            await_only(act())

    with at_statements(engine, at):
        yield
    assert done, f"no statement had {words!r} in it"


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Polls; for what another process or session does in its own time."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not await condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        await asyncio.sleep(0.01)


async def waits_for_lock(watcher: Connection, count: int = 1) -> None:
    """Until so many sessions of this database wait for a lock."""

    async def waiting() -> bool:
        found: int = await watcher.fetchval(
            "SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted AND pid IN"
            " (SELECT pid FROM pg_stat_activity WHERE datname = current_database())"
        )
        return found >= count

    await until(waiting, f"{count} sessions wait for a lock")


async def locks_left(watcher: Connection) -> int:
    """Locks of other sessions in this database."""
    found: int = await watcher.fetchval(
        """
        SELECT count(*) FROM pg_locks WHERE pid <> pg_backend_pid()
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        """
    )
    return found


async def batches_per_item(url: str) -> dict[str, int]:
    async with psql(url) as connection:
        rows = await connection.fetch('SELECT "itemId", count(*) FROM stock_batches GROUP BY 1')
        return {row[0]: row[1] for row in rows}
