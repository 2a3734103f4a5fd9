"""A copy of a table, made beside everybody, and brought up to date in a moment once nobody else can write.

What was written since is found by the transactions that wrote it (xmin), not by our triggers: no way of writing a row,
with triggers off or in a replica's role, leaves that out. Rows that went are noticed by their number. Under the lock
the table is only scanned for both: nothing of it is copied or hashed again.
"""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace

from sqlalchemy import Text, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db.connection_failed import ConnectionFailed
from db.engine import connecting
from db.errors import StockshiftError
from migration import lease
from migration.exclusively import Actor
from migration.transaction import settle

SCHEMA = "stockshift_draft"
"""Nothing counts on what is in it: one that is found is of a command that was killed."""


class Changed(StockshiftError):
    """A table was altered, or written in a way nobody understands, while it was copied; try again."""


@dataclass(frozen=True)
class Draft:
    """`columns`, quoted, of the rows that `source` had in a snapshot, as SCHEMA.`name`, by `key`, which is one of them.

    A row that transaction `horizon` wrote, or one after it, may not be in it. `shape` is what the columns were.
    """

    source: str
    name: str
    key: str
    columns: tuple[str, ...]
    rows: int
    horizon: str
    shape: tuple[str, ...]

    @property
    def table(self) -> str:
        return f"{SCHEMA}.{self.name}"


@dataclass(frozen=True)
class Written:
    """How many rows there are in all, and the keys of those that were written since a snapshot, and some before it."""

    rows: int
    keys: list[str]


# Not its name alone: a column that is dropped and made anew with a default is another, and no row of it was written.
SHAPE = text(
    """
    SELECT concat_ws(' ', a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attcollation)
    FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = to_regclass(:source) AND quote_ident(a.attname) = ANY (:columns) AND NOT a.attisdropped
    ORDER BY 1
    """
).bindparams(bindparam("columns", type_=ARRAY(Text)))

# A subtransaction's number is after that of the transaction it is of, so none is left out. What was frozen long ago can
# have a number that looks new: it is then copied once more.
SINCE = """
SELECT count(*) AS rows, COALESCE(array_agg({key}) FILTER (
    WHERE age(xmin) <= (SELECT age(CAST(CAST(CAST(:horizon AS text) AS xid8) AS xid)))
), '{{}}') AS written
FROM {source}
"""


@asynccontextmanager
async def drafting(engine: AsyncEngine, actor: Actor) -> AsyncIterator[str]:
    """Nobody else drafts or migrates meanwhile: answers the token of the lease, which `exclusively` takes over.

    The caller has made sure that there is a lease to be had. Raises MigrationRunning.
    """
    async with lease.held(engine, name=actor.name, place=actor.place) as token:
        try:
            yield token
        except BaseException:  # of any kind: what is left of it is of no use, and large
            with suppress(DBAPIError, ConnectionFailed, OSError):
                async with connecting(engine) as connection, connection.begin():
                    await connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
            raise


@asynccontextmanager
async def one_draft_snapshot(
    engine: AsyncEngine, actor: Actor, sources: Iterable[str]
) -> AsyncIterator[AsyncConnection]:
    """A transaction of one snapshot, in an empty SCHEMA, in which nobody alters these tables.

    It waits as a reader does, for which nobody waits.
    """
    async with connecting(engine) as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ")
        async with connection.begin():
            await connection.exec_driver_sql("SET TRANSACTION READ WRITE")
            await connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            await connection.exec_driver_sql(f"SET LOCAL lock_timeout = {(actor.patience or 0) * 1000:.0f}")
            for source in sources:
                await connection.exec_driver_sql(f"LOCK TABLE {source} IN ACCESS SHARE MODE")
            await settle(connection)
            await connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
            await connection.exec_driver_sql(f"CREATE SCHEMA {SCHEMA}")
            yield connection


