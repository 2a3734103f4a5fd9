"""Both ways of answering say the same: bytes straight out of the database, and graphql-core over the same plan."""

import asyncio
import os
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings

from resolvers.reader import Reader
from resolvers.viewer import Role, Viewer
from schema import build_schema
from tests.graphql_client import ADMIN, Client, client_of, web_on
from tests.migration.support import verified
from tests.resolvers.operations import operations
from tests.support import insert_item, psql

EXAMPLES = int(os.environ.get("STOCKSHIFT_TEST_EXAMPLES", "60"))
SCOPED = Viewer("someone@acme.example", Role.MANAGER, "acme")
ODD = "quote ' \" backslash \\ tab \t \x01 \x7f emoji 🙂 \u2028 end"


async def make_odd(url: str) -> None:
    """What real tables hold, and what they should not: it must come out the same, or be refused the same."""
    async with psql(url) as connection:
        await insert_item(connection, "odd", name=ODD, notes=ODD, quantityInStock=2**31 - 1, locationId=None)
        await insert_item(connection, "Ω'\"\\%_", quantityInStock=2**31 - 1, minStockLevel=0, sellingPriceSRD=0.1 + 0.2)
        await insert_item(connection, "endless", costPerUnitUSD=float("inf"))
        await insert_item(connection, "nameless", name='"NaN"')
        await connection.execute("""UPDATE items SET "createdAt" = '9999-12-31 23:59:59.999' WHERE id = 'pot'""")
        await connection.execute("""UPDATE items SET "createdAt" = '-infinity' WHERE id = 'rug'""")
        await connection.execute("UPDATE locations SET name = $1 WHERE id = 'acme-harbour'", ODD)


async def both_ways(client: Client, viewer: Viewer, query: str, variables: dict[str, Any]) -> bool:
    """Compares; answers whether the bytes were to be had."""
    slow = await client.answer(query, viewer, **variables)
    body = await client.reader.answer_bytes(viewer, query, None, variables)
    if body is None:
        return False
    assert not slow.errors, "what graphql-core refuses must not come out in bytes"
    assert orjson.loads(body) == {"data": slow.data}
    assert list(orjson.loads(body)["data"]) == list(slow.data), "in the order that was asked for"
    return True


async def cursors_of(client: Client) -> dict[str, list[str]]:
    found = {}
    for order in ("NAME", "CREATED_AT", "TOTAL_QUANTITY"):
        query = f"{{ items(orderBy: {{field: {order}, direction: ASC}}) {{ edges {{ cursor }} }} }}"
        found[order] = [edge["cursor"] for edge in (await client.ask(query))["items"]["edges"][:3]]
    query = '{ batch(id: "mug-2") { movements { edges { cursor } } } }'
    found["RECORDED"] = [edge["cursor"] for edge in (await client.ask(query))["batch"]["movements"]["edges"]]
    return found


def test_any_operation_has_the_same_answer_both_ways(batches_url: str) -> None:
    """Enough of what is drawn is answered in bytes, else this would show little."""
    with asyncio.Runner() as runner:
        runner.run(make_odd(batches_url))
        runner.run(verified(batches_url))
        opened = client_of(batches_url)
        client = runner.run(opened.__aenter__())
        schema = build_schema(client.reader.status_labels)._schema  # noqa: SLF001 - Strawberry has no public name for it
        cursors = runner.run(cursors_of(client))
        tally = {True: 0, False: 0}

        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(operations(schema, cursors))
        def check(drawn: tuple[str, dict[str, Any]]) -> None:
            for viewer in (ADMIN, SCOPED):
                tally[runner.run(both_ways(client, viewer, *drawn))] += 1

        try:
            check()
        finally:
            runner.run(opened.__aexit__(None, None, None))
    assert tally[True] > EXAMPLES / 4, tally


@pytest.mark.parametrize(
    ("damage", "query"),
    [
        ("UPDATE stock_batches SET \"costPerUnitUSD\" = 'Infinity'", '{ item(id: "cup") { stockValueUSD } }'),
        ("UPDATE stock_batches SET \"costPerUnitUSD\" = 'NaN'", '{ batch(id: "mug-2") { costPerUnitUSD } }'),
        ("ALTER TABLE items ALTER name DROP NOT NULL; UPDATE items SET name = NULL", '{ item(id: "mug") { name } }'),
        (
            'ALTER TABLE items ALTER "updatedAt" DROP NOT NULL; UPDATE items SET "updatedAt" = NULL',
            '{ item(id: "mug") { updatedAt } }',
        ),
        ("ALTER TABLE locations ALTER name DROP NOT NULL; UPDATE locations SET name = NULL", "{ locations { name } }"),
    ],
)
async def test_what_graphql_cannot_say_is_left_to_graphql_core(batches_url: str, damage: str, query: str) -> None:
    async with psql(batches_url) as connection, client_of(batches_url) as client:
        assert await both_ways(client, ADMIN, query, {})
        await connection.execute(damage)
        assert (await client.answer(query)).errors
        assert await client.reader.answer_bytes(ADMIN, query, None, {}) is None


async def test_a_plan_is_made_once_for_all_values(batches_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    plan = Reader._plan  # noqa: SLF001 - what is counted is inside

    def counted(self: Reader, known: Any, *args: Any, **options: Any) -> Any:
        before = len(known.plans)
        answer = plan(self, known, *args, **options)
        made.append(len(known.plans) - before)
        return answer

    monkeypatch.setattr(Reader, "_plan", counted)
    query = "query($id: ID!) { item(id: $id) { name } }"
    async with client_of(batches_url) as client:
        for id_ in ("mug", "pot", "vase", "nothing"):
            await client.answer(query, id=id_)
    assert made == [1, 0, 0, 0]


async def test_a_response_says_which_way_it_came(batches_url: str) -> None:
    query = "query($id: ID!) { item(id: $id) { name totalQuantity } }"
    async with web_on(batches_url) as web:
        first = await web.post(query, id="mug")
        second = await web.post(query, id="pot")
        refused = await web.post(query, id="pot\0")
    assert "Stockshift-Path" not in first.headers
    assert second.headers["Stockshift-Path"] == "plan"
    assert second.json() == {"data": {"item": {"name": "pot", "totalQuantity": 3}}}
    assert refused.json()["errors"][0]["extensions"]["code"] == "BAD_REQUEST"


async def test_a_known_operation_is_refused_to_a_lower_role(batches_url: str) -> None:
    query = "{ verifications { totalCount } }"
    async with web_on(batches_url) as web:
        for _ in range(2):
            assert (await web.post(query)).json() == {"data": {"verifications": {"totalCount": 1}}}
        refused = await web.post(query, role=Role.STAFF)
    assert refused.json()["errors"][0]["extensions"]["code"] == "FORBIDDEN"


async def test_a_known_operation_shows_one_company_nothing_of_another(batches_url: str) -> None:
    query = "{ items { totalCount edges { node { id } } } locations { id } }"
    async with web_on(batches_url) as web:
        for company in ("acme", "globex", "acme", "globex"):
            answer = (await web.post(query, company=company)).json()["data"]
            assert all(one["id"].startswith(company) for one in answer["locations"])
            assert ({"id": "cup"} in [edge["node"] for edge in answer["items"]["edges"]]) == (company == "globex")
