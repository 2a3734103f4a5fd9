"""How an item is answered: R1 and R2, on each side of the migration."""

from tests.graphql_client import client_of
from tests.resolvers.shop import ITEM, ONE_ITEM, STOCK_BATCHES, ids, insert_batch
from tests.support import insert_item, psql


async def test_before_the_migration_every_field_is_the_legacy_columns(stock_url: str) -> None:
    async with client_of(stock_url) as client:
        answer = await client.ask(f'{{ mug: item(id: "mug") {{ {ITEM} }} pot: item(id: "pot") {{ {ITEM} }} }}')
    assert answer["mug"] == {
        "id": "mug",
        "totalQuantity": 10,
        "usingBatchSystem": False,
        "statuses": ["Arrived"],
        "stockValueUSD": 10 * 4.25 + 12.5,
        "locations": [{"id": "acme-main"}],
        "quantityByStatus": [{"status": "Arrived", "quantity": 10}],
        "quantityByLocation": [{"location": {"id": "acme-main"}, "quantity": 10}],
        "legacy": {
            "quantityInStock": 10,
            "status": "Arrived",
            "location": {"id": "acme-main"},
            "costPerUnitUSD": 4.25,
            "freightCostUSD": 12.5,
        },
        "batches": {"totalCount": 0, "edges": []},
    }
    assert answer["pot"]["locations"] == []
    assert answer["pot"]["stockValueUSD"] == 0  # it has not arrived
    assert answer["pot"]["quantityByLocation"] == [{"location": None, "quantity": 3}]


async def test_after_the_copy_an_item_answers_the_same_from_its_opening_batch(stock_url: str, batches_url: str) -> None:
    async with client_of(stock_url) as before, client_of(batches_url) as after:
        legacy = (await before.ask(ONE_ITEM, id="pot"))["item"]
        copied = (await after.ask(ONE_ITEM, id="pot"))["item"]
    assert copied["usingBatchSystem"]
    assert [edge["node"]["quantity"] for edge in copied["batches"]["edges"]] == [3]
    assert {**legacy, "usingBatchSystem": True, "batches": copied["batches"]} == copied


async def test_many_batches_are_summed_and_listed_and_the_legacy_columns_stay_beside(batches_url: str) -> None:
    async with client_of(batches_url) as client:
        mug = (await client.ask(ONE_ITEM, id="mug"))["item"]
    assert mug["usingBatchSystem"]
    assert mug["totalQuantity"] == 10 + 5 + 7
    assert mug["statuses"] == ["ToOrder", "Arrived"]
    assert mug["locations"] == [{"id": "acme-harbour"}, {"id": "acme-main"}]
    assert mug["stockValueUSD"] == (10 * 4.25 + 12.5) + (7 * 2.0 + 6.0)
    assert mug["quantityByStatus"] == [{"status": "ToOrder", "quantity": 5}, {"status": "Arrived", "quantity": 17}]
    assert mug["quantityByLocation"] == [
        {"location": {"id": "acme-harbour"}, "quantity": 5},
        {"location": {"id": "acme-main"}, "quantity": 10},
        {"location": None, "quantity": 7},
    ]
    assert mug["legacy"]["quantityInStock"] == 10
    assert mug["batches"]["totalCount"] == 3
    assert ids(mug["batches"])[1:] == ["mug-2", "mug-3"]


async def test_a_sold_out_item_whose_batches_are_gone_answers_zero_and_not_its_stale_stock(batches_url: str) -> None:
    async with client_of(batches_url) as client:
        vase = (await client.ask(ONE_ITEM, id="vase"))["item"]
    assert vase["usingBatchSystem"]
    assert vase["totalQuantity"] == 0
    assert (vase["statuses"], vase["locations"], vase["stockValueUSD"]) == ([], [], 0)
    assert (vase["quantityByStatus"], vase["quantityByLocation"]) == ([], [])
    assert vase["legacy"]["quantityInStock"] == 8


async def test_the_flag_alone_hides_no_stock(batches_url: str) -> None:
    """An ORM's default sets it on rows that nobody copied."""
    async with client_of(batches_url) as client:
        rug = (await client.ask(ONE_ITEM, id="rug"))["item"]
        async with psql(batches_url) as connection:
            await connection.execute("""UPDATE items SET "useBatchSystem" = id <> 'rug'""")
        assert rug == (await client.ask(ONE_ITEM, id="rug"))["item"]
    assert (rug["usingBatchSystem"], rug["totalQuantity"]) == (False, 6)


