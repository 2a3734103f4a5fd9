"""Fixtures of the tests of the database."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import create_engine
from db.read_pool import ReadPool
from db.url import DatabaseUrl
from tests.db.engines import Engines, ReadPools


@pytest.fixture
async def engines() -> AsyncIterator[Engines]:
    made: list[AsyncEngine] = []

    def make(
        url: str,
        query: str = "",
        *,
        application_name: str = "test",
        pool_size: int | None = None,
        statement_timeout_ms: int | None = None,
    ) -> AsyncEngine:
        parsed = DatabaseUrl.parse(f"{url}{'&' if '?' in url else '?'}{query}")
        engine = create_engine(
            parsed,
            application_name=application_name,
            pool_size=pool_size,
            statement_timeout_ms=statement_timeout_ms,
        )
        made.append(engine)
        return engine

    yield make
    for engine in made:
        await engine.dispose()


@pytest.fixture
async def read_pools() -> AsyncIterator[ReadPools]:
    made: list[ReadPool] = []

    def make(
        url: str, query: str = "", *, size: int | None = None, statement_timeout_ms: int | None = None
    ) -> ReadPool:
        parsed = DatabaseUrl.parse(f"{url}{'&' if '?' in url else '?'}{query}")
        pool = ReadPool(parsed, application_name="test reads", size=size, statement_timeout_ms=statement_timeout_ms)
        made.append(pool)
        return pool

    yield make
    for pool in made:
        await pool.close()
