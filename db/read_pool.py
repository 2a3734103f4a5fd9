"""Reads straight through the driver: a bounded pool of connections on which single SELECTs run, outside transactions.

SQLAlchemy's pool and dialect cost several times what the read itself costs us. The driver's own pool resets
a connection after each use and hands it over through two tasks; a read leaves nothing in its session to reset.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import asyncpg
from sqlalchemy.exc import TimeoutError as PoolTimeout

from db.connection_failed import ConnectionFailed, connection_failed, name_of, one_line
from db.engine import (
    POOL_TIMEOUT_SECONDS,
    STATEMENT_CACHE_SIZE,
    connect_arguments,
    most_connections,
    seconds,
    session_settings,
    shown,
    statement_timeout,
)
from db.keep import keep
from db.keepalive import Connection
from db.url import DatabaseUrl

if TYPE_CHECKING:
    PreparedStatement: TypeAlias = asyncpg.prepared_stmt.PreparedStatement[Any]
else:
    PreparedStatement = asyncpg.prepared_stmt.PreparedStatement  # generic for the type checker only

Row: TypeAlias = Sequence[Any]
T = TypeVar("T")

# A plan of ours has its limits and labels as constants: planned once, it is as good as planned for each value.
GENERIC_PLANS = {"plan_cache_mode": "force_generic_plan"}
# The server ends a statement in time by itself; if it does not even say so, nobody is there any more.
GRACE_SECONDS = 5.0
CLOSE_SECONDS = 5.0
FAILED = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


@dataclass(eq=False, slots=True)
class Session:
    """A connection of the pool; times are time.monotonic().

    `prepared` has the statements that were asked before; behind a pooler, where they have no name, that spares the
    round trip which asks for their types. One that is `busy` after a read was not seen to end its statement.
    `replayed` is for a replica: the position in the log that it had reached before.
    """

    connection: Connection
    since: float
    idle_since: float
    busy: bool = False
    replayed: int = 0
    prepared: dict[str, PreparedStatement] = field(default_factory=dict)

    @property
    def is_lost(self) -> bool:
        return self.connection.is_closed()


class ReadPool:
    """At most `size` connections, and never more than the URL's connection_limit; none before the first read.

    `statement_timeout_ms` is as in create_engine; through a pooler, where a session cannot have it, we keep the time
    and have the statement cancelled.
    """

    def __init__(
        self,
        url: DatabaseUrl,
        *,
        application_name: str,
        size: int | None = None,
        statement_timeout_ms: int | None = None,
    ) -> None:
        """Raises InvalidDatabaseUrl as create_engine does."""
        timeout_ms = statement_timeout(url, statement_timeout_ms)
        settings = session_settings(url, application_name, timeout_ms, preferred=GENERIC_PLANS)
        self.target = shown(url)
        self.swaps_servers = url.pooled
        self._arguments = connect_arguments(url, settings)
        self._most_prepared = max(1, self._arguments["statement_cache_size"] or STATEMENT_CACHE_SIZE)
        self._patience = (timeout_ms / 1000 + (0 if url.pooled else GRACE_SECONDS)) if timeout_ms else None
        self._queue_seconds = seconds(url, "pool_timeout", POOL_TIMEOUT_SECONDS)
        self._longest_life = (
            0 if url.flag("single_use_connections") else url.number("max_connection_lifetime") or math.inf
        )
        self._longest_idle = url.number("max_idle_connection_lifetime") or math.inf
        self._free = asyncio.Semaphore(most_connections(url, size))
        self._idle: list[Session] = []
        self._retiring: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def is_full(self) -> bool:
        """Who comes now has to wait."""
        return self._free.locked()

    async def row(self, sql: str, arguments: Sequence[Any] = ()) -> Row:
        """The only row of a SELECT; raises what `run` does."""
        return await self.run(partial(self.ask, sql=sql, arguments=arguments))

    async def run(self, read: Callable[[Session], Awaitable[T]]) -> T:
        """Reads on a connection. If that is lost it is done once more, on a new one.

        Raises PoolFull, ConnectionFailed, and asyncpg's errors; QueryCanceledError after the statement timeout.
        """
        await self._wait_for_turn()
        session = None
        try:
            session = await self._take_idle() or await self._connect()
            try:
                return await read(session)
            except FAILED:
                if not session.is_lost:
                    raise
            session = await self._connect()
            try:
                return await read(session)
            except FAILED as error:
                if not session.is_lost:
                    raise
                reason = f"The connection to {name_of(self.target)} was lost twice in a read: {one_line(error)}"
                raise ConnectionFailed(f"{reason}; see the server's log.") from error
        except TimeoutError as error:
            if not self.swaps_servers:  # a server would have ended it by itself
                raise ConnectionFailed(f"{name_of(self.target)} does not answer any more; see that it runs.") from error
            raise asyncpg.QueryCanceledError("canceling statement due to statement timeout") from error
        finally:
            self._put_back(session)

    async def close(self) -> None:
        """Closes what is idle at once, and what is in use after its read."""
        self._closed = True
        while self._idle:
            await _close(self._idle.pop())
        await asyncio.gather(*self._retiring)

    async def _wait_for_turn(self) -> None:
        """Whoever goes on may have one connection."""
        if not self._free.locked():
            await self._free.acquire()
            return
        try:
            async with asyncio.timeout(self._queue_seconds):
                await self._free.acquire()
        except TimeoutError:
            raise connection_failed(self.target, PoolTimeout()) from None

    async def _take_idle(self) -> Session | None:
        """The one that was used last, so that those that are not needed grow old."""
        while self._idle:
            session = self._idle.pop()
            if not self._is_spent(session):
                return session
            await _close(session)
        return None

    async def _connect(self) -> Session:
        try:
            connection = await asyncpg.connect(**self._arguments)
        except FAILED as error:
            raise connection_failed(self.target, error) from error
        return Session(connection, time.monotonic(), time.monotonic())

    async def ask(self, session: Session, sql: str, arguments: Sequence[Any]) -> Row:
        session.busy = True
        try:
            try:
                rows = await self._fetch(session, sql, arguments)
            except asyncpg.InvalidCachedStatementError:  # a table has changed since it was prepared
                rows = await self._fetch(session, sql, arguments)
        except asyncpg.PostgresError:
            session.busy = False
            raise
        session.busy = False
        (row,) = rows
        return row

    async def _fetch(self, session: Session, sql: str, arguments: Sequence[Any]) -> list[Row]:
        prepared = session.prepared.get(sql) or await self._prepare(session, sql)
        try:
            rows: list[Row] = await prepared.fetch(*arguments, timeout=self._patience)
        except asyncpg.PostgresError:
            session.prepared.pop(sql, None)
            raise
        return rows

    async def _prepare(self, session: Session, sql: str) -> PreparedStatement:
        prepared = await session.connection.prepare(sql, timeout=self._patience)
        keep(session.prepared, sql, prepared, most=self._most_prepared)
        return prepared

    def _is_spent(self, session: Session) -> bool:
        now = time.monotonic()
        too_old = now - session.since >= self._longest_life
        return session.is_lost or too_old or now - session.idle_since >= self._longest_idle

    def _put_back(self, session: Session | None) -> None:
        """The end of a turn; unless the connection must be closed first, lest there be one too many."""
        if session is not None and not session.is_lost:
            session.idle_since = time.monotonic()
            if session.busy or self._closed:
                task = asyncio.create_task(self._retire(session))
                self._retiring.add(task)
                task.add_done_callback(self._retiring.discard)
                return
            self._idle.append(session)
        self._free.release()

    async def _retire(self, session: Session) -> None:
        await _close(session)
        self._free.release()


async def _close(session: Session) -> None:
    """In good order if the server is there to hear it."""
    with suppress(*FAILED):
        await session.connection.close(timeout=CLOSE_SECONDS)
