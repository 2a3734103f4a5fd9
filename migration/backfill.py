"""The backfill: chunk after chunk in the order of the text key, each a transaction, beside a shop that sells.

A chunk locks the items that it copies until it commits, so chunks are kept short: what they take is measured, and the
next one sized by it. Rows that somebody has locked are skipped. The final sweep takes these, and what was inserted
behind the cursor; the copy is complete when a read of what is left comes back empty.
"""

import time

from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from db.engine import connecting
from db.shape import load_shape
from db.sqlstate import sqlstate
from migration.candidates import among_ids, candidates
from migration.copy import ITEM, Copied, between, copy_items, next_bound
from migration.drive import Drive
from migration.locks import is_lock_refused
from migration.throttle import Measured, measure

FIRST_CHUNK = 1_000
LARGEST_CHUNK = 20_000
SMALLEST_CHUNK = 50
TARGET_SECONDS = 0.2
"""What a chunk is to take: as long as that, a writer may wait for it."""
STATEMENT_TIMEOUT = "57014"
WAIT_SECONDS = 0.1
LATELY = 0.3
"""How much of a new measurement is in the rate that is told."""


class Pace:
    """How large chunks are, and how many items a second come of it."""

    def __init__(self, most: int | None) -> None:
        self.most = min(most or LARGEST_CHUNK, LARGEST_CHUNK)
        self.size = min(FIRST_CHUNK, self.most)
        self.rate: float | None = None
        self._since = time.monotonic()

    def took(self, seconds: float, items: int) -> None:
        factor = min(2.0, max(0.5, TARGET_SECONDS / max(seconds, 1e-6)))
        self.size = max(min(SMALLEST_CHUNK, self.most), min(self.most, int(self.size * factor)))
        now = time.monotonic()
        rate = items / max(now - self._since, 1e-6)
        self.rate = rate if self.rate is None else self.rate + LATELY * (rate - self.rate)
        self._since = now

    def halve(self) -> None:
        """After a chunk that took too long."""
        self.size = max(1, self.size // 2)


async def backfill(drive: Drive, after: str | None) -> None:
    """Copies everything behind item `after`. Raises Stopped."""
    pace = Pace(drive.options.chunk_size)
    before: Measured | None = None
    took = 0.0
    while True:
        before = await _hold_back(drive, took, before)
        started = time.monotonic()
        try:
            async with drive.transaction(yielding=True) as connection:
                await drive.stop_if_told(connection)
                upto = await next_bound(connection, after, pace.size)
                if upto is None:
                    return
                chunk = await copy_items(
                    connection,
                    await load_shape(connection),
                    run=drive.run,
                    among=between(after, upto),
                    chosen=drive.options.choices.chosen,
                )
                await _note(drive, connection, chunk, pace, after_id=upto)
        except DBAPIError as error:
            if not _too_long(error):
                raise
            await _smaller(drive, pace)
            continue
        took, after = time.monotonic() - started, upto
        pace.took(took, pace.size)
        drive.copied += chunk.copied
        drive.tell(chunk=pace.size)


async def sweep(drive: Drive) -> int:
    """Copies what is left, wherever it is, until nothing is; answers how many items are held back. Raises Stopped."""
    pace = Pace(drive.options.chunk_size)
    while True:
        async with drive.transaction(limited=False) as connection:
            await drive.stop_if_told(connection)
            left = candidates(
                await load_shape(connection), ITEM, drive.options.among, drive.options.choices.chosen
            ).subquery("left")
            ids = await connection.execute(
                select(left.c.id).where(left.c.reason.is_(None)).order_by(left.c.id).limit(pace.size)
            )
            found = list(ids.scalars())
            if not found:
                held_back = select(func.count()).select_from(left).where(left.c.reason.is_not(None))
                return int((await connection.execute(held_back)).scalar_one())
        try:
            async with drive.transaction(yielding=True) as connection:
                chunk = await copy_items(
                    connection,
                    await load_shape(connection),
                    run=drive.run,
                    among=among_ids(found),
                    chosen=drive.options.choices.chosen,
                )
                await _note(drive, connection, chunk, pace)
        except DBAPIError as error:
            if not _too_long(error):
                raise
            await _smaller(drive, pace)
            continue
        drive.copied += chunk.copied
        drive.tell(chunk=pace.size)
        if chunk.copied == 0:
            await drive.wait(WAIT_SECONDS, f"{len(found)} items, such as {found[0]!r}, are locked by other sessions")


def _too_long(error: DBAPIError) -> bool:
    return is_lock_refused(error) or sqlstate(error) == STATEMENT_TIMEOUT


async def _smaller(drive: Drive, pace: Pace) -> None:
    pace.halve()
    await drive.wait(WAIT_SECONDS, f"a chunk took too long, or met a lock; the next has {pace.size} items")


async def _note(drive: Drive, connection: AsyncConnection, chunk: Copied, pace: Pace, **values: object) -> None:
    copied = drive.copied + chunk.copied
    await drive.note(
        connection, items_copied=copied, chunk_size=pace.size, rate=pace.rate, waiting=None, error=None, **values
    )


async def _hold_back(drive: Drive, took: float, before: Measured | None) -> Measured | None:
    """Waits as long as the throttle says, and answers what was measured before the next chunk. Raises Stopped."""
    throttle = drive.options.throttle
    if throttle.sleep and took:
        await drive.wait(took * throttle.sleep, f"as asked for, {throttle.sleep:g} times as long as a chunk takes")
    if not throttle.measures:
        return None
    while True:
        async with connecting(drive.engine) as connection:
            now = await measure(connection)
        due = throttle.wait(now, before)
        if due is None:
            return now
        await drive.wait(*due)
