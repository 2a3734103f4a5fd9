"""An online migration in a test, and what others do at a given point of it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from migration.online import Outcome, migrate_online
from migration.options import Options
from migration.progress import Progress
from tests.migration.support import engine_on, once_before, until

SMALL = Options(chunk_size=8)
"""Small chunks: many locks, many commits, many chances to meet a writer."""
LARGE = Options(chunk_size=50)
COPIED = "SET items_copied"
"""The statement with which a chunk ends: what it copied is locked, and not committed."""


async def migrate_live(url: str, *, options: Options | None = SMALL, driver: str = "test", **others: Any) -> Outcome:
    async with engine_on(url) as engine:
        return await migrate_online(engine, driver=driver, requested_by="somebody", options=options, **others)


async def migrate_while(
    url: str, words: str, act: Callable[[], Awaitable[None]], *, options: Options | None = SMALL, driver: str = "test"
) -> Outcome:
    """Awaits `act` before the first statement of the migration that has these words in it."""
    async with engine_on(url) as engine:
        with once_before(engine, words, act):
            return await migrate_online(engine, driver=driver, requested_by="somebody", options=options)


class Migrating:
    """A migration at work beside the test, which waits for items that the test has locked."""

    def __init__(self, url: str) -> None:
        self.seen: list[Progress] = []
        self.task = asyncio.create_task(migrate_live(url, progress=self.seen.append))

    async def waits(self) -> None:
        """Until it has copied everything but what is locked."""

        async def waiting() -> bool:
            assert not self.task.done(), f"the migration ended: {self.task}"
            return any(progress.waiting and "locked by other sessions" in progress.waiting for progress in self.seen)

        await until(waiting, "the migration waits for items that are locked")
