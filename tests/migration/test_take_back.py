"""Taking items back (R9): the legacy columns are right again, what somebody else wrote is not overwritten."""

import json

import pytest

from migration.failures import ConnectionLost
from migration.in_chunks import Selection, all_items
from migration.take_back import take_back
from tests.migration.cutting_over import (
    cut,
    cut_over_items,
    killed_before,
    kinds,
    legacy,
    opening,
    taken_back,
    write_back,
    writes_of,
)
from tests.migration.support import legacy_rows, verified, whole_database
from tests.resolvers.shop import insert_batch
from tests.support import psql


@pytest.fixture
async def cut_over_url(migrated_url: str) -> str:
    """The seven items, all of them cut over."""
    assert (await cut(migrated_url)).done == 7
    return migrated_url


async def sold(url: str) -> None:
    """Of an item that is cut over three units are sold, the rest is moved, and five more are ordered."""
    async with psql(url) as connection:
        await opening(connection, "item-Sold", quantity=7, locationId="acme-harbour", status="Arrived", notes="moved")
        await insert_batch(connection, "more", "item-Sold", quantity=5, status="Ordered")


async def test_what_nobody_changed_is_taken_back_as_it_was(cut_over_url: str) -> None:
    async with psql(cut_over_url) as connection:
        before = await legacy_rows(connection)
        outcome = await taken_back(cut_over_url)
        assert (outcome.done, outcome.refused) == (7, {})
        assert await cut_over_items(connection) == []
        assert await legacy_rows(connection) == before
        assert [row for row in await writes_of(connection, "item-Sold") if row[0] == "TAKE_BACK"] == []
    assert (await verified(cut_over_url)).passed


async def test_the_legacy_columns_take_what_became_of_the_opening_batch_and_that_is_recorded(cut_over_url: str) -> None:
    await sold(cut_over_url)
    outcome = await taken_back(cut_over_url, "item-Sold")
    assert (outcome.done, outcome.refused) == (1, {})
    async with psql(cut_over_url) as connection:
        assert await legacy(connection, "item-Sold") == (7, "Arrived", "acme-harbour")
        assert await writes_of(connection, "item-Sold") == [
            (
                "TAKE_BACK",
                True,
                {"quantityInStock": 10, "status": "Sold", "notes": None, "locationId": "acme-main"},
                {"quantityInStock": 7, "status": "Arrived", "notes": "moved", "locationId": "acme-harbour"},
            )
        ]
        (details,) = await connection.fetch("SELECT details::text FROM stockshift.audit WHERE action = 'TAKEN_BACK'")
        assert json.loads(details[0]) == {"items": 1, "named": ["item-Sold"], "company": None}
        await connection.execute("""UPDATE items SET "quantityInStock" = 6 WHERE id = 'item-Sold'""")
        assert (
            await connection.fetchval("""SELECT sum(quantity) FROM stock_batches WHERE "itemId" = 'item-Sold'""") == 11
        )
    assert (await verified(cut_over_url)).passed


async def test_an_opening_batch_that_is_gone_comes_back_empty(cut_over_url: str) -> None:
    async with psql(cut_over_url) as connection:
        await insert_batch(connection, "more", "item-Sold", quantity=5)
        await connection.execute("""DELETE FROM stock_batches WHERE "itemId" = 'item-Sold' AND id <> 'more'""")
        assert (await taken_back(cut_over_url, "item-Sold")).done == 1
        assert await legacy(connection, "item-Sold") == (0, "Sold", "acme-main")
        assert (
            await connection.fetchval("""SELECT sum(quantity) FROM stock_batches WHERE "itemId" = 'item-Sold'""") == 5
        )
    assert (await verified(cut_over_url)).passed


async def test_an_item_with_drift_is_refused_and_the_rest_goes_on(cut_over_url: str) -> None:
    async with psql(cut_over_url, application_name="old till") as connection:
        await connection.execute("""UPDATE items SET "quantityInStock" = 3 WHERE id = 'item-Sold'""")
        outcome = await taken_back(cut_over_url)
        assert (outcome.done, kinds(outcome)) == (6, {"item-Sold": "DRIFT"})
        reason = outcome.refused["item-Sold"].reason
        assert reason.startswith("quantityInStock was written past its batches")
        assert "'old till'" in reason
        assert await cut_over_items(connection) == ["item-Sold"]
        assert await legacy(connection, "item-Sold") == (3, "Sold", "acme-main")