async def test_a_batch_puts_an_item_that_was_never_copied_on_the_batch_system(batches_url: str) -> None:
    async with client_of(batches_url) as client:
        bed = (await client.ask(ONE_ITEM, id="bed"))["item"]
    assert (bed["usingBatchSystem"], bed["totalQuantity"], bed["statuses"]) == (True, 4, ["Sold"])


async def test_batches_made_by_hand_before_any_migration_count(stock_url: str) -> None:
    async with psql(stock_url) as connection:
        await connection.execute(STOCK_BATCHES)
        await connection.execute("ALTER TABLE stock_batches ADD COLUMN shelf text NOT NULL DEFAULT 'top'")
        await insert_batch(connection, "by-hand", "mug", quantity=2)
        await insert_batch(connection, "orphan", "nothing", quantity=99)
    async with client_of(stock_url) as client:
        mug = (await client.ask(ONE_ITEM, id="mug"))["item"]
        pot = (await client.ask(ONE_ITEM, id="pot"))["item"]
        batch = await client.ask('{ batch(id: "by-hand") { openingBatch item { id } } }')
        assert await client.ask('{ batch(id: "orphan") { id } }') == {"batch": None}
    assert (mug["usingBatchSystem"], mug["totalQuantity"]) == (True, 2)
    assert (pot["usingBatchSystem"], pot["totalQuantity"]) == (False, 3)
    assert batch == {"batch": {"openingBatch": False, "item": {"id": "mug"}}}


async def test_negative_quantities_and_sums_past_int4_are_exact(expanded_url: str) -> None:
    async with psql(expanded_url) as connection:
        await insert_item(connection, "legacy", quantityInStock=-4, status="Sold")
        await insert_item(connection, "full")
        for number in range(3):
            await insert_batch(connection, f"full-{number}", "full", quantity=2**31 - 1, freightCostUSD=0.0)
        await insert_batch(connection, "owed", "full", quantity=-(2**31), status="Sold", locationId="acme-harbour")
    async with client_of(expanded_url) as client:
        legacy = (await client.ask(ONE_ITEM, id="legacy"))["item"]
        full = (await client.ask(ONE_ITEM, id="full"))["item"]
        summary = await client.ask("{ stockSummary { totalQuantity quantityByStatus { status quantity } } }")
    assert legacy["totalQuantity"] == -4
    assert full["totalQuantity"] == 3 * (2**31 - 1) - 2**31
    assert full["quantityByStatus"] == [
        {"status": "Arrived", "quantity": 3 * (2**31 - 1)},
        {"status": "Sold", "quantity": -(2**31)},
    ]
    assert full["stockValueUSD"] == 3.0 * 3 * (2**31 - 1)
    assert summary["stockSummary"]["totalQuantity"] == full["totalQuantity"] - 4
    assert summary["stockSummary"]["quantityByStatus"][1]["quantity"] == -(2**31) - 4


async def test_locations_come_by_name_then_id_and_statuses_in_the_order_of_the_enum(expanded_url: str) -> None:
    async with psql(expanded_url) as connection:
        await insert_item(connection, "mug")
        for location, name in (("z", "Annex"), ("b", "Shed"), ("a", "Shed")):
            await connection.execute(
                """INSERT INTO locations (id, name, "updatedAt", "companyId") VALUES ($1, $2, now(), 'acme')""",
                location,
                name,
            )
        for number, (location, status) in enumerate([("a", "Sold"), ("b", "ToOrder"), ("z", "Arrived"), ("b", "Sold")]):
            await insert_batch(connection, f"mug-{number}", "mug", status=status, locationId=location)
    async with client_of(expanded_url) as client:
        mug = (await client.ask(ONE_ITEM, id="mug"))["item"]
        locations = await client.ask("{ locations { id } }")
    assert mug["locations"] == [{"id": "z"}, {"id": "a"}, {"id": "b"}]
    assert [group["location"]["id"] for group in mug["quantityByLocation"]] == ["z", "a", "b"]
    assert mug["statuses"] == ["ToOrder", "Arrived", "Sold"]
    assert [group["status"] for group in mug["quantityByStatus"]] == ["ToOrder", "Arrived", "Sold"]
    assert locations["locations"][0] == {"id": "z"}


