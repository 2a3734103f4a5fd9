"""A draft that was made beside everybody is brought up to date, whoever wrote in between, and however."""

from collections.abc import AsyncIterator, Callable

import pytest

from migration.draft import SCHEMA, Changed, catch_up, drafting, make_draft, one_draft_snapshot
from migration.exclusively import Actor
from migration.locks import MigrationRunning
from tests.migration.support import engine_on
from tests.support import Connection, insert_item, psql

ACTOR = Actor("test")
COLUMNS = ("id", '"quantityInStock"', "notes")
Writes = Callable[[Connection], AsyncIterator[None]]
"""Writes before and after the draft is made, which is where it yields."""


async def update(shop: Connection) -> AsyncIterator[None]:
    yield
    await shop.execute("UPDATE items SET notes = 'late' WHERE id = 'item-Sold'")


async def update_unseen_by_triggers(shop: Connection) -> AsyncIterator[None]:
    yield
    await shop.execute("ALTER TABLE items DISABLE TRIGGER USER")
    await shop.execute("UPDATE items SET notes = 'late' WHERE id = 'item-Sold'")
    await shop.execute("ALTER TABLE items ENABLE TRIGGER USER")


async def commit_a_subtransaction_that_was_open(shop: Connection) -> AsyncIterator[None]:
    """Its rows have a number that comes after many that were over when the draft was made."""
    async with shop.transaction():
        await shop.execute("UPDATE items SET name = 'renamed' WHERE id = 'item-Arrived'")
        async with shop.transaction():
            await shop.execute("UPDATE items SET notes = 'late' WHERE id = 'item-Sold'")
        yield


async def insert(shop: Connection) -> AsyncIterator[None]:
    yield
    await insert_item(shop, "late")


async def delete(shop: Connection) -> AsyncIterator[None]:
    yield
    await shop.execute("DELETE FROM items WHERE id = 'item-Sold'")


async def delete_one_and_insert_another(shop: Connection) -> AsyncIterator[None]:
    yield
    await shop.execute("DELETE FROM items WHERE id = 'item-Sold'")
    await insert_item(shop, "late")


async def delete_and_insert_again(shop: Connection) -> AsyncIterator[None]:
    yield
    await shop.execute("DELETE FROM items WHERE id = 'item-Sold'")
    await insert_item(shop, "item-Sold", quantityInStock=77)


async def give_another_id(shop: Connection) -> AsyncIterator[None]:
    yield
    await shop.execute("UPDATE items SET id = 'renamed' WHERE id = 'item-Sold'")


async def truncate(shop: Connection) -> AsyncIterator[None]:
    yield
    await shop.execute("TRUNCATE items CASCADE")
    await insert_item(shop, "item-Sold")


async def rewrite_and_freeze(shop: Connection) -> AsyncIterator[None]:
    await shop.execute("VACUUM (FREEZE) items")
    yield
    await shop.execute("UPDATE items SET notes = 'late' WHERE id = 'item-Sold'")
    await shop.execute("VACUUM (FULL, FREEZE) items")


WRITES: list[Writes] = [
    update,
    update_unseen_by_triggers,
    commit_a_subtransaction_that_was_open,
    insert,
    delete,
    delete_one_and_insert_another,
    delete_and_insert_again,
    give_another_id,
    truncate,
    rewrite_and_freeze,
]  # fmt: skip


async def rows(connection: Connection, table: str) -> list[str]:
    found = await connection.fetch(f"SELECT ROW({', '.join(COLUMNS)})::text AS row FROM {table} ORDER BY id")
    return [row["row"] for row in found]


@pytest.mark.parametrize("writes", WRITES, ids=lambda writes: writes.__name__)
async def test_whatever_is_written_meanwhile_is_in_it(migrated_url: str, writes: Writes) -> None:
    async with psql(migrated_url) as shop, engine_on(migrated_url) as engine:
        course = writes(shop)
        await anext(course)
        async with drafting(engine, ACTOR):
            async with one_draft_snapshot(engine, ACTOR, ["public.items"]) as connection:
                draft = await make_draft(connection, "public.items", "item", COLUMNS, key="id")
            before = await rows(shop, draft.table)
            await anext(course, None)
            async with engine.begin() as connection:
                since = await catch_up(connection, draft)
            there = await rows(shop, "items")
            assert before != there
            assert await rows(shop, draft.table) == there
            assert since.rows == len(there)


async def test_a_column_that_is_dropped_and_made_anew_is_not_taken_for_the_old_one(migrated_url: str) -> None:
    async with psql(migrated_url) as shop, engine_on(migrated_url) as engine, drafting(engine, ACTOR):
        async with one_draft_snapshot(engine, ACTOR, ["public.items"]) as connection:
            draft = await make_draft(connection, "public.items", "item", COLUMNS, key="id")
        await shop.execute("ALTER TABLE items DROP COLUMN notes, ADD COLUMN notes text DEFAULT 'another'")
        async with engine.begin() as connection:
            with pytest.raises(Changed):
                await catch_up(connection, draft)


async def test_one_drafts_at_a_time_and_what_fails_leaves_nothing(migrated_url: str) -> None:
    async with psql(migrated_url) as shop, engine_on(migrated_url) as engine:

        async def two_at_once() -> None:
            async with drafting(engine, ACTOR):
                async with one_draft_snapshot(engine, ACTOR, ["public.items"]) as connection:
                    await make_draft(connection, "public.items", "item", COLUMNS, key="id")
                assert await shop.fetchval("SELECT to_regnamespace($1) IS NOT NULL", SCHEMA)
                async with drafting(engine, ACTOR):
                    raise AssertionError

        with pytest.raises(MigrationRunning, match="test drives"):
            await two_at_once()
        assert await shop.fetchval("SELECT to_regnamespace($1) IS NULL", SCHEMA)
        assert await shop.fetchval("SELECT count(*) FROM stockshift.driver") == 0
