"""Nobody queues behind an online migration (R15): it takes locks that are free, and lets everybody go first."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias

import asyncpg
import pytest
from sqlalchemy.util import await_only

from migration.failures import ConnectionLost, Refused
from migration.online import Outcome, migrate_online
from migration.options import Options
from migration.progress import Progress
from tests.migration.support import at_statements, engine_on, once_before, until, waits_for_lock
from tests.migration.test_plan import BATCHES
from tests.migration.test_variants import EQUAL
from tests.online.support import SMALL, migrate_live
from tests.online.test_races import sound
from tests.support import Connection, psql

APPLICATION = "stockshift test"
SALE = 'UPDATE items SET "quantityInStock" = "quantityInStock" - 1 WHERE id = $1'
UNITS = 'SELECT "quantityInStock" FROM items WHERE id = $1'

# Whoever waits for a lock of a migration's, or behind one that it waits for; and what a migration waits for.
BEHIND_US = """
SELECT a.pid, a.application_name, a.query FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.wait_event_type = 'Lock' AND a.application_name <> $1
  AND EXISTS (SELECT FROM unnest(pg_blocking_pids(a.pid)) AS b (pid) JOIN pg_stat_activity o USING (pid)
              WHERE o.application_name = $1)
UNION ALL
SELECT l.pid, l.mode, l.relation::regclass::text FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE a.datname = current_database() AND a.application_name = $1 AND NOT l.granted
  AND l.relation IN (SELECT c.oid FROM pg_class c WHERE relnamespace = 'public'::regnamespace)
"""

Before: TypeAlias = tuple[str, Callable[[], Awaitable[None]]]
"""What is done before the first statement with these words."""


class Beside:
    """A migration at work, and whoever is in the way of whom meanwhile."""

    def __init__(self, url: str, *, before: Before | None = None, options: Options | None = SMALL) -> None:
        self.url = url
        self.seen: list[Progress] = []
        self.behind_us: list[asyncpg.Record] = []
        self.looks = 0
        self.task = asyncio.create_task(self.migrate(before, options))

    async def migrate(self, before: Before | None, options: Options | None) -> Outcome:
        async with engine_on(self.url) as engine, AsyncExitStack() as stack:
            if before is not None:
                stack.enter_context(once_before(engine, *before))
            return await migrate_online(engine, driver="test", options=options, progress=self.seen.append)

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
async def writing(url: str, sale: str = SALE) -> AsyncIterator[Connection]:
    """A transaction that has written an item, and is not over."""
    async with psql(url, application_name="a long writer") as writer, writer.transaction():
        await writer.execute(sale, "item-01")
        yield writer


async def sell_on(shop: Connection, sale: str = SALE) -> None:
    """As others do meanwhile: each is served before anybody who waits for the table."""
    for _ in range(20):
        await shop.execute(sale, "item-02")


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


INVALID = "SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid"


@asynccontextmanager
async def stuck_index(url: str) -> AsyncIterator[tuple[Beside, Connection]]:
    """An index is being made concurrently, and waits for a transaction that began before; and the shop."""
    async with psql(url, application_name="the shop") as shop, psql(url, application_name="a long reader") as reader:
        older = reader.transaction(isolation="repeatable_read")

        async def begin() -> None:
            await older.start()
            await reader.fetchval("SELECT count(*) FROM items")

        async with beside(url, before=("CREATE INDEX CONCURRENTLY", begin)) as migration:
            await waits_for_lock(shop)
            yield migration, shop
            await older.rollback()


async def test_nobody_queues_behind_an_index_that_waits_for_a_reader(quiet_url: str) -> None:
    async with stuck_index(quiet_url) as (migration, shop):
        await sell_on(shop)
        assert len(await shop.fetch(INVALID)) == 1
    assert (await migration.task).state == "FINISHED"
    async with psql(quiet_url) as shop:
        assert await shop.fetch(INVALID) == []
    await sound(quiet_url)


@pytest.mark.parametrize(
    ("how", "raised"),
    [("pg_cancel_backend", Refused), ("pg_terminate_backend", ConnectionLost)],
    ids=["cancelled", "terminated"],
)
async def test_an_index_that_was_left_half_made_is_found_and_made_anew(
    quiet_url: str, how: str, raised: type[Exception]
) -> None:
    async with stuck_index(quiet_url) as (migration, shop):
        ended = f"SELECT {how}(pid) FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY%'"
        assert await shop.fetchval(ended)
        with pytest.raises(raised):
            await migration.task
        (half_made,) = await shop.fetch(INVALID)
    assert (await migrate_live(quiet_url)).state == "FINISHED"
    async with psql(quiet_url) as shop:
        assert await shop.fetch(INVALID) == []
        assert await shop.fetchval("SELECT to_regclass($1) IS NOT NULL", half_made[0])
    await sound(quiet_url)


# Batches that are there already


async def test_keys_of_batches_that_are_there_are_checked_apart(quiet_url: str) -> None:
    """Made without being checked, for that would lock the shop's tables while every batch is read."""
    unchecked = "SELECT count(*)::int FROM pg_constraint WHERE contype = 'f' AND NOT convalidated"
    async with psql(quiet_url) as shop:
        await shop.execute(BATCHES)
        await shop.execute(EQUAL)
        seen: list[tuple[str, int]] = []
        made = "ADD CONSTRAINT"

        def look(statement: str, _cursor: Any) -> None:
            if made in statement or "VALIDATE CONSTRAINT" in statement or "SET items_copied" in statement:
                seen.append((statement, await_only(shop.fetchval(unchecked))))

        async with engine_on(quiet_url) as engine:
            with at_statements(engine, look):
                outcome = await migrate_online(engine, driver="test", options=Options(chunk_size=15))
        assert (outcome.copied, outcome.adopted) == (30, 30)
        added = [statement for statement, _ in seen if made in statement]
        assert len(added) == 3
        assert all(statement.endswith("NOT VALID") for statement in added)
        assert [count for _, count in seen] == [0, 1, 2, 3, 3, 3, 2, 1]
        assert await shop.fetchval(unchecked) == 0
    await sound(quiet_url)


