"""A batch's movements: every change of its quantity by anybody, oldest first, in pages."""

from typing import Any

import pytest

from resolvers.viewer import Role, Viewer
from tests.graphql_client import STAFF, Client, client_of
from tests.resolvers.shop import STOCK_BATCHES, insert_batch
from tests.resolvers.test_cursors import forged
from tests.support import Connection, insert_item, psql

MOVEMENTS = """
    query($id: ID!, $first: Int, $after: String) { batch(id: $id) { quantity movements(first: $first, after: $after) {
        totalCount pageInfo { hasNextPage hasPreviousPage endCursor }
        edges { cursor node { id itemId delta reason actor application at } }
    } } }
"""
NONE = {
    "totalCount": 0,
    "pageInfo": {"hasNextPage": False, "hasPreviousPage": False, "endCursor": None},
    "edges": [],
}


async def movements(client: Client, batch: str, viewer: Viewer = STAFF, **arguments: Any) -> Any:
    return (await client.ask(MOVEMENTS, viewer, id=batch, **arguments))["batch"]["movements"]


def nodes(page: Any, *fields: str) -> list[tuple[Any, ...]]:
    return [tuple(edge["node"][name] for name in fields) for edge in page["edges"]]


async def add(connection: Connection, batch: str, *quantities: int) -> None:
    for quantity in quantities:
        await connection.execute("UPDATE stock_batches SET quantity = quantity + $2 WHERE id = $1", batch, quantity)


async def test_changes_by_everybody_are_there_with_who_and_why(batches_url: str) -> None:
    create = """mutation { createBatch(input: { itemId: "mug", quantity: 6 }) { batch { id } errors { message } } }"""
    async with client_of(batches_url) as client, psql(batches_url, application_name="the shop") as connection:
        made = (await client.ask(create, STAFF))["createBatch"]["batch"]["id"]
        await add(connection, made, -2)
        opening = await connection.fetchval("SELECT batch_id FROM stockshift.copy_ledger WHERE item_id = 'mug'")
        await connection.execute("""UPDATE items SET "quantityInStock" = 4 WHERE id = 'mug'""")
        fields = ("itemId", "delta", "reason", "actor", "application")
        assert nodes(await movements(client, made), *fields) == [
            ("mug", 6, "RECEIVED", "staff@example.com", "stockshift test"),
            ("mug", -2, "DIRECT", None, "the shop"),
        ]
        assert nodes(await movements(client, opening), *fields) == [("mug", -6, "LEGACY_WRITE", None, "the shop")]


async def test_the_time_is_as_all_times_are(batches_url: str) -> None:
    async with client_of(batches_url) as client, psql(batches_url) as connection:
        await connection.execute("UPDATE stockshift.movement SET at = '2026-07-01 14:00:00.123+02'")
        assert nodes(await movements(client, "mug-2"), "at") == [("2026-07-01T12:00:00.123Z",)]


async def test_units_past_an_int_are_whole(batches_url: str) -> None:
    async with client_of(batches_url) as client, psql(batches_url) as connection:
        await connection.execute("UPDATE stock_batches SET quantity = -2147483648 WHERE id = 'mug-2'")
        await connection.execute("UPDATE stock_batches SET quantity = 2147483647 WHERE id = 'mug-2'")
        assert nodes(await movements(client, "mug-2"), "delta")[-1] == (4_294_967_295,)


async def test_a_reason_that_nobody_knows_is_a_direct_change(batches_url: str) -> None:
    """Any session can set the reason to any text; such a change was not made by this service."""
    async with client_of(batches_url) as client, psql(batches_url) as connection:
        await connection.execute("SET stockshift.reason = 'stolen'")
        await add(connection, "mug-2", -1)
        await connection.execute("SET stockshift.reason = 'CORRECTED'")
        await add(connection, "mug-2", 1)
        assert nodes(await movements(client, "mug-2"), "delta", "reason")[1:] == [(-1, "DIRECT"), (1, "CORRECTED")]


