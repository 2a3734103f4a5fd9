"""The indexes that pages are read by: made with the rest, never doubled, and no loss but of time when they are gone."""

from hashlib import sha512

import pytest

from db.indexes import BATCH_INDEXES, ITEM_INDEXES
from tests.migration.support import migrate, verified
from tests.migration.test_plan import BATCHES, change, plan
from tests.support import Connection, insert_item, psql

OURS = {str(index.name) for index in (*BATCH_INDEXES.values(), *ITEM_INDEXES.values())}


async def indexes(connection: Connection) -> set[str]:
    rows = await connection.fetch("SELECT indexname FROM pg_indexes WHERE schemaname = 'public'")
    return {row["indexname"] for row in rows}


async def missing(url: str) -> set[str]:
    """Which of ours the plan would make."""
    steps = "\n".join(step.sql for step in (await plan(url)).steps)
    return {name for name in OURS if f'"{name}"' in steps or f" {name} " in steps}


async def test_a_migration_makes_every_index_and_the_next_one_none(items_url: str) -> None:
    assert await missing(items_url) == OURS
    await migrate(items_url)
    async with psql(items_url) as connection:
        assert await indexes(connection) >= OURS
    assert not (await plan(items_url)).steps


EQUIVALENT = [
    ('CREATE INDEX other ON stock_batches ("itemId", "createdAt", id)', "stock_batches_itemId_createdAt_id_idx"),
    ('CREATE INDEX other ON stock_batches (status, "itemId", quantity)', "stock_batches_status_itemId_idx"),
    ('CREATE INDEX other ON stock_batches ("assignedUserId", notes)', "stock_batches_assignedUserId_idx"),
    ('CREATE INDEX "items_locationId_idx" ON items ("locationId")', "stockshift_items_location_idx"),
]


@pytest.mark.parametrize(("made", "name"), EQUIVALENT)
async def test_an_index_that_serves_the_same_under_another_name_is_not_doubled(
    items_url: str, made: str, name: str
) -> None:
    await change(items_url, BATCHES, made)
    assert await missing(items_url) == OURS - {name}
    await migrate(items_url)
    async with psql(items_url) as connection:
        assert name not in await indexes(connection)
    assert not (await plan(items_url)).steps
    assert (await verified(items_url)).passed


@pytest.mark.parametrize(
    "made",
    [
        'CREATE INDEX other ON stock_batches ("itemId")',
        'CREATE INDEX other ON stock_batches ("itemId") INCLUDE ("createdAt", id)',
        'CREATE INDEX other ON stock_batches ("itemId", "createdAt" DESC, id)',
        'CREATE INDEX other ON stock_batches ("itemId", "createdAt", id) WHERE quantity > 0',
        'CREATE INDEX other ON stock_batches ("itemId" text_pattern_ops, "createdAt", id)',
        'CREATE INDEX other ON stock_batches USING hash ("assignedUserId")',
    ],
)
async def test_an_index_that_serves_less_stands_in_for_none(items_url: str, made: str) -> None:
    await change(items_url, BATCHES, made)
    assert await missing(items_url) == OURS


async def test_an_orm_may_drop_the_indexes_on_items_and_the_next_migration_makes_them_again(items_url: str) -> None:
    await migrate(items_url)
    await change(items_url, *[f'DROP INDEX "{index.name}"' for index in ITEM_INDEXES.values()])
    assert (await verified(items_url)).passed
    async with psql(items_url) as connection:
        await insert_item(connection, "item-new")
    assert (await migrate(items_url)).copied == 1
    async with psql(items_url) as connection:
        assert await indexes(connection) >= OURS


async def test_a_verification_says_that_an_index_of_the_batches_is_gone(items_url: str) -> None:
    await migrate(items_url)
    await change(items_url, 'DROP INDEX "stock_batches_status_itemId_idx"')
    report = await verified(items_url)
    assert [check.detail for check in report.checks if not check.passed] == [
        "by index: which items have batches of a status"
    ]
    assert (await migrate(items_url)).copied == 0
    assert (await verified(items_url)).passed


async def test_the_shop_can_write_names_as_long_as_before(items_url: str) -> None:
    """An entry of an index is limited to some 2,700 bytes, compressed; what is no pattern stays as it is."""
    name = "".join(sha512(str(number).encode()).hexdigest() for number in range(100))
    async with psql(items_url) as connection:
        await insert_item(connection, "long", name=name)
        await migrate(items_url)
        await insert_item(connection, "long too", name=name)
        await connection.execute("UPDATE items SET name = $1 WHERE id = 'item-Sold'", "📦" * 20_000)


async def test_a_change_of_quantity_touches_no_index(items_url: str) -> None:
    """PostgreSQL counts such updates as HOT."""
    await migrate(items_url)
    async with psql(items_url) as connection, connection.transaction():
        await connection.execute('UPDATE items SET "quantityInStock" = "quantityInStock" - 1, "updatedAt" = now()')
        counted = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = 'items'"
        assert await connection.fetch(counted) == [(7, 7)]
