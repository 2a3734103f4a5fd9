"""Fixtures of the tests of the database."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import create_engine
from db.url import DatabaseUrl
from tests.db.engines import Engines


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
