"""Locks on tables that a shop is using: never queued for while others are held, and who had them when we did not.

A lock that is waited for makes others queue behind it; waiting for a second one can deadlock with them. So only the
first is waited for, briefly; the others are had at once or all are given back, and tried again.
"""

from collections.abc import Iterable

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db.errors import StockshiftError
from db.sqlstate import sqlstate

DRIVER_PREFIX = "stockshift migrate"
WRITERS_WAIT = "SHARE ROW EXCLUSIVE"
EVERYBODY_WAITS = "ACCESS EXCLUSIVE"

HOLDER = text(
    """
    SELECT c.relname AS relation, l.pid, a.application_name, a.usename, host(a.client_addr) AS client,
           to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS since
    FROM pg_catalog.pg_locks l
    JOIN pg_catalog.pg_class c ON c.oid = l.relation
    LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
    WHERE l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
      AND c.oid IN (
          SELECT to_regclass('public.' || t) FROM unnest('{items,stock_batches,locations,users}'::text[]) AS t
          UNION ALL SELECT confrelid FROM pg_catalog.pg_constraint WHERE conrelid = to_regclass('public.stock_batches')
      )
      AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
      AND (:readers OR l.mode NOT IN ('AccessShareLock', 'RowShareLock'))
    ORDER BY a.application_name LIKE :driver || '%' DESC NULLS LAST, l.mode = 'AccessShareLock', c.relname <> 'items',
             a.xact_start
    LIMIT 1
    """
).bindparams(driver=DRIVER_PREFIX)


HOLDERS = text(
    """
    SELECT DISTINCT concat_ws(' ', l.virtualtransaction, a.xact_start) AS holder
    FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
    WHERE l.relation = ANY (SELECT to_regclass(t) FROM unnest(CAST(:tables AS text[])) AS t)
      AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
      AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
    """
)


class LockNotHad(StockshiftError):
    """Another session kept a table locked for longer than `STOCKSHIFT_LOCK_TIMEOUT_MS`; try again when it is done."""


class MigrationRunning(StockshiftError):
    """Another migration of this database is running; wait for it, `stockshift status` shows how far it is."""


def is_lock_refused(error: Exception) -> bool:
    """A lock was not to be had in time, or only in a deadlock."""
    return isinstance(error, DBAPIError) and sqlstate(error) in ("55P03", "40P01")


def is_serialization_failure(error: Exception) -> bool:
    return isinstance(error, DBAPIError) and sqlstate(error) == "40001"


async def lock_tables(
    connection: AsyncConnection, first: str, others: Iterable[str], *, mode: str, timeout_ms: int
) -> None:
    """Locks `first` in `mode`, waiting up to `timeout_ms`, and the others against writers, at once or not at all.

    None of these statements takes a snapshot. `timeout_ms` stays the transaction's lock_timeout.
    """
    await connection.exec_driver_sql(f"SET LOCAL lock_timeout = {timeout_ms:d}")
    await connection.exec_driver_sql(f"LOCK TABLE {first} IN {mode} MODE")
    for table in others:
        await connection.exec_driver_sql(f"LOCK TABLE {table} IN {WRITERS_WAIT} MODE NOWAIT")


async def holders(engine: AsyncEngine, tables: Iterable[str]) -> frozenset[str]:
    """The transactions that have a lock on one of the tables now."""
    async with engine.connect() as connection:
        return frozenset((await connection.execute(HOLDERS, {"tables": list(tables)})).scalars())


async def explain_lock(engine: AsyncEngine, mode: str) -> StockshiftError:
    """Who stood in the way of `mode` a moment ago, as the error to raise."""
    async with engine.connect() as connection:
        holder = (await connection.execute(HOLDER, {"readers": mode == EVERYBODY_WAITS})).one_or_none()
    if holder is None:
        return LockNotHad("a table was locked by another session for too long; it is free now: try again")
    if holder.pid is None:
        return LockNotHad(
            f"table {holder.relation} is locked by a prepared transaction; see pg_prepared_xacts, end it, try again"
        )
    who = f"pid {holder.pid}, application {holder.application_name!r}, user {holder.usename}"
    who += f", from {holder.client}" if holder.client else ""
    since = f", since {holder.since} UTC" if holder.since else ""
    if (holder.application_name or "").startswith(DRIVER_PREFIX):
        return MigrationRunning(f"a migration is running already ({who}{since}); wait for it to end")
    return LockNotHad(f"table {holder.relation} is in use by {who}{since}; try again when that is done")
