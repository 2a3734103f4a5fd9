"""Two at once, in every order that matters: the copy and somebody who writes what it copies.

The copy locks an item until it is committed, and skips one that somebody else has locked. So a writer who comes first
is copied after its commit, and one who comes second waits, and is then followed.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

import asyncpg
import pytest
from sqlalchemy.util import await_only

from migration.locks import MigrationRunning
from migration.online import migrate_online
from migration.options import Options
from tests.graphql_client import client_of
from tests.migration.support import at_statements, engine_on, migrate, until, verified, waits_for_lock
from tests.mutations.support import stopping_at_harbour
from tests.online.balance import disagreements_within
from tests.online.support import COPIED, Migrating, migrate_live, migrate_while
from tests.online.writers import CREATE
from tests.support import Connection, insert, insert_item, psql

Isolation = Literal["read_committed", "repeatable_read", "serializable"]
ISOLATIONS: list[Isolation] = ["read_committed", "repeatable_read", "serializable"]
STRICT: list[Isolation] = ["repeatable_read", "serializable"]
SALE = 'UPDATE items SET "quantityInStock" = "quantityInStock" - 3 WHERE id = \'mug\''


async def sound(url: str) -> None:
    """Verified, opening batches equal their items, and movements explain what is there."""
    found = await verified(url)
    assert found.passed, [check for check in found.checks if not check.passed]
    async with psql(url) as connection:
        assert await disagreements_within(connection) == []


@dataclass(frozen=True)
class Found:
    """Of an item: units in its legacy column, in its opening batch (None without one), in all its batches."""

    legacy: int | None
    opening: int | None
    batches: int


async def found(connection: Connection, item_id: str) -> Found:
    row = await connection.fetchrow(
        """
        SELECT (SELECT "quantityInStock" FROM items WHERE id = $1),
               (SELECT quantity FROM stock_batches b JOIN stockshift.copy_ledger l ON l.batch_id = b.id
                WHERE l.item_id = $1 AND b."itemId" = $1),
               (SELECT coalesce(sum(quantity), 0) FROM stock_batches WHERE "itemId" = $1)
        """,
        item_id,
    )
    assert row is not None
    return Found(*row)


async def copied(connection: Connection) -> list[str]:
    return [row[0] for row in await connection.fetch("SELECT item_id FROM stockshift.copy_ledger ORDER BY 1")]


async def writes(connection: Connection, item_id: str) -> list[tuple[str, bool]]:
    """What was recorded of an item since it was made: operations, and whether the opening batch took them."""
    rows = await connection.fetch(
        "SELECT operation, followed FROM stockshift.legacy_write WHERE item_id = $1 ORDER BY id", item_id
    )
    return [(row["operation"], row["followed"]) for row in rows][1:]


@asynccontextmanager
async def doomed(legacy: Connection, isolation: Isolation) -> AsyncIterator[None]:
    """A transaction that has its snapshot, and must end in a serialization failure."""
    with pytest.raises(asyncpg.SerializationError):  # noqa: PT012 - whichever of them
        async with legacy.transaction(isolation=isolation):
            await legacy.fetchval("SELECT count(*) FROM items")
            yield


# The copy and a sale


@pytest.mark.parametrize("isolation", ISOLATIONS)
async def test_an_item_that_is_being_sold_is_skipped_and_copied_after_the_sale(
    half_copied_url: str, isolation: Isolation
) -> None:
    async with psql(half_copied_url) as legacy, psql(half_copied_url) as watcher:
        async with legacy.transaction(isolation=isolation):
            await legacy.execute(SALE)
            migrating = Migrating(half_copied_url)
            await migrating.waits()
            assert await copied(watcher) == ["copied", "cup", "pot"]
        assert (await migrating.task).copied == 3
        assert await found(watcher, "mug") == Found(7, 7, 7)
        assert await writes(watcher, "mug") == [("UPDATE", False)]
    await sound(half_copied_url)


async def test_an_item_whose_sale_is_taken_back_is_copied_as_it_was(half_copied_url: str) -> None:
    async with psql(half_copied_url) as legacy:
        sale = legacy.transaction()
        await sale.start()
        await legacy.execute(SALE)
        migrating = Migrating(half_copied_url)
        await migrating.waits()
        await sale.rollback()
        await migrating.task
        assert await found(legacy, "mug") == Found(10, 10, 10)
        assert await writes(legacy, "mug") == []
    await sound(half_copied_url)


async def test_a_sale_during_the_copy_waits_for_it_and_is_followed(half_copied_url: str) -> None:
    async with psql(half_copied_url) as legacy, psql(half_copied_url) as watcher:
        sales = []

        async def sell() -> None:
            sales.append(asyncio.create_task(legacy.execute(SALE)))
            await waits_for_lock(watcher)

        await migrate_while(half_copied_url, COPIED, sell)
        await asyncio.gather(*sales)
        assert await found(watcher, "mug") == Found(7, 7, 7)
        assert await writes(watcher, "mug") == [("UPDATE", True)]
    await sound(half_copied_url)


@pytest.mark.parametrize("isolation", STRICT)
async def test_a_sale_that_cannot_see_the_copy_it_waited_for_is_told_to_try_again(
    half_copied_url: str, isolation: Isolation
) -> None:
    async with psql(half_copied_url) as legacy, psql(half_copied_url) as watcher:
        sales = []

        async def sell() -> None:
            sales.append(asyncio.create_task(legacy.execute(SALE)))
            await waits_for_lock(watcher)

        async with doomed(legacy, isolation):
            await migrate_while(half_copied_url, COPIED, sell)
            await asyncio.gather(*sales)
        assert await found(watcher, "mug") == Found(10, 10, 10)
        async with legacy.transaction(isolation=isolation):
            await legacy.execute(SALE)
        assert await found(watcher, "mug") == Found(7, 7, 7)
        assert await writes(watcher, "mug") == [("UPDATE", True)]
    await sound(half_copied_url)


@pytest.mark.parametrize("isolation", STRICT)
async def test_a_sale_with_a_snapshot_older_than_the_copy_is_told_to_try_again(
    half_copied_url: str, isolation: Isolation
) -> None:
    async with psql(half_copied_url) as legacy:
        async with doomed(legacy, isolation):
            await migrate_live(half_copied_url)
            await legacy.execute(SALE)
        assert await found(legacy, "mug") == Found(10, 10, 10)
    await sound(half_copied_url)


@pytest.mark.parametrize("isolation", STRICT)
async def test_a_strict_sale_of_what_was_not_copied_meanwhile_goes_through(
    half_copied_url: str, isolation: Isolation
) -> None:
    async with psql(half_copied_url) as legacy, psql(half_copied_url) as watcher:
        async with legacy.transaction(isolation=isolation):
            await legacy.execute(SALE)
            migrating = Migrating(half_copied_url)
            await migrating.waits()
            await legacy.execute(SALE)
        await migrating.task
        assert await found(watcher, "mug") == Found(4, 4, 4)
    await sound(half_copied_url)


# The copy and the first batch


async def first_batch(url: str, place: str = "acme-main") -> Any:
    async with client_of(url) as client:
        made = {"itemId": "mug", "quantity": 5, "locationId": place}
        return (await client.ask(CREATE, input=made))["createBatch"]


async def test_a_first_batch_during_the_copy_waits_for_it_and_copies_nothing(half_copied_url: str) -> None:
    async with psql(half_copied_url) as watcher:
        making = []

        async def make() -> None:
            making.append(asyncio.create_task(first_batch(half_copied_url)))
            await waits_for_lock(watcher)

        assert (await migrate_while(half_copied_url, COPIED, make)).copied == 3
        (payload,) = await asyncio.gather(*making)
        assert payload["errors"] == []
        assert await found(watcher, "mug") == Found(10, 10, 15)
    await sound(half_copied_url)


async def test_an_item_that_gets_its_first_batch_is_skipped_and_not_copied_again(half_copied_url: str) -> None:
    async with psql(half_copied_url) as watcher:
        async with stopping_at_harbour(half_copied_url):
            making = asyncio.create_task(first_batch(half_copied_url, "acme-harbour"))
            await waits_for_lock(watcher)
            migrating = Migrating(half_copied_url)
            await migrating.waits()
            assert await copied(watcher) == ["copied", "cup", "pot"]
        assert (await making)["errors"] == []
        assert (await migrating.task).copied == 2
        assert await found(watcher, "mug") == Found(10, 10, 15)
    await sound(half_copied_url)


# The copy and a deletion


async def test_an_item_that_is_being_deleted_is_not_copied(half_copied_url: str) -> None:
    async with psql(half_copied_url) as legacy:
        async with legacy.transaction():
            await legacy.execute("DELETE FROM items WHERE id = 'mug'")
            migrating = Migrating(half_copied_url)
            await migrating.waits()
        assert (await migrating.task).copied == 2
        assert await copied(legacy) == ["copied", "cup", "pot"]
        assert await writes(legacy, "mug") == [("DELETE", False)]
    await sound(half_copied_url)


async def test_a_deletion_during_the_copy_waits_for_it_and_takes_the_batch_along(half_copied_url: str) -> None:
    async with psql(half_copied_url) as legacy, psql(half_copied_url) as watcher:
        deletions = []

        async def delete() -> None:
            deletions.append(asyncio.create_task(legacy.execute("DELETE FROM items WHERE id = 'mug'")))
            await waits_for_lock(watcher)

        await migrate_while(half_copied_url, COPIED, delete)
        await asyncio.gather(*deletions)
        assert await found(watcher, "mug") == Found(None, None, 0)
        original = "SELECT original ->> 'quantityInStock' FROM stockshift.copy_ledger WHERE item_id = 'mug'"
        assert await watcher.fetchval(original) == "10"
        assert await writes(watcher, "mug") == [("DELETE", True)]
    await sound(half_copied_url)


# The copy and items that come, or come under another id


async def test_an_item_that_is_inserted_behind_the_cursor_is_copied(half_copied_url: str) -> None:
    async with psql(half_copied_url) as legacy:

        async def make() -> None:
            await insert_item(legacy, "aaa", quantityInStock=4)

        outcome = await migrate_while(half_copied_url, COPIED, make, options=Options(chunk_size=1))
        assert outcome.copied == 4
        assert await found(legacy, "aaa") == Found(4, 4, 4)
    await sound(half_copied_url)


@pytest.mark.parametrize("new", ["aaa", "zzz"])
async def test_an_item_whose_id_is_being_changed_is_skipped_and_copied_under_the_new_one(
    half_copied_url: str, new: str
) -> None:
    """Behind the cursor, and before it."""
    async with psql(half_copied_url) as legacy:
        async with legacy.transaction():
            await legacy.execute("UPDATE items SET id = $1 WHERE id = 'mug'", new)
            migrating = Migrating(half_copied_url)
            await migrating.waits()
        assert (await migrating.task).copied == 3
        assert await copied(legacy) == sorted(["copied", "cup", new, "pot"])
        assert await found(legacy, new) == Found(10, 10, 10)
    await sound(half_copied_url)


@pytest.mark.parametrize("new", ["aaa", "zzz"])
async def test_a_change_of_id_during_the_copy_waits_for_it_and_takes_everything_along(
    half_copied_url: str, new: str
) -> None:
    async with psql(half_copied_url) as legacy, psql(half_copied_url) as watcher:
        changes = []

        async def change() -> None:
            statement = f"UPDATE items SET id = '{new}' WHERE id = 'mug'"
            changes.append(asyncio.create_task(legacy.execute(statement)))
            await waits_for_lock(watcher)

        await migrate_while(half_copied_url, COPIED, change)
        await asyncio.gather(*changes)
        assert await copied(watcher) == sorted(["copied", "cup", new, "pot"])
        assert await found(watcher, new) == Found(10, 10, 10)
        assert await writes(watcher, new) == [("UPDATE", True)]
    await sound(half_copied_url)


async def test_an_id_that_was_another_items_before_brings_nothing_of_it(half_copied_url: str) -> None:
    """The other one was copied, had a batch of its own, and was deleted."""
    await migrate_live(half_copied_url)
    async with psql(half_copied_url) as legacy:
        await insert(legacy, "stock_batches", id="more", itemId="mug", quantity=6, costPerUnitUSD=1.0)
        await legacy.execute(SALE)
        await legacy.execute("DELETE FROM items WHERE id = 'mug'")
        await legacy.execute("UPDATE items SET id = 'mug', \"quantityInStock\" = 8 WHERE id = 'pot'")
        assert await found(legacy, "mug") == Found(8, 8, 8)
    await sound(half_copied_url)


@pytest.mark.parametrize("isolation", STRICT)
async def test_an_item_made_again_by_who_cannot_see_its_copy_is_kept_in_step_or_to_be_made_again(
    half_copied_url: str, isolation: Isolation
) -> None:
    """It was copied and deleted since this transaction's snapshot."""
    async with psql(half_copied_url) as legacy, psql(half_copied_url) as other:
        await legacy.execute("DELETE FROM items WHERE id = 'mug'")
        again = legacy.transaction(isolation=isolation)
        await again.start()
        await legacy.fetchval("SELECT count(*) FROM items")
        await insert_item(other, "mug", quantityInStock=1)
        await migrate_live(half_copied_url)
        await other.execute("DELETE FROM items WHERE id = 'mug'")
        try:
            await insert_item(legacy, "mug", quantityInStock=4)
            await again.commit()
        except asyncpg.SerializationError:
            await again.rollback()
            await insert_item(legacy, "mug", quantityInStock=4)
        assert await found(other, "mug") == Found(4, 4, 4)
    await sound(half_copied_url)


