"""Engines for a database URL: a bounded pool of connections that outlives a restart of the server."""

import math
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from types import MappingProxyType
from typing import Any

import asyncpg
import orjson
from sqlalchemy import URL, Connection, event
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from db.connection_failed import ConnectionFailed, PoolFull, connection_failed
from db.keepalive import keeping_alive
from db.tls import tls_arguments
from db.url import DatabaseUrl

__all__ = ["ConnectionFailed", "PoolFull", "connecting", "create_engine"]

POOL_SIZE = 10
POOL_TIMEOUT_SECONDS = 10
CONNECT_TIMEOUT_SECONDS = 15
STATEMENT_CACHE_SIZE = 100
# A connection that was in use a moment ago is not asked whether it lives: that would cost a round trip every time.
PING_AFTER_SECONDS = 1.0
PING_TIMEOUT_SECONDS = 5.0
NONE: Mapping[str, str] = MappingProxyType({})


def create_engine(
    url: DatabaseUrl,
    *,
    application_name: str,
    pool_size: int | None = None,
    statement_timeout_ms: int | None = None,
) -> AsyncEngine:
    """An engine with at most `pool_size` connections, and never more than the URL's connection_limit.

    `statement_timeout_ms` stands above what the URL says of it (socket_timeout, options); 0 is no limit.
    Nothing is connected yet. Raises InvalidDatabaseUrl for a file (sslrootcert and the like) that cannot be read.
    """
    timeout_ms = statement_timeout(url, statement_timeout_ms)
    engine = create_async_engine(
        shown(url),
        connect_args={
            **connect_arguments(url, session_settings(url, application_name, timeout_ms)),
            **dialect_caches(url),
        },
        pool_size=most_connections(url, pool_size),
        max_overflow=0,
        pool_timeout=seconds(url, "pool_timeout", POOL_TIMEOUT_SECONDS),
        pool_recycle=0 if url.flag("single_use_connections") else url.number("max_connection_lifetime") or -1,
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
    )
    replace_dead_connections(engine, max_idle=url.number("max_idle_connection_lifetime") or math.inf)
    if url.pooled and timeout_ms is not None:
        limit_each_transaction(engine, timeout_ms)
    return engine


@asynccontextmanager
async def connecting(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """engine.connect(); raises ConnectionFailed if there is no connection to be had.

    Errors of the body are left as they are.
    """
    async with AsyncExitStack() as stack:
        try:
            connection = await stack.enter_async_context(engine.connect())
        except (OSError, DBAPIError, PoolTimeout, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise connection_failed(engine.url, error) from error
        yield connection


def shown(url: DatabaseUrl) -> URL:
    """For people to read: it has no password, and not what says how to connect."""
    return URL.create(
        "postgresql+asyncpg",
        username=url.user,
        host=",".join(f"{host}:{port}" for host, port in url.hosts) or None,
        database=url.database,
    )


def connect_arguments(url: DatabaseUrl, settings: Mapping[str, str]) -> dict[str, Any]:
    """Arguments of asyncpg.connect, for a session with these settings. Raises InvalidDatabaseUrl as create_engine."""
    return {
        "host": [host for host, _ in url.hosts] or None,
        "port": [port for _, port in url.hosts] or None,
        "user": url.user,
        "password": url.password,
        "database": url.database,
        "timeout": seconds(url, "connect_timeout", CONNECT_TIMEOUT_SECONDS),
        "server_settings": dict(settings),
        "connection_class": keeping_alive(url),
        "statement_cache_size": statement_cache_size(url),
        "max_cacheable_statement_size": 0,  # no limit: what is long to parse is worth keeping most
        **tls_arguments(url),
    }


def most_connections(url: DatabaseUrl, asked: int | None) -> int:
    """Of a pool that asks for so many: never more than the URL's connection_limit."""
    limit = url.number("connection_limit")
    return min(asked or limit or POOL_SIZE, limit or asked or POOL_SIZE)


def seconds(url: DatabaseUrl, name: str, default: float) -> float | None:
    """A time limit; 0 in a URL is none."""
    given = url.number(name)
    return default if given is None else given or None


def statement_timeout(url: DatabaseUrl, asked_ms: int | None) -> int | None:
    """In milliseconds; None leaves it to the URL's options and to the server."""
    socket_timeout = url.number("socket_timeout")
    if asked_ms is not None or not socket_timeout or "statement_timeout" in url.settings:
        return asked_ms
    return socket_timeout * 1000


def session_settings(
    url: DatabaseUrl, application_name: str, timeout_ms: int | None, preferred: Mapping[str, str] = NONE
) -> dict[str, str]:
    """What a session starts with; the URL's options stand above what is `preferred`.

    Through PgBouncer only what it keeps for each of its clients.
    """
    ours = {"application_name": application_name, "timezone": "UTC"}
    if url.routing:
        ours["options"] = url.routing
    if url.pooled:
        return {**url.settings, **ours}
    if timeout_ms is not None:
        ours["statement_timeout"] = str(timeout_ms)
    return {"jit": "off", **preferred, **url.settings, **ours}


def statement_cache_size(url: DatabaseUrl) -> int:
    """How many statements each connection keeps prepared.

    With 0 every statement is unnamed and parsed in the round trip that runs it. PgBouncer needs that: the next
    transaction may be on a connection that has not seen the statement's name, or has it for another statement.
    """
    asked = url.number("statement_cache_size")
    return 0 if url.pooled else STATEMENT_CACHE_SIZE if asked is None else asked


def dialect_caches(url: DatabaseUrl) -> dict[str, Any]:
    """The same for SQLAlchemy's dialect, which prepares statements by itself."""
    size = statement_cache_size(url)
    names = {} if size else {"prepared_statement_name_func": str}  # str() is the empty name
    return {"prepared_statement_cache_size": size, **names}


def replace_dead_connections(engine: AsyncEngine, *, max_idle: float) -> None:
    """Give out no connection that the server closed, that does not answer, or that idled for `max_idle` seconds.

    Cheaper than pool_pre_ping, which costs three round trips at each checkout: a connection that was used within
    the last second is known to be closed without asking, and others are asked in one.
    """
    pool = engine.sync_engine.pool

    @event.listens_for(pool, "checkin")
    def note_time(_connection: Any, record: Any) -> None:
        record.info["idle_since"] = time.monotonic()

    @event.listens_for(pool, "checkout")
    def ensure_alive(connection: Any, record: Any, _proxy: Any) -> None:
        idle_since = record.info.get("idle_since")
        if idle_since is None:
            return
        idle = time.monotonic() - idle_since
        if connection.driver_connection.is_closed() or idle >= max_idle:
            raise DisconnectionError
        if idle >= PING_AFTER_SECONDS:
            try:
                connection.run_async(lambda driver: driver.execute("SELECT 1", timeout=PING_TIMEOUT_SECONDS))
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                raise DisconnectionError from error


def limit_each_transaction(engine: AsyncEngine, timeout_ms: int) -> None:
    """The statement timeout where it cannot be a property of the session. Not for AUTOCOMMIT connections."""

    @event.listens_for(engine.sync_engine, "begin")
    def set_timeout(connection: Connection) -> None:
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {timeout_ms:d}")