async def test_batches_that_are_written_meanwhile_are_adopted_or_kept_for_a_decision(quiet_url: str) -> None:
    """Copied in one go, some of them by somebody else, who has not even committed when others are copied."""
    async with psql(quiet_url) as shop, psql(quiet_url) as other:
        await shop.execute(BATCHES)
        await shop.execute(f"{EQUAL} WHERE id < 'item-10'")
        await shop.execute("UPDATE stock_batches SET quantity = 99 WHERE \"itemId\" IN ('item-03', 'item-04')")
        open_still = other.transaction()

        async def write() -> None:
            """03 becomes its item's equal, 05 ceases to be, 10 gets one by hand, 11 a strange one; all captured."""
            await shop.execute("UPDATE stock_batches SET quantity = 1 WHERE \"itemId\" = 'item-03'")
            await shop.execute("UPDATE stock_batches SET quantity = 77 WHERE \"itemId\" = 'item-05'")
            await shop.execute(f"{EQUAL} WHERE id IN ('item-10', 'item-11')")
            await shop.execute("UPDATE stock_batches SET notes = 'strange' WHERE \"itemId\" = 'item-11'")
            await open_still.start()
            await other.execute("UPDATE stock_batches SET quantity = quantity + 5 WHERE \"itemId\" = 'item-06'")
            await other.execute("DELETE FROM stock_batches WHERE \"itemId\" = 'item-07'")

        migrating = Beside(quiet_url, before=("SELECT chunk.id", write), options=Options(chunk_size=30))

        async def copied() -> bool:
            return any(seen.stage == "sweep" for seen in migrating.seen)

        await until(copied, "the backfill is over")
        await open_still.commit()
        outcome = await migrating.task
        assert (outcome.copied, outcome.adopted, outcome.held_back) == (27, 9, 3)
        held_back = (
            "SELECT id FROM items i WHERE NOT EXISTS (SELECT FROM stockshift.copy_ledger l WHERE l.item_id = i.id)"
        )
        assert [row[0] for row in await shop.fetch(held_back)] == ["item-04", "item-05", "item-11"]
        # What 06 and 07 differ by is explained by their movements; what was held back waits for a decision.
        checks = await shop.fetch(
            "SELECT name FROM stockshift.verification_check WHERE verification_id = $1 AND NOT passed",
            outcome.verification,
        )
        failed = {row["name"] for row in checks}
        assert failed == {"items match", "quantities", "opening batches", "hidden legacy stock"}
        assert outcome.mismatched == 5