async def test_what_a_trigger_of_the_shop_makes_of_a_write_is_followed(half_copied_url: str) -> None:
    """It writes the row once more, before the first write comes to our trigger."""
    await migrate_live(half_copied_url)
    async with psql(half_copied_url) as legacy:
        await legacy.execute(
            """
            CREATE FUNCTION keep_one() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                UPDATE items SET "quantityInStock" = NEW."quantityInStock" - 1, notes = 'one kept' WHERE id = NEW.id;
                RETURN NULL;
            END $$;
            CREATE TRIGGER keep_one AFTER UPDATE ON items
            FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION keep_one();
            """
        )
        await legacy.execute(SALE)
        assert await found(legacy, "mug") == Found(6, 6, 6)
    await sound(half_copied_url)


async def test_what_a_trigger_of_the_shop_makes_of_an_item_made_again_is_followed(half_copied_url: str) -> None:
    """It writes the row before the statement that inserted it comes to our trigger."""
    await migrate_live(half_copied_url)
    async with psql(half_copied_url) as legacy:
        await legacy.execute(
            """
            CREATE FUNCTION keep_one() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                UPDATE items SET "quantityInStock" = NEW."quantityInStock" - 1, notes = 'one kept' WHERE id = NEW.id;
                RETURN NULL;
            END $$;
            CREATE TRIGGER keep_one AFTER INSERT ON items FOR EACH ROW EXECUTE FUNCTION keep_one();
            DELETE FROM items WHERE id = 'mug';
            """
        )
        await insert_item(legacy, "mug", quantityInStock=4)
        assert await found(legacy, "mug") == Found(3, 3, 3)
    await sound(half_copied_url)


