"""Transactions that see one instant, and that read and write the same under any role, database and server version.

A role or a database can have settings of its own, and some of them change what we do: rows hidden by row security,
numbers and times written differently into the ledger's JSON, a timeout in the middle. So they are set, for the
transaction only, which is all that survives a transaction pooler.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db.engine import connecting

SETTINGS = {
    "row_security": "off",  # a query that would miss rows fails instead
    "extra_float_digits": "1",  # the digits that read back as the same number
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    "transaction_timeout": "0",  # PostgreSQL 17
    # Our transactions never wait for a person. One that does nothing lost its process, and must not keep its locks.
    "idle_in_transaction_session_timeout": "60s",
}

# One statement, and no setting that this server does not know.
SETTLE = text(
    """
    SELECT set_config(s.name, v.value, true)
    FROM unnest(CAST(:names AS text[]), CAST(:values AS text[])) AS v (name, value)
    JOIN pg_catalog.pg_settings s ON s.name = v.name
    """
)


@asynccontextmanager
async def one_snapshot(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction in which every statement sees the same instant: that of its first query, which is the caller's.

    The caller calls `settle` first, or after the locks that must come before the snapshot.
    """
    async with connecting(engine) as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ")
        async with connection.begin():
            await connection.exec_driver_sql("SET TRANSACTION READ WRITE")
            await connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            yield connection


async def settle(connection: AsyncConnection) -> None:
    """Sets what a role or a database may have set otherwise. A query: it takes the transaction's snapshot."""
    await connection.execute(SETTLE, {"names": list(SETTINGS), "values": list(SETTINGS.values())})