async def make_draft(connection: AsyncConnection, source: str, name: str, columns: Iterable[str], *, key: str) -> Draft:
    """Copies, and proves by a hash over all rows, in the transaction of `one_draft_snapshot`."""
    wanted = tuple(columns)
    horizon, shape = await horizon_of(connection), await shape_of(connection, source, wanted)
    target, listed = f"{SCHEMA}.{name}", ", ".join(wanted)
    await connection.exec_driver_sql(f"CREATE TABLE {target} AS SELECT {listed} FROM {source}")
    await connection.exec_driver_sql(f"ALTER TABLE {target} ADD PRIMARY KEY ({key})")
    await connection.exec_driver_sql(f"ANALYZE {target}")
    draft = Draft(source, name, key, wanted, 0, horizon, shape)
    copied = await _summed(connection, target, draft)
    if copied != await _summed(connection, source, draft):
        raise Changed
    return replace(draft, rows=copied[0])


async def catch_up(connection: AsyncConnection, draft: Draft) -> Written:
    """Makes the draft what its source is now, which nobody else writes. Raises Changed: a column is another now."""
    if await shape_of(connection, draft.source, draft.columns) != draft.shape:
        raise Changed
    since = await written_since(connection, draft.source, draft.key, draft.horizon)
    written, expected = since.keys, draft.rows
    if written:
        expected += len(written) - (await _summed(connection, draft.table, draft, written))[0]
        listed = ", ".join(draft.columns)
        values = ", ".join(f"{name} = excluded.{name}" for name in draft.columns)
        again = f"""
            INSERT INTO {draft.table} ({listed}) SELECT {listed} FROM {draft.source} WHERE {draft.key} = ANY (:written)
            ON CONFLICT ({draft.key}) DO UPDATE SET {values}
        """
        await connection.execute(text(again), {"written": written})
        copied = await _summed(connection, draft.table, draft, written)
        if copied != await _summed(connection, draft.source, draft, written):
            raise Changed
    if since.rows != expected:
        there = f"SELECT FROM {draft.source} s WHERE s.{draft.key} = d.{draft.key}"
        gone = await connection.exec_driver_sql(f"DELETE FROM {draft.table} d WHERE NOT EXISTS ({there})")
        expected -= gone.rowcount
    if since.rows != expected:
        raise Changed
    return since


async def take_drafts(connection: AsyncConnection, place: str, *drafts: Draft) -> None:
    """To the schema `place`, where they stay; what else was drafted goes."""
    for draft in drafts:
        await connection.exec_driver_sql(f"ALTER TABLE {draft.table} SET SCHEMA {place}")
    await connection.exec_driver_sql(f"DROP SCHEMA {SCHEMA} CASCADE")


async def horizon_of(connection: AsyncConnection) -> str:
    """The oldest transaction that a row of the snapshot may be missing."""
    query = text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text")
    return str((await connection.execute(query)).scalar_one())


async def written_since(connection: AsyncConnection, source: str, key: str, horizon: str) -> Written:
    row = (await connection.execute(text(SINCE.format(key=key, source=source)), {"horizon": horizon})).one()
    return Written(row.rows, row.written)


async def shape_of(connection: AsyncConnection, source: str, columns: Iterable[str]) -> tuple[str, ...]:
    """What these columns, quoted, are."""
    found = await connection.execute(SHAPE, {"source": source, "columns": list(columns)})
    return tuple(found.scalars())


async def _summed(
    connection: AsyncConnection, table: str, draft: Draft, among: list[str] | None = None
) -> tuple[int, object]:
    """How many rows there are, all or with these keys, and a hash of them that does not depend on their order."""
    whole = f"sum(hash_record_extended(ROW({', '.join(draft.columns)}), 0)::numeric)"
    query = f"SELECT count(*) AS rows, {whole} AS hash FROM {table}"
    if among is None:
        row = (await connection.execute(text(query))).one()
    else:
        row = (await connection.execute(text(f"{query} WHERE {draft.key} = ANY (:among)"), {"among": among})).one()
    return row.rows, row.hash