@pytest.mark.parametrize("settle", ["shop", "batch", "settled", "other column"])
async def test_drift_that_is_settled_stands_in_nobodys_way(cut_over_url: str, settle: str) -> None:
    async with psql(cut_over_url) as connection:
        if settle == "other column":  # what the batch says of the others is still right
            await connection.execute("""UPDATE items SET name = 'Sold' WHERE id = 'item-Sold'""")
        else:
            await connection.execute("""UPDATE items SET "quantityInStock" = 3 WHERE id = 'item-Sold'""")
        if settle == "shop":
            await connection.execute("""UPDATE items SET "quantityInStock" = 10 WHERE id = 'item-Sold'""")
        if settle == "batch":
            await opening(connection, "item-Sold", quantity=3)
        if settle == "settled":
            await connection.execute("UPDATE stockshift.legacy_write SET settled = 'KEPT'")
        assert (await taken_back(cut_over_url, "item-Sold")).done == 1
        quantity = 3 if settle == "batch" else 10
        assert await legacy(connection, "item-Sold") == (quantity, "Sold", "acme-main")


async def test_what_write_back_wrote_last_is_no_drift(cut_over_url: str) -> None:
    async with psql(cut_over_url) as connection:
        await connection.execute("""UPDATE items SET "quantityInStock" = 3 WHERE id = 'item-Sold'""")
        await write_back(cut_over_url)
        await insert_batch(connection, "more", "item-Sold", quantity=5)
        assert (await legacy(connection, "item-Sold"))[0] == 15
        assert (await taken_back(cut_over_url, "item-Sold")).done == 1
        assert (await legacy(connection, "item-Sold"))[0] == 10
    assert (await verified(cut_over_url)).passed


async def test_taking_back_twice_and_what_was_never_cut_over_changes_nothing(cut_over_url: str) -> None:
    await taken_back(cut_over_url)
    async with psql(cut_over_url) as connection:
        before = await whole_database(connection)
        for ids in ([], ["item-Sold"]):
            outcome = await taken_back(cut_over_url, *ids)
            assert (outcome.done, outcome.refused) == (0, {})
        assert kinds(await taken_back(cut_over_url, "nowhere")) == {"nowhere": "NOT_FOUND"}
        assert await whole_database(connection) == before


async def test_there_and_back_and_there_again(cut_over_url: str) -> None:
    await sold(cut_over_url)
    await taken_back(cut_over_url)
    assert (await cut(cut_over_url)).done == 7
    assert (await taken_back(cut_over_url)).done == 7
    assert (await verified(cut_over_url)).passed


@pytest.mark.parametrize(
    "words", ["INSERT INTO public.stock_batches", "UPDATE public.items", "UPDATE stockshift.copy_ledger"]
)
async def test_one_that_is_killed_has_done_nothing_by_halves_and_can_be_done_again(
    cut_over_url: str, words: str
) -> None:
    await sold(cut_over_url)
    async with psql(cut_over_url) as connection:
        before = await legacy_rows(connection)
        with pytest.raises(ConnectionLost):
            async with killed_before(cut_over_url, words) as engine:
                await take_back(engine, Selection(all_items()), actor="test")
        assert len(await cut_over_items(connection)) == 7
        assert await legacy_rows(connection) == before
        assert (await taken_back(cut_over_url)).done == 7
    assert (await verified(cut_over_url)).passed


async def test_null_stays_where_the_batch_has_nought(migrated_url: str) -> None:
    async with psql(migrated_url) as connection:
        await connection.execute(
            """
            ALTER TABLE items ALTER "quantityInStock" DROP NOT NULL, ALTER "freightCostUSD" DROP NOT NULL;
            UPDATE items SET "quantityInStock" = NULL, "freightCostUSD" = NULL WHERE id = 'item-Sold'
            """
        )
        before = await legacy_rows(connection)
        await cut(migrated_url)
        await taken_back(migrated_url)
        assert await legacy_rows(connection) == before