async def test_who_deletes_a_location_of_items_that_are_being_copied_is_not_made_to_fail(half_copied_url: str) -> None:
    """It has the location and wants the items next. So the copy has no item before its location, and waits for none."""
    async with psql(half_copied_url) as legacy, psql(half_copied_url) as other, psql(half_copied_url) as watcher:
        await legacy.execute("UPDATE items SET \"locationId\" = 'acme-harbour' WHERE id = 'mug'")

        async def passed_over() -> bool:
            waiting = await watcher.fetchval("SELECT waiting FROM stockshift.migration_run ORDER BY id DESC LIMIT 1")
            return "locked by other sessions" in (waiting or "")

        async with other.transaction():
            await other.execute("SELECT FROM locations WHERE id = 'acme-main' FOR UPDATE")
            migrating = Migrating(half_copied_url)
            await until(passed_over, "the copy has only items at a locked location left")
            assert await watcher.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted") == 0
            await legacy.execute("DELETE FROM locations WHERE id = 'acme-harbour'")
        assert (await migrating.task).copied == 3
        assert await watcher.fetchval("SELECT count(*) FROM stock_batches WHERE \"locationId\" = 'acme-harbour'") == 0
    await sound(half_copied_url)


# Before the copy, and beside it


async def test_a_batch_that_is_made_before_capture_is_on_is_refused_or_kept_in_step(shop_url: str) -> None:
    """The tables are there, the triggers are not."""
    async with psql(shop_url) as legacy:
        await insert_item(legacy, "mug")

        async def make_and_sell() -> None:
            await first_batch(shop_url)
            await legacy.execute(SALE)

        await migrate_while(shop_url, "FUNCTION stockshift.follow_item()", make_and_sell)
        there = await found(legacy, "mug")
        assert (there.legacy, there.opening) == (7, 7)
    await sound(shop_url)


