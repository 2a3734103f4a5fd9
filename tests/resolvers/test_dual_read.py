"""The dual read: a share of item reads is answered by both systems, in the same statement, and what differs is kept."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest

from db.shape import load_shape
from migration.read_difference import MOST_KEPT, Difference, keep_differences
from resolvers.arrivals import Arrival
from resolvers.dual_read import DualReads
from resolvers.plan import make_plan
from resolvers.reader import COMPANY
from resolvers.scope import Scope
from resolvers.selection import Selected
from resolvers.viewer import Role, Viewer
from tests.graphql_client import ADMIN, MANAGER, Client, client_of, web_on
from tests.migration.support import engine_on, migrate
from tests.resolvers.shop import ITEM, insert_batch
from tests.support import Connection, insert_item, psql

ONE = f"query($id: ID!) {{ item(id: $id) {{ {ITEM} }} }}"
PAGE = f"{{ items(first: 100) {{ totalCount pageInfo {{ endCursor }} edges {{ cursor node {{ {ITEM} }} }} }} }}"
DIFFERENCES = """{ migration { readDifferences(first: 50) { totalCount edges { node {
    itemId cause explained legacyQuantity batchQuantity times at } } } } }"""
ACME = Viewer("m", Role.MANAGER, "acme")


@asynccontextmanager
async def comparing(url: str, share: float = 1.0) -> AsyncIterator[tuple[Client, DualReads]]:
    async with client_of(url) as client:
        client.reader.dual = DualReads(client.engine, share)
        yield client, client.reader.dual


async def spoil(connection: Connection) -> dict[str, str]:
    """Makes of each item something else, and says what a dual read finds of it."""
    await insert_batch(connection, "pot-2", "pot", quantity=5)
    await connection.execute("UPDATE stock_batches SET notes = 'tampered' WHERE \"itemId\" = 'cup'")
    await insert_item(connection, "jug", quantityInStock=4)
    return {
        "mug": "RECEIVED_SINCE",
        "pot": "RECEIVED_SINCE",
        "vase": "OPENING_BATCH_LOST",
        "cup": "OPENING_BATCH_DIFFERS",
        "bed": "BATCHES_WITHOUT_COPY",
        "rug": "NOT_COPIED",
        "jug": "NOT_COPIED",
    }


async def found_of(client: Client, dual: DualReads, item: str) -> str:
    before = dual.outcomes.copy()
    await client.ask(ONE, id=item)
    (outcome,) = (dual.outcomes - before).elements()
    return outcome


async def test_each_read_counts_how_the_other_system_would_have_answered(batches_url: str) -> None:
    async with comparing(batches_url) as (client, dual), psql(batches_url) as connection:
        assert await found_of(client, dual, "pot") == "AGREED"
        for item, outcome in (await spoil(connection)).items():
            assert await found_of(client, dual, item) == outcome, item
        await connection.execute("UPDATE stockshift.copy_ledger SET cut_over_at = now() WHERE item_id = 'pot'")
        assert await found_of(client, dual, "pot") == "CUT_OVER"
        await connection.execute("UPDATE items SET \"quantityInStock\" = 8 WHERE id = 'pot'")
        assert await found_of(client, dual, "pot") == "AGREED"


async def test_the_answers_are_the_same_with_and_without_it(batches_url: str) -> None:
    async with client_of(batches_url) as plain, comparing(batches_url) as (client, dual):
        async with psql(batches_url) as connection:
            items = await spoil(connection)
        for source in ("AUTO", "LEGACY"):
            await plain.ask(f"mutation {{ setReadSource(source: {source}) {{ errors {{ message }} }} }}")
            for viewer in (ADMIN, ACME):
                for item in (*items, "nobody"):
                    assert await client.ask(ONE, viewer, id=item) == await plain.ask(ONE, viewer, id=item)
                assert await client.ask(PAGE, viewer) == await plain.ask(PAGE, viewer)
        assert dual.outcomes["RECEIVED_SINCE"] == 2 * (2 * 2 + 2 * 2)  # one by one and on a page, for both viewers


async def test_it_is_one_statement_and_off_the_very_same_one(batches_url: str) -> None:
    async with (
        client_of(batches_url) as plain,
        comparing(batches_url) as (on, _),
        comparing(batches_url, 0.0) as (off, _),
    ):
        for query in (ONE, PAGE):
            variables: dict[str, Any] = {"id": "mug"} if query is ONE else {}
            for client in (plain, on, off):
                await client.ask(query, **variables)
            (usual,) = await plain.sent(query, **variables)
            (compared,) = await on.sent(query, **variables)
            assert await off.sent(query, **variables) == [usual]
            assert compared != usual
            assert len(compared) > len(usual)


async def test_what_is_not_of_both_systems_is_not_compared(stock_url: str, batches_url: str) -> None:
    """Before the migration there is one system; what asks for no item costs nothing."""
    async with client_of(stock_url) as plain, comparing(stock_url) as (client, dual):
        await plain.ask(ONE, id="mug")
        await client.ask(ONE, id="mug")
        assert await plain.sent(ONE, id="mug") == await client.sent(ONE, id="mug")
    async with client_of(batches_url) as plain, comparing(batches_url) as (client, dual):
        query = '{ locations { id } batch(id: "mug-2") { item { totalQuantity } } }'
        for one in (plain, client):
            await one.ask(query)
        assert await plain.sent(query) == await client.sent(query)
    assert not dual.outcomes


async def test_compared_answers_go_out_as_they_come_from_the_database_all_the_same(batches_url: str) -> None:
    async with web_on(batches_url, compare_reads=1.0) as web, web_on(batches_url) as plain:
        for one in (web, plain):
            await one.post(ONE, id="mug")
        compared, usual = await web.post(ONE, id="mug"), await plain.post(ONE, id="mug")
    assert compared.headers["stockshift-path"] == "plan"
    assert compared.content == usual.content


async def test_a_share_of_the_reads_is_compared(batches_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([0.0, 0.24, 0.25, 0.9])
    monkeypatch.setattr("resolvers.dual_read.random", lambda: next(drawn))
    async with comparing(batches_url, 0.25) as (client, dual):
        for _ in range(4):
            await client.ask(ONE, id="pot")
    assert dual.outcomes == {"AGREED": 2}


def executed(plan: Any) -> list[str]:
    """The relations that were looked into, as often as it was done, each by its index."""
    relation = plan.get("Relation Name", "setting")  # which is one row, and looked into by the guard
    found = [] if relation == "setting" else [relation] * int(plan["Actual Loops"])
    assert not found or plan["Node Type"] in ("Index Scan", "Index Only Scan", "Bitmap Heap Scan"), plan
    return sorted(found + [name for child in plan.get("Plans", ()) for name in executed(child)])


async def looked_into(url: str, item: str, *, compared: bool) -> list[str]:
    selected = Selected(
        "item", "item", {"id": Arrival(("id",))}, (Selected("totalQuantity", "totalQuantity", {}, required=True),)
    )
    async with engine_on(url) as engine, engine.connect() as connection:
        shape = await load_shape(connection)
        plan = make_plan(Scope(shape, None, compared=compared), ADMIN, [selected])
        await connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        rows = await connection.exec_driver_sql(
            f"EXPLAIN (ANALYZE, FORMAT JSON) {plan.sql}", plan.arguments({"id": item, COMPANY[0]: {COMPANY[1]: None}})
        )
        explained = rows.scalar_one()
    tree = (explained if isinstance(explained, list) else orjson.loads(explained))[0]["Plan"]
    return executed(tree)


async def test_comparing_costs_one_index_lookup_and_where_they_differ_two_more(batches_url: str) -> None:
    usual = await looked_into(batches_url, "pot", compared=False)
    assert sorted([*usual, "stock_batches"]) == await looked_into(batches_url, "pot", compared=True)
    usual = await looked_into(batches_url, "mug", compared=False)
    more = ["copy_ledger", "stock_batches", "stock_batches"]
    assert sorted([*usual, *more]) == await looked_into(batches_url, "mug", compared=True)


async def kept(client: Client, viewer: Viewer = MANAGER) -> dict[str, Any]:
    connection = (await client.ask(DIFFERENCES, viewer))["migration"]["readDifferences"]
    nodes = [edge["node"] for edge in connection["edges"]]
    assert connection["totalCount"] == len(nodes)
    return {node.pop("itemId"): node for node in nodes if node.pop("at")}


async def test_the_latest_differences_are_kept_an_item_a_row(batches_url: str) -> None:
    async with comparing(batches_url) as (client, dual), psql(batches_url) as connection:
        await spoil(connection)
        for _ in range(2):
            await client.ask(ONE, id="mug")
        assert await kept(client) == {}
        await dual.flush()
        await client.ask(ONE, id="cup")
        await client.ask(ONE, id="mug")
        await dual.flush()
        await dual.flush()
        mug = {"cause": "RECEIVED_SINCE", "explained": True, "legacyQuantity": 10, "batchQuantity": 22, "times": 3}
        cup = {
            "cause": "OPENING_BATCH_DIFFERS",
            "explained": False,
            "legacyQuantity": 2,
            "batchQuantity": 2,
            "times": 1,
        }
        assert await kept(client) == {"cup": cup, "mug": mug}
        assert list(await kept(client, ACME)) == ["mug"]


async def test_no_more_are_kept_than_there_is_room_for(batches_url: str) -> None:
    async with engine_on(batches_url) as engine:
        for first in (0, 600):
            async with engine.begin() as connection:
                await keep_differences(
                    connection, [Difference(f"item-{n}", "CUT_OVER", n, n + 1) for n in range(first, first + 600)]
                )
    async with psql(batches_url) as sql:
        kept_now = await sql.fetch("SELECT item_id FROM stockshift.read_difference")
    assert len(kept_now) == MOST_KEPT
    assert {f"item-{n}" for n in range(600, 1200)} <= {row["item_id"] for row in kept_now}


async def test_a_read_neither_waits_for_the_table_nor_fails_with_it(batches_url: str) -> None:
    async with comparing(batches_url) as (client, dual), psql(batches_url) as connection:
        async with connection.transaction():
            await connection.execute("LOCK TABLE stockshift.read_difference IN ACCESS EXCLUSIVE MODE")
            assert (await client.ask(ONE, id="mug"))["item"]["id"] == "mug"
            await dual.flush()
        await connection.execute("DROP TABLE stockshift.read_difference")
        assert (await client.ask(ONE, id="mug"))["item"]["id"] == "mug"
        await dual.flush()
        await migrate(batches_url)
        await client.ask(ONE, id="mug")
        await dual.flush()
        assert list(await kept(client)) == ["mug"]


async def test_an_id_with_control_characters_is_answered_and_kept(batches_url: str) -> None:
    async with comparing(batches_url) as (client, dual), psql(batches_url) as connection:
        await insert_item(connection, "odd \x06 \x01 id")
        await insert_batch(connection, "odd-1", "odd \x06 \x01 id")
        assert (await client.ask(ONE, id="odd \x06 \x01 id"))["item"]["id"] == "odd \x06 \x01 id"
        await dual.flush()
        assert list(await kept(client)) == ["odd \x06 \x01 id"]
