"""A shop whose `Status` has more labels than the four: out, in, and while the service runs."""

from tests.graphql_client import client_of, web_on
from tests.resolvers.shop import insert_batch
from tests.support import insert_item, psql

ALL = "{ items { edges { node { id statuses legacy { status } quantityByStatus { status } } } } }"
BY_STATUS = "query($statuses: [Status!]) { items(filter: { statuses: $statuses }) { edges { node { id } } } }"
LOST = {"statuses": ["Lost"], "legacy": {"status": "Lost"}, "quantityByStatus": [{"status": "Lost"}]}


async def test_the_first_request_of_all_may_name_a_label_that_only_this_database_has(shop_url: str) -> None:
    async with psql(shop_url) as connection:
        await connection.execute("""ALTER TYPE "Status" ADD VALUE 'Lost' BEFORE 'Ordered'""")
        await insert_item(connection, "a", status="Lost")
        await insert_item(connection, "b")
    async with web_on(shop_url) as web:
        found = await web.post(BY_STATUS, statuses=["Lost"])
    assert found.json() == {"data": {"items": {"edges": [{"node": {"id": "a"}}]}}}
    async with web_on(shop_url) as web:
        shown = await web.post(ALL)
    assert shown.json()["data"]["items"]["edges"][0]["node"] == {"id": "a", **LOST}


async def test_a_label_that_is_added_while_the_service_runs_is_right_in_the_next_request(shop_url: str) -> None:
    async with web_on(shop_url) as web, psql(shop_url) as connection:
        await insert_item(connection, "a")
        assert (await web.post(ALL)).json()["data"]["items"]["edges"][0]["node"]["statuses"] == ["Arrived"]
        await connection.execute("""ALTER TYPE "Status" ADD VALUE 'Lost'""")
        await connection.execute("UPDATE items SET status = 'Lost'")
        assert (await web.post(ALL)).json()["data"]["items"]["edges"][0]["node"] == {"id": "a", **LOST}
        await connection.execute("""ALTER TYPE "Status" ADD VALUE 'Found'""")
        await connection.execute("UPDATE items SET status = 'Found'")
        found = await web.post("{ items(filter: { statuses: [Found] }) { totalCount } }")
        assert found.json() == {"data": {"items": {"totalCount": 1}}}


async def test_a_label_that_was_renamed_is_right_in_the_next_request(shop_url: str) -> None:
    """As many labels as before, and still not the same."""
    async with client_of(shop_url) as client, psql(shop_url) as connection:
        await connection.execute("""ALTER TYPE "Status" ADD VALUE 'Lost'""")
        await insert_item(connection, "a", status="Lost")
        assert (await client.ask(ALL))["items"]["edges"][0]["node"]["statuses"] == ["Lost"]
        await connection.execute("""ALTER TYPE "Status" RENAME VALUE 'Lost' TO 'Found'""")
        assert (await client.ask(ALL))["items"]["edges"][0]["node"]["statuses"] == ["Found"]


async def test_statuses_come_in_the_order_of_the_databases_enum(expanded_url: str) -> None:
    async with psql(expanded_url) as connection:
        await connection.execute("""ALTER TYPE "Status" ADD VALUE 'Lost' BEFORE 'Arrived'""")
        await insert_item(connection, "a")
        for number, status in enumerate(["Sold", "Lost", "Arrived"]):
            await insert_batch(connection, f"a-{number}", "a", status=status)
    async with client_of(expanded_url) as client:
        assert (await client.ask('{ item(id: "a") { statuses } }'))["item"]["statuses"] == ["Lost", "Arrived", "Sold"]


async def test_a_label_that_graphql_cannot_say_has_a_name_that_it_can(expanded_url: str) -> None:
    async with psql(expanded_url) as connection:
        for label in ("In transit", "true", "到着"):
            await connection.execute(f"""ALTER TYPE "Status" ADD VALUE '{label}'""")
        for item, status in (("a", "In transit"), ("b", "true"), ("c", "到着")):
            await insert_item(connection, item, status=status)
    async with client_of(expanded_url) as client:
        items = (await client.ask(ALL))["items"]["edges"]
        assert [item["node"]["statuses"] for item in items] == [["In_transit"], ["Status_true"], ["Status_"]]
        found = await client.ask(BY_STATUS, statuses=["In_transit", "Status_"])
        assert [edge["node"]["id"] for edge in found["items"]["edges"]] == ["a", "c"]
        made = await client.ask(
            'mutation { createBatch(input: { itemId: "a", quantity: 2, status: In_transit }) '
            "{ batch { status } item { totalQuantity } errors { message } } }"
        )
        assert made["createBatch"] == {"batch": {"status": "In_transit"}, "item": {"totalQuantity": 12}, "errors": []}
        values = (await client.ask('{ __type(name: "Status") { enumValues { name description } } }'))["__type"]
        assert values["enumValues"][4:] == [
            {"name": "In_transit", "description": "'In transit' in the database."},
            {"name": "Status_true", "description": "'true' in the database."},
            {"name": "Status_", "description": "'到着' in the database."},
        ]


async def test_a_mutation_that_met_a_new_label_answers_it_and_is_carried_out_once(expanded_url: str) -> None:
    async with client_of(expanded_url) as client, psql(expanded_url) as connection:
        await insert_item(connection, "a")
        await client.ask(ALL)
        await connection.execute("""ALTER TYPE "Status" ADD VALUE 'On hold'""")
        await connection.execute("UPDATE items SET status = 'On hold'")
        made = await client.ask(
            'mutation { createBatch(input: { itemId: "a", quantity: 5 }) { item { statuses } errors { message } } }'
        )
        assert made["createBatch"] == {"item": {"statuses": ["ToOrder", "On_hold"]}, "errors": []}
        assert await connection.fetchval("SELECT sum(quantity) FROM stock_batches") == 15


async def test_a_label_that_nobody_has_is_refused_by_name(shop_url: str) -> None:
    async with client_of(shop_url) as client:
        literal = await client.answer("{ items(filter: { statuses: [Arived] }) { totalCount } }")
        variable = await client.answer(BY_STATUS, statuses=["Arived"])
    assert literal.codes == variable.codes == ["BAD_REQUEST"]
    assert "'Arived' does not exist in 'Status' enum. Did you mean the enum value 'Arrived'" in literal.message
    assert "'Arived' does not exist in 'Status' enum" in variable.message