async def test_a_table_that_is_never_free_is_waited_for_in_turn(shop_url: str) -> None:
    """Whenever a lock on it is wanted, one writer has gone and another has come; the last leaves it to who waits."""
    async with psql(shop_url) as legacy, psql(shop_url) as watcher, engine_on(shop_url) as engine:
        await insert_item(legacy, "mug")
        writing: list[asyncio.Task[None]] = []
        tries = 0

        async def leave() -> None:
            await waits_for_lock(watcher)
            await legacy.execute("COMMIT")

        async def write() -> None:
            nonlocal tries
            tries = tries + 1 if legacy.is_in_transaction() else 0
            for task in writing:
                task.cancel()
            if legacy.is_in_transaction():
                await legacy.execute("COMMIT")
            await legacy.execute("BEGIN")
            await legacy.execute(SALE)
            writing.append(asyncio.create_task(leave()))
            assert tries < 12, "a lock on items is never had where the shop writes all the time"

        def at(statement: str, _cursor: Any) -> None:
            if "LOCK TABLE public.items" in statement:
                await_only(write())

        with at_statements(engine, at):
            try:
                outcome = await migrate_online(engine, driver="test")
            finally:
                for task in writing:
                    task.cancel()
        assert outcome.copied == 1
        assert len(writing) >= 2


