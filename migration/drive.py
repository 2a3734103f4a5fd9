"""What the stages of an online run share: transactions that prove the lease, waits, and being told to stop."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import stamina
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import tables
from db.engine import connecting
from migration import lease
from migration.locks import EVERYBODY_WAITS, explain_lock, holders, is_lock_refused
from migration.options import Options
from migration.progress import Progress, Report
from migration.run import Wanted
from migration.step import Step
from migration.transaction import settle

RUN = tables.migration_run
POLL_SECONDS = 0.5
BUSY_ATTEMPTS = 5
TURN_MS = 100
YIELD_MS = 100
"""How long one who has items locked waits for anything else: far less than the second (deadlock_timeout) after which
PostgreSQL ends somebody, perhaps the shop, when two wait for each other."""


class Stopped(Exception):
    """The driver was told to."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted


@dataclass
class Drive:
    """One driver at work on one run. `copied` of `total` items, for whoever looks on."""

    engine: AsyncEngine
    token: str
    run: int
    options: Options
    lock_timeout_ms: int
    report: Report
    copied: int = 0
    total: int = 0
    stage: str = "expand"

    @asynccontextmanager
    async def transaction(self, *, limited: bool = True, yielding: bool = False) -> AsyncIterator[AsyncConnection]:
        """A small transaction, in which no statement waits for a lock or, if `limited`, runs longer than lock_timeout.
        `yielding`: it is to lock items.

        Raises LeaseLost before anything is done; until its end nobody can take the run over.
        """
        async with connecting(self.engine) as connection, connection.begin():
            await connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED READ WRITE")
            patience = min(self.lock_timeout_ms, YIELD_MS) if yielding else self.lock_timeout_ms
            await connection.exec_driver_sql(f"SET LOCAL lock_timeout = {patience:d}")
            limit = self.lock_timeout_ms if limited else 0
            await connection.exec_driver_sql(f"SET LOCAL statement_timeout = {limit:d}")
            await settle(connection)
            await lease.beat(connection, self.token)
            yield connection

    async def note(self, connection: AsyncConnection, **values: object) -> None:
        """Writes what the run has come to, for others to see, with the transaction that brought it there."""
        await connection.execute(update(RUN).where(RUN.c.id == self.run).values(**values))

    async def enter(self, stage: str) -> None:
        self.stage = stage
        async with self.transaction() as connection:
            await self.stop_if_told(connection)
            await self.note(connection, stage=stage, waiting=None)
        self.tell()

    async def stop_if_told(self, connection: AsyncConnection) -> None:
        """Raises Stopped."""
        wanted: Wanted = (await connection.execute(select(RUN.c.wanted).where(RUN.c.id == self.run))).scalar_one()
        if wanted != "RUN":
            raise Stopped(wanted)

    def tell(self, waiting: str | None = None, chunk: int | None = None) -> None:
        self.report(Progress(self.stage, self.copied, max(self.copied, self.total), waiting, chunk))

    async def wait(self, seconds: float, why: str) -> None:
        """Waits, saying what for; who tells the driver to stop need not wait as long. Raises Stopped."""
        end = time.monotonic() + seconds
        while True:
            async with self.transaction() as connection:
                await self.stop_if_told(connection)
                await self.note(connection, waiting=why)
            self.tell(waiting=why)
            left = end - time.monotonic()
            await asyncio.sleep(max(0, min(left, POLL_SECONDS)))
            if left <= POLL_SECONDS:
                return

    async def having(self, locks: Mapping[str, str], steps: list[Step]) -> None:
        """Makes the steps in one transaction with these locks, by table.

        A lock is not queued for: others would queue behind us, and behind a long transaction they would stand still.
        It is tried for, again and again, until it is there for the taking. Only where one short transaction follows
        upon the other, so that it never is, we take our turn, for a moment. Raises Stopped.
        """
        if not steps:
            return
        before: frozenset[str] = frozenset()
        changed = 0
        async for attempt in stamina.retry_context(
            on=is_lock_refused, attempts=None, timeout=None, wait_initial=0.01, wait_max=1.0, wait_jitter=0.1
        ):
            if attempt.num > 1:
                now = await holders(self.engine, locks)
                changed = 0 if now & before else changed + 1
                before = now
                why = await explain_lock(self.engine, EVERYBODY_WAITS)
                await self.wait(0, why.message)
            with attempt:
                async with self.transaction() as connection:
                    turn = changed >= BUSY_ATTEMPTS
                    await connection.exec_driver_sql(
                        f"SET LOCAL lock_timeout = {TURN_MS if turn else self.lock_timeout_ms:d}"
                    )
                    for number, (table, mode) in enumerate(locks.items()):
                        # Only for the first: while others are held, nothing is waited for.
                        how = "" if turn and number == 0 else " NOWAIT"
                        await connection.exec_driver_sql(f"LOCK TABLE {table} IN {mode} MODE{how}")
                    for step in steps:
                        await connection.exec_driver_sql(step.sql)

    async def alone(self, steps: list[Step]) -> None:
        """Makes each step outside of a transaction: it takes long and keeps nobody from writing.

        The engine's sessions have no statement timeout; a setting of the session would be another's behind a pooler.
        """
        for step in steps:
            async with self.transaction() as connection:
                await self.stop_if_told(connection)
                await self.note(connection, waiting=step.why)
            self.tell(waiting=step.why)
            async with connecting(self.engine) as connection:
                autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
                await autocommit.exec_driver_sql(step.sql)