async def test_a_batch_answers_every_column(batches_url: str) -> None:
    query = """
        query($id: ID!) { batch(id: $id) {
            id quantity status costPerUnitUSD freightCostUSD orderDate expectedArrival arrivedDate orderNumber notes
            location { id name } assignedUser { id name } openingBatch createdAt updatedAt item { id totalQuantity }
        } }
    """
    async with psql(batches_url) as connection:
        await connection.execute(
            """
            UPDATE stock_batches SET "orderDate" = '2026-01-31T12:00:00.007', "expectedArrival" = '1999-12-31',
            "arrivedDate" = '2026-02-28T23:59:59.999', "orderNumber" = 'PO-1', notes = '',
            "createdAt" = '2026-01-01' WHERE id = 'mug-2'
            """
        )
    async with client_of(batches_url) as client:
        assert (await client.ask(query, id="mug-2"))["batch"] == {
            "id": "mug-2",
            "quantity": 5,
            "status": "ToOrder",
            "costPerUnitUSD": 3.0,
            "freightCostUSD": 6.0,
            "orderDate": "2026-01-31T12:00:00.007Z",
            "expectedArrival": "1999-12-31T00:00:00.000Z",
            "arrivedDate": "2026-02-28T23:59:59.999Z",
            "orderNumber": "PO-1",
            "notes": "",
            "location": {"id": "acme-harbour", "name": "Harbour"},
            "assignedUser": {"id": "acme-user", "name": "Acme User"},
            "openingBatch": False,
            "createdAt": "2026-01-01T00:00:00.000Z",
            "updatedAt": "2026-01-02T03:04:05.678Z",
            "item": {"id": "mug", "totalQuantity": 22},
        }
        opening = (await client.ask('{ item(id: "pot") { batches { edges { node { openingBatch } } } } }'))["item"]
        assert opening["batches"]["edges"] == [{"node": {"openingBatch": True}}]


async def test_what_there_is_not_is_null(batches_url: str) -> None:
    async with client_of(batches_url) as client:
        answer = await client.ask('{ item(id: "no") { id } batch(id: "no") { id } verification(id: "no") { id } }')
    assert answer == {"item": None, "batch": None, "verification": None}


async def test_the_batches_of_an_item_come_in_pages_and_by_status(batches_url: str) -> None:
    query = """
        query($after: String, $status: Status) { item(id: "mug") {
            batches(first: 2, after: $after, status: $status) {
                totalCount pageInfo { hasNextPage hasPreviousPage endCursor } edges { cursor node { id } }
            }
        } }
    """
    async with client_of(batches_url) as client:
        first = (await client.ask(query))["item"]["batches"]
        last = (await client.ask(query, after=first["pageInfo"]["endCursor"]))["item"]["batches"]
        arrived = (await client.ask(query, status="Arrived"))["item"]["batches"]
    assert (first["totalCount"], len(first["edges"]), first["pageInfo"]["hasNextPage"]) == (3, 2, True)
    assert first["edges"][1]["cursor"] == first["pageInfo"]["endCursor"]
    assert ids(last) == ["mug-3"]
    assert last["pageInfo"]["hasPreviousPage"]
    assert not last["pageInfo"]["hasNextPage"]
    assert arrived["totalCount"] == 2
    assert ids(arrived)[1] == "mug-3"


async def test_the_summary_is_over_the_items_that_a_filter_leaves(batches_url: str) -> None:
    query = """
        query($filter: ItemFilter) { stockSummary(filter: $filter) {
            items lowStockItems totalQuantity stockValueUSD
            quantityByStatus { status quantity } quantityByLocation { location { id } quantity }
        } }
    """
    async with client_of(batches_url) as client:
        everything = (await client.ask(query))["stockSummary"]
        acme = (await client.ask(query, filter={"companyId": "acme", "statuses": ["ToOrder", "Sold"]}))["stockSummary"]
        nothing = (await client.ask(query, filter={"search": "no such"}))["stockSummary"]
    assert everything["items"] == 6
    assert everything["lowStockItems"] == 1
    assert everything["totalQuantity"] == 22 + 3 + 0 + 2 + 6 + 4
    assert everything["quantityByStatus"] == [
        {"status": "ToOrder", "quantity": 5},
        {"status": "Ordered", "quantity": 3},
        {"status": "Arrived", "quantity": 17 + 2 + 6},
        {"status": "Sold", "quantity": 4},
    ]
    assert everything["quantityByLocation"] == [
        {"location": {"id": "acme-harbour"}, "quantity": 5},
        {"location": {"id": "acme-main"}, "quantity": 20},
        {"location": {"id": "globex-main"}, "quantity": 2},
        {"location": None, "quantity": 10},
    ]
    assert (acme["items"], acme["totalQuantity"], acme["stockValueUSD"]) == (2, 26, 75.0)
    assert nothing == {
        "items": 0,
        "lowStockItems": 0,
        "totalQuantity": 0,
        "stockValueUSD": 0,
        "quantityByStatus": [],
        "quantityByLocation": [],
    }
