"""How far the migration is, and where reads come from."""

import pytest

from db.shape import load_shape
from migration.read_source import set_read_source
from migration.status import Status, read_status
from migration.verify import MigrationNotStarted
from tests.migration.support import engine_on, migrate
from tests.migration.test_plan import change
from tests.support import insert_item, psql


async def status(url: str, company: str | None = None) -> Status:
    async with engine_on(url) as engine, engine.connect() as connection:
        return await read_status(connection, company)


async def test_the_status_counts_the_items_that_are_there_now(items_url: str) -> None:
    await change(items_url, 'ALTER TABLE items ALTER "costPerUnitUSD" DROP NOT NULL')
    async with psql(items_url) as connection:
        await insert_item(connection, "no-cost", costPerUnitUSD=None)
        assert await status(items_url) == Status("NOT_STARTED", "AUTO", 8, 0, 1)
        await migrate(items_url)
        assert await status(items_url) == Status("DUAL_RUN", "AUTO", 8, 7, 1)
        assert await status(items_url, "globex") == Status("DUAL_RUN", "AUTO", 1, 1, 0)
        assert await status(items_url, "nobody") == Status("DUAL_RUN", "AUTO", 0, 0, 0)
        await connection.execute("DELETE FROM items WHERE id = 'item-Sold'")
        assert await status(items_url) == Status("DUAL_RUN", "AUTO", 7, 6, 1)


async def test_a_shop_without_items_is_expanded_and_no_more(shop_url: str) -> None:
    await migrate(shop_url)
    assert (await status(shop_url)).phase == "EXPANDED"


async def test_the_read_source_is_kept_in_the_database(items_url: str) -> None:
    async with engine_on(items_url) as engine:
        async with engine.begin() as connection:
            with pytest.raises(MigrationNotStarted):
                await set_read_source(connection, "LEGACY")
        await migrate(items_url)
        for source in ("LEGACY", "LEGACY", "AUTO"):
            async with engine.begin() as connection:
                await set_read_source(connection, source)
            async with engine.connect() as connection:
                assert (await load_shape(connection)).read_source == source
                assert (await read_status(connection, None)).read_source == source


async def test_a_read_source_whose_row_was_deleted_can_be_set(items_url: str) -> None:
    await migrate(items_url)
    await change(items_url, "DELETE FROM stockshift.setting")
    async with engine_on(items_url) as engine, engine.begin() as connection:
        await set_read_source(connection, "LEGACY")
        assert (await load_shape(connection)).read_source == "LEGACY"
