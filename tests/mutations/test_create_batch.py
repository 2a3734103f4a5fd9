"""What `createBatch` makes, and how its payload is answered."""

import json

import pytest

from resolvers.viewer import Role
from tests.migration.support import migrate
from tests.mutations.support import Client, rows, serving, stock
from tests.support import insert, insert_item, psql


async def test_the_first_batch_of_an_item_copies_what_the_item_had(client: Client, uncopied_url: str) -> None:
    payload = await client.made(itemId="mug", quantity=5, status="Ordered", locationId="acme-harbour")
    assert payload["item"] == {
        "id": "mug",
        "totalQuantity": 15,
        "usingBatchSystem": True,
        "statuses": ["Ordered", "Arrived"],
        "locations": [{"id": "acme-harbour"}, {"id": "acme-main"}],
        "batches": {"totalCount": 2},
    }
    assert payload["batch"]["openingBatch"] is False
    assert payload["batch"]["item"] == {"id": "mug", "totalQuantity": 15}
    async with psql(uncopied_url) as connection:
        assert await stock(connection, "mug") == (15, 2, 1)


async def test_an_items_second_batch_is_only_added(client: Client, uncopied_url: str) -> None:
    await client.made(itemId="mug", quantity=5)
    assert (await client.made(itemId="mug", quantity=2))["item"]["totalQuantity"] == 17
    assert (await client.made(itemId="copied", quantity=2))["item"]["totalQuantity"] == 12
    async with psql(uncopied_url) as connection:
        assert await stock(connection, "mug") == (17, 3, 1)
        assert await stock(connection, "copied") == (12, 2, 1)


async def test_the_items_own_row_is_not_written(client: Client, uncopied_url: str) -> None:
    async with psql(uncopied_url) as connection:
        before = (await rows(connection))["items"]
        await client.made(itemId="mug", quantity=5, idempotencyKey="k")
        assert (await rows(connection))["items"] == before


@pytest.mark.parametrize("nulls", [False, True], ids=["left out", "null"])
async def test_what_is_not_given_is_the_default(client: Client, nulls: bool) -> None:
    names = ["status", "costPerUnitUSD", "freightCostUSD", "locationId", "assignedUserId", "orderDate"]
    names += ["expectedArrival", "arrivedDate", "orderNumber", "notes", "idempotencyKey"]
    batch = (await client.made(itemId="mug", quantity=0, **(dict.fromkeys(names) if nulls else {})))["batch"]
    for name in ("id", "createdAt", "updatedAt"):
        del batch[name]
    assert batch == {
        "quantity": 0,
        "status": "ToOrder",
        "costPerUnitUSD": 4.25,
        "freightCostUSD": 0.0,
        "orderDate": None,
        "expectedArrival": None,
        "arrivedDate": None,
        "orderNumber": None,
        "notes": None,
        "location": None,
        "assignedUser": None,
        "openingBatch": False,
        "item": {"id": "mug", "totalQuantity": 10},
    }


async def test_every_value_that_is_given_is_kept_as_it_is(client: Client) -> None:
    given = {
        "quantity": 2**31 - 1,
        "status": "Sold",
        "costPerUnitUSD": 0.1,
        "freightCostUSD": 1e12,
        "orderDate": "2026-01-31T12:00:00.001Z",
        "expectedArrival": "9999-12-31T23:59:59.999Z",
        "arrivedDate": "0001-01-01T00:00:00.001Z",
        "orderNumber": "",
        "notes": "ę 日本 \U0001f600 'quoted' \\ \" \n $1 %s :name",
    }
    batch = (await client.made(itemId="mug", locationId="acme-harbour", assignedUserId="acme-user", **given))["batch"]
    assert {name: batch[name] for name in given} == given
    assert (batch["location"], batch["assignedUser"]) == ({"id": "acme-harbour"}, {"id": "acme-user"})
    assert batch["item"]["totalQuantity"] == 2**31 - 1 + 10


@pytest.mark.parametrize(
    ("given", "answered"),
    [
        ("2026-07-01T00:30:00+02:00", "2026-06-30T22:30:00.000Z"),
        ("2026-07-01T00:30:00-03:30", "2026-07-01T04:00:00.000Z"),
        ("2026-07-01T00:30:00.0004Z", "2026-07-01T00:30:00.000Z"),
        ("2026-07-01T00:30:00.0005Z", "2026-07-01T00:30:00.001Z"),
        ("2026-12-31T23:59:59.9996Z", "2027-01-01T00:00:00.000Z"),
        ("2028-02-29T12:00Z", "2028-02-29T12:00:00.000Z"),
    ],
)
async def test_a_date_is_kept_in_utc_to_the_millisecond(client: Client, given: str, answered: str) -> None:
    assert (await client.made(itemId="mug", quantity=1, orderDate=given))["batch"]["orderDate"] == answered


