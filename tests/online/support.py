"""An online migration in a test."""

from typing import Any

from migration.online import Outcome, migrate_online
from migration.options import Options
from tests.migration.support import engine_on

SMALL = Options(chunk_size=5)
"""Small chunks: many locks, many commits, many chances to meet a writer."""


async def migrate_live(url: str, *, options: Options | None = SMALL, driver: str = "test", **others: Any) -> Outcome:
    async with engine_on(url) as engine:
        return await migrate_online(engine, driver=driver, requested_by="somebody", options=options, **others)
