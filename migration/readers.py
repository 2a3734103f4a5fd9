"""A second reader of the same snapshot, so that a large shop is verified on two connections at once (R19)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.pool import QueuePool

from db.engine import ConnectionFailed, connecting
from migration.transaction import settle

LARGE = 50_000
"""So many items, as the server's statistics have it, are worth a second connection."""

# Whole tables are joined by ids that follow no order: a merge reads them page by page through their indexes, over and
# over, where a hash reads them once. What would be compiled runs for seconds at most.
PLANNED = text("SELECT set_config('enable_mergejoin', 'off', true), set_config('jit', 'off', true)")

One = TypeVar("One")
Other = TypeVar("Other")

ESTIMATE = text("SELECT coalesce(max(reltuples), 0) FROM pg_catalog.pg_class WHERE oid = to_regclass('public.items')")


@asynccontextmanager
async def beside(engine: AsyncEngine, connection: AsyncConnection) -> AsyncIterator[AsyncConnection | None]:
    """Another connection that sees what `connection`'s transaction does, to read from. None: the shop is small, the
    pool has no room, or a pooler led to a server that does not know the snapshot."""
    async with AsyncExitStack() as stack:
        yield await _another(engine, connection, stack)


async def _another(engine: AsyncEngine, connection: AsyncConnection, stack: AsyncExitStack) -> AsyncConnection | None:
    pool = engine.pool
    room = isinstance(pool, QueuePool) and pool.checkedout() < pool.size()
    if not room or (await connection.execute(ESTIMATE)).scalar_one() < LARGE:
        return None
    snapshot = (await connection.execute(text("SELECT pg_export_snapshot()"))).scalar_one()
    try:
        other = await stack.enter_async_context(connecting(engine))
    except ConnectionFailed:
        return None
    await other.execution_options(isolation_level="REPEATABLE READ")
    await stack.enter_async_context(other.begin())
    await other.exec_driver_sql("SET LOCAL statement_timeout = 0")
    try:
        await other.exec_driver_sql(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
    except DBAPIError:
        await other.rollback()
        return None
    await settle(other)
    return other


async def both(
    connection: AsyncConnection,
    reader: AsyncConnection | None,
    one: Callable[[AsyncConnection], Awaitable[One]],
    other: Callable[[AsyncConnection], Awaitable[Other]],
) -> tuple[One, Other]:
    """What is read on the connection and on the other, at once if there is another. Both have ended when one failed."""
    if reader is None:
        return await one(connection), await other(connection)
    first, second = asyncio.ensure_future(one(connection)), asyncio.ensure_future(other(reader))
    try:
        await asyncio.wait([first, second])
    finally:
        first.cancel()
        second.cancel()
    return first.result(), second.result()