@pytest.mark.parametrize(
    "setting",
    [
        "SET \"TimeZone\" TO 'Asia/Kathmandu'",
        "SET default_transaction_isolation TO 'serializable'",
        "SET default_transaction_read_only TO 'on'",
        "SET extra_float_digits TO -15",
        "SET \"DateStyle\" TO 'SQL, DMY'",
    ],
)
async def test_a_database_with_settings_of_its_own_gets_the_same_rows(uncopied_url: str, setting: str) -> None:
    async with psql(uncopied_url) as connection:
        await connection.execute("UPDATE items SET \"costPerUnitUSD\" = float8 '0.1' + 0.2 WHERE id = 'mug'")
        name = await connection.fetchval("SELECT current_database()")
        await connection.execute(f'ALTER DATABASE "{name}" {setting}')
        async with serving(uncopied_url) as client:
            await client.made(itemId="mug", quantity=5, orderDate="2026-07-01T00:30:00Z", idempotencyKey="k")
        made = await connection.fetchrow(
            """
            SELECT "orderDate" = '2026-07-01 00:30:00' AS ordered, "createdAt" = "updatedAt" AS new,
                   abs(extract(epoch FROM (now() AT TIME ZONE 'UTC') - "createdAt")) < 600 AS utc
            FROM stock_batches WHERE "itemId" = 'mug' AND quantity = 5
            """
        )
        assert made is not None
        assert tuple(made) == (True, True, True)
        original = json.loads(
            await connection.fetchval("SELECT original FROM stockshift.copy_ledger WHERE item_id = 'mug'")
        )
        assert original["costPerUnitUSD"] == 0.1 + 0.2
        assert original["updatedAt"] == "2026-01-02T03:04:05.678"


async def test_the_payload_is_read_in_every_shape_that_is_asked_for(client: Client) -> None:
    answer = await client.data(
        """
        mutation ($input: CreateBatchInput!, $no: Boolean!) {
          first: createBatch(input: $input) { ...payload }
          second: createBatch(input: {itemId: "mug", quantity: 1}) { ...payload __typename }
          third: createBatch(input: {itemId: "pot", quantity: 1}) { errors { code } }
        }
        fragment payload on CreateBatchPayload {
          made: batch { ...units ... on StockBatch { item { batches { totalCount } } } }
          again: batch { units: quantity, item { name ...ordered } }
          item { total: totalQuantity, all: batches { edges { node { quantity, openingBatch } } } }
          whole: item { id, totalQuantity @skip(if: true), name @include(if: $no), statuses }
          errors { message } problems: errors { code }
        }
        fragment ordered on Item { batches(first: 1, status: Ordered) { edges { node { quantity } } } }
        fragment units on StockBatch { quantity status }
        """,
        input={"itemId": "mug", "quantity": 5, "status": "Ordered"},
        no=False,
    )
    assert answer["first"] == {
        "made": {"quantity": 5, "status": "Ordered", "item": {"batches": {"totalCount": 2}}},
        "again": {"units": 5, "item": {"name": "mug", "batches": {"edges": [{"node": {"quantity": 5}}]}}},
        "item": {
            "total": 15,
            "all": {
                "edges": [
                    {"node": {"quantity": 10, "openingBatch": True}},
                    {"node": {"quantity": 5, "openingBatch": False}},
                ]
            },
        },
        "whole": {"id": "mug", "statuses": ["Ordered", "Arrived"]},
        "errors": [],
        "problems": [],
    }
    assert answer["second"]["item"]["total"] == 16
    assert answer["second"]["made"]["item"]["batches"]["totalCount"] == 3
    assert answer["second"]["__typename"] == "CreateBatchPayload"
    assert answer["third"] == {"errors": []}


async def test_one_mutation_of_several_that_is_refused_leaves_the_others(client: Client, uncopied_url: str) -> None:
    answer = await client.data(
        """
        mutation {
          a: createBatch(input: {itemId: "mug", quantity: 1}) { item { totalQuantity } errors { code } }
          b: createBatch(input: {itemId: "mug", quantity: -1}) { batch { id } item { id } errors { code } }
          c: createBatch(input: {itemId: "mug", quantity: 1}) { item { totalQuantity } errors { code } }
        }
        """
    )
    assert answer == {
        "a": {"item": {"totalQuantity": 11}, "errors": []},
        "b": {"batch": None, "item": None, "errors": [{"code": "INVALID"}]},
        "c": {"item": {"totalQuantity": 12}, "errors": []},
    }


