"""Shops whose tables differ from the book: NULL where there should be none, other types, columns missing or added."""

import pytest

from tests.graphql_client import client_of
from tests.resolvers.shop import ONE_ITEM, STOCK_BATCHES, insert_batch
from tests.support import insert, insert_item, psql

NULLABLE = """
    ALTER TABLE items ALTER status DROP NOT NULL, ALTER "quantityInStock" DROP NOT NULL,
    ALTER "costPerUnitUSD" DROP NOT NULL, ALTER "freightCostUSD" DROP NOT NULL
"""


async def test_a_missing_location_or_status_gives_an_empty_list_and_a_missing_quantity_zero(shop_url: str) -> None:
    async with psql(shop_url) as connection:
        await connection.execute(NULLABLE)
        await insert_item(connection, "bare", status=None, quantityInStock=None, locationId=None)
        await insert_item(connection, "costless", costPerUnitUSD=None, freightCostUSD=None)
    async with client_of(shop_url) as client:
        bare = (await client.ask(ONE_ITEM, id="bare"))["item"]
        costless = (await client.ask(ONE_ITEM, id="costless"))["item"]
    assert (bare["totalQuantity"], bare["statuses"], bare["locations"]) == (0, [], [])
    assert (bare["quantityByStatus"], bare["quantityByLocation"]) == ([], [{"location": None, "quantity": 0}])
    assert bare["legacy"]["quantityInStock"] is None
    assert bare["legacy"]["status"] is None
    assert (costless["totalQuantity"], costless["stockValueUSD"]) == (10, 0)
    assert costless["legacy"]["costPerUnitUSD"] is None


async def test_a_location_that_does_not_exist_is_none(shop_url: str) -> None:
    async with psql(shop_url) as connection:
        await connection.execute('ALTER TABLE items DROP CONSTRAINT "items_locationId_fkey"')
        await insert_item(connection, "lost", locationId="nowhere")
    async with client_of(shop_url) as client:
        lost = (await client.ask(ONE_ITEM, id="lost"))["item"]
        found = await client.ask('{ items(filter: { locationIds: ["nowhere"] }) { totalCount } }')
    assert (lost["locations"], lost["legacy"]["location"]) == ([], None)
    assert lost["quantityByLocation"] == [{"location": None, "quantity": 10}]
    assert found["items"]["totalCount"] == 0


async def test_a_status_kept_as_text_is_answered_where_the_enum_knows_it(shop_url: str) -> None:
    async with psql(shop_url) as connection:
        await connection.execute("ALTER TABLE items ALTER status DROP DEFAULT, ALTER status TYPE text")
        await insert_item(connection, "known", status="Sold")
        await insert_item(connection, "unknown", status="Mislaid")
        await connection.execute(STOCK_BATCHES)
        await insert_item(connection, "batched", status="Mislaid")
        await insert_batch(connection, "b", "batched", status="Ordered")
    async with client_of(shop_url) as client:
        known = (await client.ask(ONE_ITEM, id="known"))["item"]
        unknown = (await client.ask(ONE_ITEM, id="unknown"))["item"]
        sold = await client.ask("{ items(filter: { statuses: [Sold, Ordered] }) { edges { node { id } } } }")
    assert known["statuses"] == ["Sold"]
    assert (unknown["statuses"], unknown["legacy"]["status"], unknown["quantityByStatus"]) == ([], None, [])
    assert unknown["totalQuantity"] == 10
    assert [edge["node"]["id"] for edge in sold["items"]["edges"]] == ["batched", "known"]


async def test_a_column_that_items_lacks_answers_null(shop_url: str) -> None:
    async with psql(shop_url) as connection:
        await connection.execute('ALTER TABLE items DROP "minStockLevel", DROP "sellingPriceSRD"')
        await insert(connection, "items", id="a", name="a", costPerUnitUSD=1.0, companyId="acme")
    async with client_of(shop_url) as client:
        answer = await client.ask('{ item(id: "a") { minStockLevel sellingPriceSRD totalQuantity } }')
        low = await client.ask("{ items(filter: { lowStock: true }) { totalCount } stockSummary { lowStockItems } }")
    assert answer["item"] == {"minStockLevel": None, "sellingPriceSRD": None, "totalQuantity": 0}
    assert low == {"items": {"totalCount": 0}, "stockSummary": {"lowStockItems": 0}}


async def test_a_table_of_that_name_that_holds_no_batches_is_somebody_elses(stock_url: str) -> None:
    async with psql(stock_url) as connection:
        await connection.execute("CREATE TABLE stock_batches (id text, number text)")
    async with client_of(stock_url) as client:
        mug = (await client.ask(ONE_ITEM, id="mug"))["item"]
    assert (mug["usingBatchSystem"], mug["totalQuantity"], mug["batches"]["totalCount"]) == (False, 10, 0)


async def test_an_enum_that_lacks_a_status_that_every_shop_has_is_no_fault(shop_url: str) -> None:
    async with psql(shop_url) as connection:
        await connection.execute(
            """
            CREATE TYPE short AS ENUM ('ToOrder', 'Ordered');
            ALTER TABLE items ALTER status DROP DEFAULT, ALTER status TYPE short USING 'Ordered'::short;
            DROP TYPE "Status"; ALTER TYPE short RENAME TO "Status";
            """
        )
        await insert_item(connection, "a", status="Ordered")
    async with client_of(shop_url) as client:
        a = (await client.ask(ONE_ITEM, id="a"))["item"]
        sold = await client.ask("{ items(filter: { statuses: [Sold, Ordered] }) { totalCount } }")
        none = await client.ask('{ item(id: "a") { batches(status: Arrived) { totalCount } } }')
    assert (a["statuses"], a["stockValueUSD"]) == (["Ordered"], 0)
    assert (sold["items"]["totalCount"], none["item"]["batches"]["totalCount"]) == (1, 0)


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "-Infinity"])
async def test_a_cost_that_is_no_number_is_an_error_at_its_place_and_no_fault(shop_url: str, amount: str) -> None:
    async with psql(shop_url) as connection:
        await insert_item(connection, "a", costPerUnitUSD=float(amount))
        await insert_item(connection, "b")
    async with client_of(shop_url) as client:
        answer = await client.answer(
            '{ a: item(id: "a") { legacy { costPerUnitUSD } } b: item(id: "b") { legacy { costPerUnitUSD } } }'
        )
    assert answer.data == {"a": {"legacy": {"costPerUnitUSD": None}}, "b": {"legacy": {"costPerUnitUSD": 4.25}}}
    assert answer.codes == ["UNREPRESENTABLE"]
    assert answer.errors[0]["path"] == ["a", "legacy", "costPerUnitUSD"]
    assert "Float cannot represent" in answer.message
