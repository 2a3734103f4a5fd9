"""One statement answers an operation, however much there is of what it asks for; so it is of one instant."""

import asyncio

import pytest

from resolvers.viewer import Role, Viewer
from tests.graphql_client import ADMIN, client_of
from tests.resolvers.shop import ITEM, insert_batch
from tests.support import Connection, insert_item, psql

OPERATIONS = {
    "a page": f"{{ items(first: 1000) {{ totalCount pageInfo {{ endCursor }} edges {{ node {{ {ITEM} }} }} }} }}",
    "one item": f'{{ item(id: "mug") {{ {ITEM} }} }}',
    "items by stock": """{ items(orderBy: { field: TOTAL_QUANTITY, direction: DESC }, filter: { statuses: [Arrived] })
        { edges { node { id } } } }""",
    "one batch": '{ batch(id: "mug-2") { id item { name batches { totalCount } } location { name } } }',
    "movements": """{ item(id: "mug") { batches { edges { node { movements {
        totalCount pageInfo { endCursor } edges { node { id delta reason at } } } } } } } }""",
    "locations": "{ locations { id name } }",
    "the summary": "{ stockSummary { items lowStockItems totalQuantity quantityByLocation { quantity } } }",
    "verifications": """{ verifications { totalCount
        edges { node { id state checks { name } mismatches { totalCount } } } } }""",
    "everything at once": f"""{{
        a: item(id: "mug") {{ {ITEM} }} b: item(id: "pot") {{ {ITEM} }} items {{ edges {{ node {{ id }} }} }}
        stockSummary {{ items }} locations {{ id }} verification(id: "1") {{ state }} batch(id: "mug-2") {{ id }}
    }}""",
}


async def fill_up(connection: Connection) -> None:
    for number in range(60):
        await insert_item(connection, f"item-{number}")
        for batch in range(number % 5):
            await insert_batch(connection, f"item-{number}-{batch}", f"item-{number}")


@pytest.mark.parametrize("viewer", [ADMIN, Viewer("a", Role.ADMIN, "acme")], ids=["all companies", "one company"])
async def test_an_operation_is_one_statement_however_many_items_and_batches_there_are(
    batches_url: str, viewer: Viewer
) -> None:
    async with client_of(batches_url) as client, psql(batches_url) as connection:
        await client.ask("{ items { totalCount } }")
        few = {name: await client.sent(query, viewer) for name, query in OPERATIONS.items()}
        await fill_up(connection)
        many = {name: await client.sent(query, viewer) for name, query in OPERATIONS.items()}
    assert {name: len(statements) for name, statements in few.items()} == dict.fromkeys(OPERATIONS, 1)
    assert few == many


async def test_before_the_migration_it_is_one_too(stock_url: str) -> None:
    async with client_of(stock_url) as client:
        await client.ask("{ items { totalCount } }")
        for name, query in OPERATIONS.items():
            assert len(await client.sent(query)) == 1, name


async def test_the_first_operation_looks_at_the_database_with_a_fixed_number_of_statements(
    stock_url: str, batches_url: str
) -> None:
    async with client_of(stock_url) as before, client_of(batches_url) as after:
        assert len(await before.sent(OPERATIONS["everything at once"])) == 3
        assert len(await after.sent(OPERATIONS["everything at once"])) == 4


async def test_a_field_that_is_not_asked_for_costs_nothing(batches_url: str) -> None:
    async with client_of(batches_url) as client:
        await client.ask("{ items { totalCount } }")
        (names,) = await client.sent("{ items { edges { node { name } } } }")
        skipped = await client.sent(
            "query($b: Boolean!) { items { edges { node { name statuses @skip(if: $b) ...F @include(if: false) } } } } "
            "fragment F on Item { batches { totalCount } }",
            b=True,
        )
    assert skipped == [names]
    for table in ("stock_batches AS", "copy_ledger", "locations", "users"):
        assert table not in names


async def test_all_fields_of_an_operation_are_of_the_same_instant(expanded_url: str) -> None:
    """A writer moves units from one item to the other and back: at no instant are there more than ten."""
    query = """{ a: item(id: "a") { totalQuantity } stockSummary { totalQuantity } b: item(id: "b") { totalQuantity }
        items { edges { node { totalQuantity batches { edges { node { quantity } } } } } } }"""
    async with client_of(expanded_url) as client, psql(expanded_url) as connection:
        for item in ("a", "b"):
            await insert_item(connection, item, quantityInStock=0)
            await insert_batch(connection, f"{item}-1", item, quantity=5)
        done = asyncio.Event()

        async def move() -> None:
            step = 0
            while not done.is_set():
                step += 1
                units = 1 + step % 4
                await connection.execute(
                    """UPDATE stock_batches SET quantity = CASE "itemId" WHEN 'a' THEN 5 - $1::int ELSE 5 + $1 END""",
                    units,
                )

        writer = asyncio.create_task(move())
        seen: set[tuple[int, int]] = set()
        try:
            while len(seen) < 3:
                answer = await client.ask(query)
                pair = answer["a"]["totalQuantity"], answer["b"]["totalQuantity"]
                seen.add(pair)
                listed = [edge["node"] for edge in answer["items"]["edges"]]
                assert sum(pair) == answer["stockSummary"]["totalQuantity"] == 10
                assert tuple(item["totalQuantity"] for item in listed) == pair
                assert tuple(item["batches"]["edges"][0]["node"]["quantity"] for item in listed) == pair
        finally:
            done.set()
            await writer


async def test_no_more_plans_and_operations_are_kept_than_there_is_room_for(
    stock_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was asked first is forgotten, and still answered."""
    monkeypatch.setattr("resolvers.reader.MOST_KEPT", 3)
    async with client_of(stock_url) as client:
        queries = [f'{{ item(id: "mug") {{ a{number}: id }} }}' for number in range(6)]
        for number, query in enumerate([*queries, queries[0]]):
            assert await client.ask(query) == {"item": {f"a{number % 6}": "mug"}}
        known = client.reader._known  # noqa: SLF001 - what is kept shows in nothing else but memory
    assert known
    assert len(known.plans) == len(known.operations) == 3
    assert [source for source, _ in known.operations] == [queries[4], queries[5], queries[0]]