async def test_staff_of_the_company_may_and_see_only_their_own_in_the_payload(client: Client) -> None:
    staff = client.of(Role.STAFF, "globex")
    payload = await staff.made(itemId="globex", quantity=5, locationId="globex-harbour", assignedUserId="globex-user")
    assert payload["item"]["totalQuantity"] == 12
    assert payload["batch"]["assignedUser"] == {"id": "globex-user"}


async def test_an_item_whose_only_batch_was_made_by_hand_and_equals_it_keeps_that_as_its_opening_batch(
    client: Client, uncopied_url: str
) -> None:
    async with psql(uncopied_url) as connection:
        await connection.execute(
            """
            INSERT INTO stock_batches (id, quantity, status, "costPerUnitUSD", "freightCostUSD", "updatedAt", "itemId",
                                       "locationId")
            SELECT 'by-hand', "quantityInStock", status, "costPerUnitUSD", "freightCostUSD", "updatedAt", id,
                   "locationId"
            FROM items WHERE id = 'mug'
            """
        )
        assert (await client.made(itemId="mug", quantity=5))["item"]["totalQuantity"] == 15
        assert await stock(connection, "mug") == (15, 2, 1)
        answer = await client.data('{ batch(id: "by-hand") { openingBatch } }')
        assert answer["batch"]["openingBatch"] is True


@pytest.mark.parametrize("loosened", [False, True], ids=["that could be copied", "that could not be copied"])
async def test_to_an_item_with_batches_made_by_hand_one_is_added(
    client: Client, uncopied_url: str, loosened: bool
) -> None:
    async with psql(uncopied_url) as connection:
        for quantity in (3, 4):
            await insert(
                connection,
                "stock_batches",
                id=f"by-hand-{quantity}",
                quantity=quantity,
                costPerUnitUSD=1.0,
                itemId="mug",
            )
        if loosened:
            await connection.execute('ALTER TABLE items ALTER COLUMN "costPerUnitUSD" DROP NOT NULL')
            await connection.execute("UPDATE items SET \"costPerUnitUSD\" = NULL WHERE id = 'mug'")
        payload = await client.made(itemId="mug", quantity=5, costPerUnitUSD=1)
        assert payload["item"]["totalQuantity"] == 12
        assert await stock(connection, "mug") == (12, 3, 0)


async def test_an_item_that_was_copied_and_sold_out_is_not_copied_again(client: Client, uncopied_url: str) -> None:
    async with psql(uncopied_url) as connection:
        await connection.execute("DELETE FROM stock_batches WHERE \"itemId\" = 'copied'")
        payload = await client.made(itemId="copied", quantity=5)
        assert payload["item"]["totalQuantity"] == 5
        assert await stock(connection, "copied") == (5, 1, 1)


async def test_a_migration_afterwards_copies_the_rest_and_nothing_twice(client: Client, uncopied_url: str) -> None:
    await client.made(itemId="mug", quantity=5)
    assert (await migrate(uncopied_url)).copied == 3
    async with psql(uncopied_url) as connection:
        assert await stock(connection, "mug") == (15, 2, 1)
        assert await stock(connection, "pot") == (10, 1, 1)


async def test_a_shops_own_status_can_be_given(shop_url: str) -> None:
    async with psql(shop_url) as connection:
        await connection.execute("ALTER TYPE \"Status\" ADD VALUE 'Damaged'")
        await migrate_with_item(shop_url)
        async with serving(shop_url) as client:
            await client.runtime.reader.look()
            payload = await client.made(itemId="mug", quantity=5, status="Damaged")
    assert payload["batch"]["status"] == "Damaged"
    assert payload["item"]["statuses"] == ["Arrived", "Damaged"]


async def migrate_with_item(url: str) -> None:
    async with psql(url) as connection:
        await insert_item(connection, "mug")
    await migrate(url)


async def test_extra_columns_of_their_own_keep_their_defaults(client: Client, uncopied_url: str) -> None:
    async with psql(uncopied_url) as connection:
        await connection.execute("ALTER TABLE stock_batches ADD COLUMN shelf text NOT NULL DEFAULT 'A1'")
        await client.made(itemId="mug", quantity=5)
        shelves = await connection.fetch("SELECT shelf FROM stock_batches WHERE \"itemId\" = 'mug'")
        assert [row[0] for row in shelves] == ["A1", "A1"]