async def test_pages_show_each_movement_once_oldest_first_while_more_are_made(batches_url: str) -> None:
    async with client_of(batches_url) as client, psql(batches_url) as connection:
        await add(connection, "mug-2", 1, 2, 3, 4)
        seen: list[tuple[int]] = []
        after = None
        while True:
            page = await movements(client, "mug-2", first=2, after=after)
            assert page["pageInfo"]["hasPreviousPage"] == (after is not None)
            assert page["totalCount"] == 5 + bool(seen)
            seen += nodes(page, "delta")
            after = page["pageInfo"]["endCursor"]
            if len(seen) == 2:
                await add(connection, "mug-2", 5)
                await add(connection, "mug-3", 100)
            if not page["pageInfo"]["hasNextPage"]:
                break
    assert [delta for (delta,) in seen] == [5, 1, 2, 3, 4, 5]


async def test_pages_of_several_batches_are_each_their_own(batches_url: str) -> None:
    query = """{ item(id: "mug") { batches { edges { node { quantity openingBatch movements(first: 2) {
        totalCount edges { node { delta } } } } } } } }"""
    async with client_of(batches_url) as client, psql(batches_url) as connection:
        await add(connection, "mug-2", 1, 2)
        batches = [edge["node"] for edge in (await client.ask(query))["item"]["batches"]["edges"]]
    found = sorted(
        (one["quantity"], one["openingBatch"], one["movements"]["totalCount"], nodes(one["movements"], "delta"))
        for one in batches
    )
    assert found == [(7, False, 1, [(7,)]), (8, False, 3, [(5,), (1,)]), (10, True, 0, [])]


async def test_a_cursor_of_batches_is_refused(batches_url: str) -> None:
    async with client_of(batches_url) as client:
        for after in (forged(1, "OLDEST", 1, 1), forged(1, "RECORDED", "1", "1"), "no cursor"):
            answer = await client.answer(MOVEMENTS, id="mug-2", after=after)
            assert answer.codes == ["BAD_REQUEST"]


async def test_batches_made_before_the_expansion_have_none(stock_url: str) -> None:
    async with client_of(stock_url) as client, psql(stock_url) as connection:
        await connection.execute(STOCK_BATCHES)
        await insert_batch(connection, "by-hand", "mug")
        assert await movements(client, "by-hand") == NONE


@pytest.mark.parametrize(
    "change", ["ALTER TABLE stockshift.movement RENAME TO away", "ALTER SCHEMA stockshift RENAME TO away"]
)
async def test_a_table_of_movements_that_goes_and_comes_is_seen_at_once(batches_url: str, change: str) -> None:
    back = change.replace("stockshift", "away") if "SCHEMA" in change else change.replace("movement", "away")
    back = back.replace("TO away", "TO stockshift" if "SCHEMA" in change else "TO movement")
    async with client_of(batches_url) as client, psql(batches_url) as connection:
        before = await movements(client, "mug-2")
        assert before["totalCount"] == 1
        await connection.execute(change)
        assert await movements(client, "mug-2") == NONE
        await connection.execute(back)
        assert await movements(client, "mug-2") == before


async def test_what_a_batch_did_while_it_was_another_companys_stays_with_that_company(batches_url: str) -> None:
    acme, globex = (Viewer("somebody", Role.STAFF, company) for company in ("acme", "globex"))
    async with client_of(batches_url) as client, psql(batches_url) as connection:
        await insert_item(connection, "bowl", companyId="globex", locationId=None)
        await insert_batch(connection, "moved", "bowl", quantity=40)
        await connection.execute("""UPDATE stock_batches SET "itemId" = 'mug', quantity = 30 WHERE id = 'moved'""")
        await add(connection, "moved", -1)
        fields = ("itemId", "delta")
        assert nodes(await movements(client, "moved"), *fields) == [
            ("bowl", 40),
            ("bowl", -40),
            ("mug", 30),
            ("mug", -1),
        ]
        seen = await movements(client, "moved", acme)
        assert nodes(seen, *fields) == [("mug", 30), ("mug", -1)]
        assert seen["totalCount"] == 2
        assert (await client.ask(MOVEMENTS, globex, id="moved"))["batch"] is None
