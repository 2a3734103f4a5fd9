"""Engines of a test, and what they are asked."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db.engine import ConnectionFailed, connecting
from db.read_pool import ReadPool


class Engines(Protocol):
    """Makes engines for a URL, with more parameters for it, and disposes of them after the test."""

    def __call__(
        self,
        url: str,
        query: str = "",
        *,
        application_name: str = "test",
        pool_size: int | None = None,
        statement_timeout_ms: int | None = None,
    ) -> AsyncEngine: ...


class ReadPools(Protocol):
    """Makes pools of reads for a URL, with more parameters for it, and closes them after the test."""

    def __call__(
        self, url: str, query: str = "", *, size: int | None = None, statement_timeout_ms: int | None = None
    ) -> ReadPool: ...


async def value(connection: AsyncConnection, query: str) -> str:
    return str(await connection.scalar(text(query)))


async def ask(engine: AsyncEngine, query: str) -> str:
    async with connecting(engine) as connection:
        return await value(connection, query)


async def backend(engine: AsyncEngine) -> str:
    return await ask(engine, "SELECT pg_backend_pid()")


async def failure(engine: AsyncEngine) -> str:
    """The message of the ConnectionFailed, which is one line."""
    with pytest.raises(ConnectionFailed) as caught:
        await ask(engine, "SELECT 1")
    assert "\n" not in caught.value.message
    return caught.value.message


async def wait_for(true: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + 30
    while not await true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
