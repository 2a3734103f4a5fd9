"""Nobody queues behind an online migration (R15): it takes locks that are free, and lets everybody go first."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from migration.online import Outcome
from migration.progress import Progress
from tests.migration.support import until
from tests.online.support import migrate_live
from tests.online.test_races import sound
from tests.support import Connection, psql

APPLICATION = "stockshift test"
SALE = 'UPDATE items SET "quantityInStock" = "quantityInStock" - 1 WHERE id = $1'
UNITS = 'SELECT "quantityInStock" FROM items WHERE id = $1'

# Whoever waits for a lock of a migration's, or behind one that it waits for; and what a migration waits for.
BEHIND_US = """
SELECT a.pid, a.application_name, a.query FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.wait_event_type = 'Lock'
  AND EXISTS (SELECT FROM unnest(pg_blocking_pids(a.pid)) AS b (pid) JOIN pg_stat_activity o USING (pid)
              WHERE o.application_name = $1)
UNION ALL
SELECT l.pid, l.mode, l.relation::regclass::text FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE a.datname = current_database() AND a.application_name = $1 AND NOT l.granted
  AND l.relation IN (SELECT c.oid FROM pg_class c WHERE relnamespace = 'public'::regnamespace)
"""


class Beside:
    """A migration at work, and whoever is in the way of whom meanwhile."""

    def __init__(self, url: str, **others: Any) -> None:
        self.seen: list[Progress] = []
        self.behind_us: list[asyncpg.Record] = []
        self.looks = 0
        self.task: asyncio.Task[Outcome] = asyncio.create_task(migrate_live(url, progress=self.seen.append, **others))

    async def look_on(self, watcher: Connection) -> None:
        while True:
            self.behind_us += await watcher.fetch(BEHIND_US, APPLICATION)
            self.looks += 1

    async def waits_for(self, *words: str, times: int = 1) -> None:
        """Until it has said so many times that it waits, with these words."""

        async def said() -> bool:
            assert not self.task.done(), f"the migration ended: {self.task}"
            waits = [seen.waiting for seen in self.seen if seen.waiting and all(word in seen.waiting for word in words)]
            return len(waits) >= times

        await until(said, f"the migration has waited {times} times, saying {words}")


@asynccontextmanager
async def beside(url: str, **others: Any) -> AsyncIterator[Beside]:
    """Nobody is ever found behind the migration. It is to be awaited by the caller."""
    async with psql(url, application_name="watcher") as watcher:
        migration = Beside(url, **others)
        looking = asyncio.create_task(migration.look_on(watcher))
        try:
            yield migration
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
    assert migration.looks > 0
    assert migration.behind_us == []


@asynccontextmanager
async def reading(url: str) -> AsyncIterator[Connection]:
    """A transaction that has read items, and is not over."""
    async with psql(url, application_name="a long reader") as reader, reader.transaction():
        await reader.fetchval("SELECT count(*) FROM items")
        yield reader


@asynccontextmanager
async def writing(url: str) -> AsyncIterator[Connection]:
    """A transaction that has written an item, and is not over."""
    async with psql(url, application_name="a long writer") as writer, writer.transaction():
        await writer.execute(SALE, "item-01")
        yield writer


async def sell_on(shop: Connection, times: int = 20) -> None:
    """As others do meanwhile: each is served before anybody who waits for the table."""
    for _ in range(times):
        await shop.execute(SALE, "item-02")


async def test_nobody_queues_behind_a_migration_that_waits_for_a_reader_and_a_writer(quiet_url: str) -> None:
    async with psql(quiet_url, application_name="another writer") as shop:
        async with beside(quiet_url) as migration:
            async with reading(quiet_url):
                async with writing(quiet_url):
                    await migration.waits_for("a long writer", times=5)
                    await sell_on(shop)
                await migration.waits_for("a long reader", times=5)
                await sell_on(shop)
            outcome = await migration.task
        assert (outcome.state, outcome.copied) == ("FINISHED", 30)
        assert await shop.fetchval(UNITS, "item-02") == -40
    await sound(quiet_url)
