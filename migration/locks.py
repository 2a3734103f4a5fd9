"""Waiting for a lock on a table that a shop is using: briefly, again with backoff, and saying who holds it."""

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db.errors import StockshiftError

DRIVER_PREFIX = "stockshift migrate"

HOLDER = text(
    """
    SELECT a.pid, a.application_name, a.usename, host(a.client_addr) AS client,
           to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS since
    FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a USING (pid)
    WHERE l.relation = to_regclass('public.items') AND l.granted AND a.pid <> pg_backend_pid()
      AND l.mode IN ('RowExclusiveLock', 'ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock',
                     'ExclusiveLock', 'AccessExclusiveLock')
    ORDER BY a.application_name LIKE :driver || '%' DESC, a.xact_start LIMIT 1
    """
).bindparams(driver=DRIVER_PREFIX)


class LockNotHad(StockshiftError):
    """Another session kept a table locked for longer than `STOCKSHIFT_LOCK_TIMEOUT_MS`; try again when it is done."""


class MigrationRunning(StockshiftError):
    """Another migration of this database is running; wait for it, `stockshift status` shows how far it is."""


def is_lock_timeout(error: DBAPIError) -> bool:
    return getattr(error.orig, "sqlstate", None) == "55P03"


def is_serialization_failure(error: DBAPIError) -> bool:
    return getattr(error.orig, "sqlstate", None) == "40001"


async def explain_lock(engine: AsyncEngine) -> StockshiftError:
    """Who stood in the way a moment ago, as the error to raise."""
    async with engine.connect() as connection:
        holder = (await connection.execute(HOLDER)).one_or_none()
    if holder is None:
        return LockNotHad("table items was locked by another session for too long; it is free now: try again")
    who = f"pid {holder.pid}, application {holder.application_name!r}, user {holder.usename}"
    who += f", from {holder.client}" if holder.client else ""
    since = f", since {holder.since} UTC" if holder.since else ""
    if (holder.application_name or "").startswith(DRIVER_PREFIX):
        return MigrationRunning(f"a migration is running already ({who}{since}); wait for it to end")
    return LockNotHad(f"table items is being written or locked by {who}{since}; try again when that is done")


async def set_local(connection: AsyncConnection, **settings: int | str) -> None:
    """Settings for this transaction only, which is all that survives a transaction pooler."""
    for name, value in settings.items():
        await connection.exec_driver_sql(f"SET LOCAL {name} = '{value}'")
