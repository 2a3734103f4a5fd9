"""One driver (R28): a lease in the database, so that it also holds through a pooler and among machines.

Whoever drives proves in each of its transactions that it still does (`beat`), and between them every few seconds. A
driver that has not been heard of for LIVE_SECONDS is dead, and its run can be taken over; if it was only asleep, its
next transaction fails. Time is the database's.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

from sqlalchemy import Interval, delete, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import tables
from db.connection_failed import ConnectionFailed
from db.errors import StockshiftError
from migration.locks import MigrationRunning

LIVE_SECONDS = 30
BEAT_SECONDS = 5.0
DRIVER = tables.driver
LIVE = DRIVER.c.beat_at > func.clock_timestamp() - literal(timedelta(seconds=LIVE_SECONDS), Interval)
"""The lease is held by somebody who was heard of lately."""


class LeaseLost(StockshiftError):
    """Another driver has taken this run over, as nothing was heard of this one; see `stockshift status`."""


async def take(connection: AsyncConnection, *, name: str, place: str) -> str:
    """Takes the lease in the caller's transaction and answers its token. Raises MigrationRunning: somebody has it."""
    token = uuid.uuid4().hex
    mine = {"token": token, "name": name, "place": place}
    now = {"since": func.clock_timestamp(), "beat_at": func.clock_timestamp()}
    taken = insert(DRIVER).values(mine).on_conflict_do_update(
        index_elements=[DRIVER.c.only_row], set_={**mine, **now}, where=~LIVE
    )  # fmt: skip
    if (await connection.execute(taken.returning(DRIVER.c.token))).one_or_none() is None:
        raise await _held(connection)
    return token


async def _held(connection: AsyncConnection) -> MigrationRunning:
    since = func.to_char(func.timezone("UTC", DRIVER.c.since), "YYYY-MM-DD HH24:MI:SS").label("since")
    silent = func.extract("epoch", func.clock_timestamp() - DRIVER.c.beat_at).label("silent")
    holder = (await connection.execute(select(DRIVER.c.name, DRIVER.c.place, since, silent))).one_or_none()
    if holder is None:
        return MigrationRunning("a migration was running until a moment ago; try again")
    where = " inside the service" if holder.place == "service" else ""
    return MigrationRunning(
        f"{holder.name} drives a migration of this database{where} since {holder.since} UTC, last heard of "
        f"{holder.silent:.0f} s ago; wait for it, or pause it with `stockshift migrate --pause`. A driver that is dead"
        f" can be replaced {LIVE_SECONDS} s after it was last heard of"
    )


async def beat(connection: AsyncConnection, token: str) -> None:
    """Proves, and keeps locked until the transaction ends, that the lease is still ours. Raises LeaseLost."""
    beaten = update(DRIVER).where(DRIVER.c.token == token).values(beat_at=func.clock_timestamp())
    if (await connection.execute(beaten)).rowcount == 0:
        raise LeaseLost


async def release(connection: AsyncConnection, token: str) -> None:
    await connection.execute(delete(DRIVER).where(DRIVER.c.token == token))


@asynccontextmanager
async def held(engine: AsyncEngine, *, name: str, place: str) -> AsyncIterator[str]:
    """The lease, its token, for as long as this: beaten in between, released at the end. Raises MigrationRunning.

    A lease that cannot be released, for the database is away, ends by itself.
    """
    async with engine.begin() as connection:
        token = await take(connection, name=name, place=place)
    beating = asyncio.create_task(_beat_on(engine, token))
    try:
        yield token
    finally:
        beating.cancel()
        with suppress(asyncio.CancelledError):
            await beating
        with suppress(DBAPIError, ConnectionFailed, OSError):
            async with engine.begin() as connection:
                await release(connection, token)


async def _beat_on(engine: AsyncEngine, token: str) -> None:
    """While a single statement takes long. Whether the lease was lost is for the driver's own transactions to see."""
    while True:
        await asyncio.sleep(BEAT_SECONDS)
        with suppress(DBAPIError, ConnectionFailed, OSError, LeaseLost):
            async with engine.begin() as connection:
                await beat(connection, token)