async def test_an_item_that_somebody_is_about_to_write_is_copied_by_an_atomic_migration(half_copied_url: str) -> None:
    """Its table is locked against writers, so what is locked in it cannot change."""
    async with psql(half_copied_url) as legacy, legacy.transaction():
        await legacy.execute("SELECT FROM items WHERE id = 'mug' FOR NO KEY UPDATE")
        assert (await migrate(half_copied_url)).copied == 3


async def test_of_two_drivers_at_once_the_second_is_told_who_drives(half_copied_url: str) -> None:
    async def drive() -> None:
        with pytest.raises(MigrationRunning) as refused:
            await migrate_live(half_copied_url, driver="the second")
        assert "the first" in refused.value.message

    outcome = await migrate_while(half_copied_url, "INSERT INTO stockshift.verification", drive, driver="the first")
    assert (outcome.state, outcome.copied) == ("FINISHED", 3)


async def test_a_driver_that_comes_in_the_middle_of_a_chunk_is_told_who_drives(half_copied_url: str) -> None:
    async with psql(half_copied_url) as watcher:
        others = []

        async def drive() -> None:
            others.append(asyncio.create_task(migrate_live(half_copied_url, driver="the second")))
            await waits_for_lock(watcher)

        outcome = await migrate_while(half_copied_url, COPIED, drive, driver="the first")
        (refused,) = await asyncio.gather(*others, return_exceptions=True)
    assert isinstance(refused, MigrationRunning)
    assert "the first" in refused.message
    assert outcome.copied == 3


# After the cut-over


async def test_a_legacy_write_after_the_cut_over_is_recorded_and_not_applied(half_copied_url: str) -> None:
    async with psql(half_copied_url, application_name="the old till") as legacy:
        await legacy.execute("UPDATE stockshift.copy_ledger SET cut_over_at = now() WHERE item_id = 'copied'")
        await legacy.execute("UPDATE items SET \"quantityInStock\" = 1 WHERE id = 'copied'")
        assert await found(legacy, "copied") == Found(1, 10, 10)
        row = await legacy.fetchrow("SELECT * FROM stockshift.legacy_write WHERE item_id = 'copied'")
        assert row is not None
        assert (row["operation"], row["followed"], row["application"]) == ("UPDATE", False, "the old till")
        assert (row["before"], row["after"]) == ('{"quantityInStock": 10}', '{"quantityInStock": 1}')
        assert await legacy.fetchval("SELECT count(*) FROM stockshift.movement") == 0
