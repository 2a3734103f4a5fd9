"""One short transaction that has several tables to itself, without anybody of the shop ever queueing behind us.

All locks are had at once or none is: they are tried for, again and again, as `migration/drive.py` does for one. The
lease (R28) is taken in the same transaction, if the caller does not hold it yet: so no migration runs beside it.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import stamina
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db.engine import connecting
from db.shape import load_shape
from migration import lease
from migration.failures import explained
from migration.locks import EVERYBODY_WAITS, explain_lock, holders, is_lock_refused
from migration.progress import Progress, Report, silent
from migration.run import Place
from migration.transaction import settle
from migration.verify import MigrationNotStarted

BUSY_ATTEMPTS = 5
TURN_MS = 100
"""Where one short transaction follows upon the other, so that a table is never free, we take our turn for so long."""

T = TypeVar("T")


@dataclass(frozen=True)
class Actor:
    """Who acts; how long, in seconds, locks are tried for (None: until they are had), and who is told meanwhile."""

    name: str
    place: Place = "command"
    patience: float | None = None
    lock_timeout_ms: int = 2_000
    report: Report = silent


async def exclusively(
    engine: AsyncEngine,
    actor: Actor,
    stage: str,
    tables: Callable[[AsyncConnection], Awaitable[Iterable[str]]],
    work: Callable[[AsyncConnection], Awaitable[T]],
    *,
    held: str | None = None,
) -> T:
    """What `work` answers, committed. `tables` answers which are wanted, and may raise what stands against it.

    `held` is the token of a lease that the caller has; it is released in the same transaction.
    Raises MigrationNotStarted, MigrationRunning, LeaseLost, LockNotHad, ConnectionLost, Refused, and what both raise.
    """
    before: frozenset[str] = frozenset()
    changed = 0
    wanted: list[str] = []
    async with explained(engine, EVERYBODY_WAITS):
        async for attempt in stamina.retry_context(
            on=is_lock_refused,
            attempts=None,
            timeout=actor.patience,
            wait_initial=0.01,
            wait_max=1.0,
            wait_jitter=0.1,
        ):
            if attempt.num > 1:
                now = await holders(engine, wanted)
                changed = 0 if now & before else changed + 1
                before = now
                why = await explain_lock(engine, EVERYBODY_WAITS)
                actor.report(Progress(stage, 0, 1, waiting=why.message))
            with attempt:
                async with connecting(engine) as connection, connection.begin():
                    await connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED READ WRITE")
                    await connection.exec_driver_sql(f"SET LOCAL lock_timeout = {actor.lock_timeout_ms:d}")
                    await connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
                    await settle(connection)
                    if not (await load_shape(connection)).expanded:
                        raise MigrationNotStarted
                    if held is None:
                        token = await lease.take(connection, name=actor.name, place=actor.place)
                    else:
                        token = held
                        await lease.beat(connection, token)
                    wanted = list(await tables(connection))
                    await _lock(connection, wanted, in_turn=changed >= BUSY_ATTEMPTS)
                    await connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")
                    done = await work(connection)
                    await lease.release(connection, token)
                return done
    raise AssertionError  # the loop above returns or raises


async def _lock(connection: AsyncConnection, wanted: list[str], *, in_turn: bool) -> None:
    """`in_turn`: the first is waited for, a moment; while others are held, nothing is."""
    for number, table in enumerate(wanted):
        if in_turn and number == 0:
            await connection.exec_driver_sql(f"SET LOCAL lock_timeout = {TURN_MS:d}")
        how = "" if in_turn and number == 0 else " NOWAIT"
        await connection.exec_driver_sql(f"LOCK TABLE {table} IN {EVERYBODY_WAITS} MODE{how}")
