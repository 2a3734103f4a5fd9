"""A streaming replica that answers reads, as far as it can vouch for having replayed what must be seen.

Two things must be seen: what the client wrote itself, if it says so, and what the primary had some time ago. So the
position that the replica has replayed comes with each answer, and one that is too old is not given out. We note
the primary's position a few times a second: a replica that lost its primary, with nothing more to replay, would
itself not know that it is behind.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any

import asyncpg

from db.connection_failed import ConnectionFailed
from db.errors import StockshiftError
from db.read_pool import ReadPool, Row, Session
from db.wal import Consistency

log = logging.getLogger("stockshift.replica")

PRIMARY_POSITION = "SELECT CAST(pg_current_wal_lsn() - '0/0' AS bigint)"
# NULL where nothing is replayed (any more): a replica that was promoted has stopped at a position for ever.
REPLAYED = "CASE WHEN pg_is_in_recovery() THEN CAST(pg_last_wal_replay_lsn() - '0/0' AS bigint) END"
LONGEST_INTERVAL_SECONDS = 0.25
LEAST_INTERVAL_SECONDS = 0.02
PROBE_TIMEOUT_SECONDS = 2.0
FAILED = (StockshiftError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError)


class Replica:
    """`pool` reads the replica; `probes` (one connection each) watch the primary and the replica for us.

    It is asked for nothing before a probe found it; nor, after it was lost, before a probe finds it again.
    """

    def __init__(self, pool: ReadPool, primary_probe: ReadPool, probe: ReadPool, *, max_lag_ms: int) -> None:
        self.pool = pool
        self.is_up = False
        self._primary_probe = primary_probe
        self._probe = probe
        self._max_lag = max_lag_ms / 1000
        self._interval = min(max(self._max_lag / 4, LEAST_INTERVAL_SECONDS), LONGEST_INTERVAL_SECONDS)
        self._noted: deque[tuple[float, int]] = deque()  # when, by time.monotonic(), and the primary's position

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Meanwhile it is known whether the replica may be asked; its pools are closed in the end."""
        watches = [asyncio.create_task(self._repeat(watch)) for watch in (self.note_primary, self.probe)]
        try:
            yield
        finally:
            for watch in watches:
                watch.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
            for pool in (self.pool, self._primary_probe, self._probe):
                await pool.close()

    async def row(self, sql: str, arguments: Sequence[Any], consistency: Consistency) -> Row | None:
        """The row of a SELECT, or None: the primary is to be asked.

        So it is whenever the replica fails, but for a statement timeout, which the primary would meet as well: raises
        asyncpg.QueryCanceledError.
        """
        required = self._required()
        if not self.is_up or required is None or self.pool.is_full:
            return None
        if consistency.at_least and self.pool.swaps_servers:
            return None  # what is known of a connection's server is not known of the next one

        async def ask(session: Session) -> Row | None:
            """Asks again if need be: the position came after the snapshot, which may not have what came between."""
            for _ in range(2):
                known = session.replayed
                row = await self.pool.ask(session, _with_position(sql), arguments)
                replayed = row[-1]
                if replayed is None or replayed < max(required, consistency.at_least):
                    return None
                session.replayed = replayed
                if known >= consistency.at_least:
                    return row[:-1]
            return None

        try:
            return await self.pool.run(ask)
        except asyncpg.QueryCanceledError:
            raise
        except ConnectionFailed as error:
            self._set_up(False, error.message)
        except FAILED as error:  # a conflict with what it replays, a table that it does not have yet
            log.info("the replica left a read to the primary: %s", error)
        return None

    async def note_primary(self) -> None:
        """Notes the primary's position. If it cannot be had, what was known before is still required."""
        asked = time.monotonic()
        (position,) = await self._primary_probe.row(PRIMARY_POSITION)
        self._noted.append((asked, position))
        while len(self._noted) > 1 and self._noted[1][0] < asked - self._max_lag:
            self._noted.popleft()

    async def probe(self) -> None:
        """Finds out whether the replica is there, and is one."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_SECONDS):
                (replayed,) = await self._probe.row(f"SELECT {REPLAYED}")
        except FAILED as error:
            self._set_up(False, str(error) or "it does not answer")
        else:
            self._set_up(replayed is not None, "it replays nothing; if it was promoted, change DATABASE_REPLICA_URL")

    def _required(self) -> int | None:
        """What the primary had `max_lag` ago, or since: the first note that is not older, else the last there is."""
        oldest = time.monotonic() - self._max_lag
        last = None
        for asked, position in self._noted:
            last = position
            if asked >= oldest:
                break
        return last

    def _set_up(self, up: bool, why: str) -> None:
        if up and not self.is_up:
            log.info("the replica answers reads")
        elif self.is_up and not up:
            log.warning("the replica is not asked now: %s", why)
        self.is_up = up

    async def _repeat(self, watch: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await watch()
            except FAILED as error:
                log.debug("%s", error)
            await asyncio.sleep(self._interval)


@lru_cache(maxsize=512)
def _with_position(sql: str) -> str:
    return f"SELECT answer.*, {REPLAYED} AS replayed FROM ({sql}) AS answer"  # noqa: S608 - of our own making
