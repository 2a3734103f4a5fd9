"""What an operation costs, known from what it asks for; and that it is refused in time when that is too much."""

import asyncio
import logging
import os
from collections.abc import Iterator
from typing import Any

import pytest
from graphql import GraphQLObjectType, GraphQLSchema, parse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from resolvers.cost import COUNTED, LISTED, cost
from resolvers.operation import Operation
from schema import build_schema
from tests.graphql_client import ADMIN, client_of, web_on
from tests.migration.support import verified
from tests.resolvers.operations import Draft, operations
from tests.support import psql

EXAMPLES = int(os.environ.get("STOCKSHIFT_TEST_EXAMPLES", "60"))
NEWER = "application/graphql-response+json"
MOST_ROWS = 1_000
ITEMS = 7
SCHEMA = build_schema()._schema  # noqa: SLF001 - Strawberry has no public name for graphql-core's schema


def cost_of(query: str, schema: GraphQLSchema = SCHEMA, **variables: Any) -> int:
    operation = Operation.of(schema, parse(query), None)
    assert operation
    asked = operation.asked(variables)
    assert asked, "the variables are of their types"
    return cost(asked.selections(), MOST_ROWS)


def items(first: int, node: str) -> str:
    return f"{{ items(first: {first}) {{ edges {{ node {{ {node} }} }} }} }}"


def page(first: int, node: str) -> str:
    return f"batches(first: {first}) {{ edges {{ node {{ {node} }} }} }}"


COSTS = {
    "{ __typename __schema { types { name } } }": 0,
    '{ item(id: "mug") { id name totalQuantity statuses stockValueUSD } }': 1,
    '{ item(id: "mug") { legacy { location { id } } } }': 3,
    '{ batch(id: "mug-1") { item { id } location { id } assignedUser { id } } }': 4,
    '{ a: item(id: "mug") { id } b: item(id: "pot") { id } c: item(id: "mug") { id } }': 3,
    '{ item(id: "mug") { locations { id } quantityByStatus { quantity } } }': 1 + LISTED * 2,
    '{ item(id: "mug") { quantityByLocation { location { id } } } }': 1 + LISTED * 2,
    "{ locations { id } }": LISTED,
    "{ stockSummary { items totalQuantity } }": COUNTED + 1,
    "{ stockSummary { items quantityByLocation { location { id } } } }": COUNTED + 1 + LISTED * 2,
    "{ items(first: 10) { totalCount } }": 1 + COUNTED,
    "{ items(first: 10) { totalCount pageInfo { endCursor } } }": 2 + COUNTED,
    "{ items(first: 10) { edges { cursor } } }": 1 + 10,
    items(10, "id"): 1 + 10 * 2,
    items(0, page(1_000, "id")): 1,
    items(1_000, page(50, "id")): 1 + 1_000 * (3 + 50 * 2),
    items(1_000, page(50, "item { " + page(50, "id") + " }")): 1 + 1_000 * (3 + 50 * (4 + 50 * 2)),
    items(10, page(5, "movements { totalCount edges { node { id } } }")): 1 + 10 * (3 + 5 * (3 + COUNTED + 50 * 2)),
    "{ items { edges { node { id } } } }": 1 + 50 * 2,
    "{ items(first: null) { edges { node { batches { edges { node { id } } } } } } }": 1 + 50 * (3 + 50 * 2),
    "{ verifications { edges { node { mismatches { edges { cursor } } } } } }": 1 + 20 * (3 + 50),
    "{ items(first: 10) { few: edges { cursor } edges { node { id } } edges { node { name } } } }": 1 + 10 + 10 * 2,
    "{ items(first: 10) { ...A ...A ... { ...B } } } fragment A on ItemConnection { edges { cursor ...C } } "
    "fragment B on ItemConnection { edges { ...C } } fragment C on ItemEdge { node { id legacy { status } } }": 1 + 30,
    '{ items(first: 10) { edges @skip(if: true) { cursor } totalCount @include(if: false) } item(id: "a") { id } }': 2,
    'mutation { createBatch(input: { itemId: "a", quantity: 1 }) { item { id } errors { code } } }': 2 + LISTED,
    "{ items(first: 1001) { edges { node { id } } } locations { id } }": 1 + LISTED,
    "{ items(first: -5) { edges { node { id } } } }": 1,
    "{ items(first: 2147483647) { edges { node { " + page(2_147_483_647, "id") + " } } } }": 1,
}


@pytest.mark.parametrize(("query", "costs"), COSTS.items())
def test_an_operation_costs_the_objects_that_its_answer_can_have(query: str, costs: int) -> None:
    assert cost_of(query) == costs


def test_variables_count_with_their_values_and_their_defaults() -> None:
    query = "query($n: Int, $m: Int = 7, $yes: Boolean!) { items(first: $n) { edges @include(if: $yes) { cursor } } "
    query += "more: items(first: $m) { edges { cursor } } }"
    assert cost_of(query, yes=True) == 2 + 50 + 7
    assert cost_of(query, yes=True, n=3, m=4) == 2 + 3 + 4
    assert cost_of(query, yes=True, n=None, m=None) == 2 + 50 + 50
    assert cost_of(query, yes=False, n=3) == 2 + 7


FULL = """{ items(first: 1000) { totalCount pageInfo { endCursor hasNextPage } edges { cursor node {
    id name totalQuantity usingBatchSystem statuses stockValueUSD locations { id name }
    quantityByStatus { status quantity } quantityByLocation { location { name } quantity } } } } }"""
BATCHES = items(1_000, "name locations { name } " + page(50, "id location { id } assignedUser { name }"))
ENDLESS = items(1_000, page(50, "item { " + page(50, "id") + " }"))


async def test_by_default_whole_pages_with_their_batches_are_answered_and_pages_in_pages_in_pages_are_not(
    batches_url: str,
) -> None:
    async with client_of(batches_url) as client:
        for query in (FULL, BATCHES):
            await client.ask(query)
        answer = await client.answer(ENDLESS)
    assert answer.data is None
    assert answer.message == (
        "the operation costs 5203001, about as many objects as its answer may have; at most 500000 is answered: "
        "ask for fewer rows with `first`, or nest less"
    ).replace("5203001", str(cost_of(ENDLESS)))
    assert answer.codes == ["BAD_REQUEST"]


async def test_what_costs_as_much_as_is_allowed_is_answered_and_one_more_is_not(batches_url: str) -> None:
    async with client_of(batches_url, max_cost=11) as client:
        assert (await client.answer("{ items(first: 10) { edges { cursor } } }")).errors == []
        assert (await client.answer("{ items(first: 11) { edges { cursor } } }")).data is None


async def test_it_is_refused_before_any_statement_is_sent_even_if_parts_of_it_are_cheap(batches_url: str) -> None:
    query = ENDLESS.replace("{", '{ item(id: "mug") { id } migration { phase } __typename', 1)
    async with client_of(batches_url) as client:
        before = len(client.statements)
        answer = await client.answer(query)
        assert answer.data is None
        assert "costs" in answer.message
        assert len(client.statements) == before


async def test_a_mutation_whose_payload_costs_too_much_changes_nothing(batches_url: str) -> None:
    payload = "item { " + page(1_000, "item { " + page(1_000, "id") + " }") + " }"
    mutation = f'mutation {{ createBatch(input: {{ itemId: "bed", quantity: 1 }}) {{ {payload} }} }}'
    async with client_of(batches_url) as client, psql(batches_url) as connection:
        rows = await connection.fetch("SELECT * FROM stock_batches ORDER BY id")
        before = len(client.statements)
        answer = await client.answer(mutation)
        assert answer.data is None
        assert answer.codes == ["BAD_REQUEST"]
        assert len(client.statements) == before
        assert await connection.fetch("SELECT * FROM stock_batches ORDER BY id") == rows


async def test_an_operation_with_a_plan_is_refused_all_the_same_once_it_asks_for_more(batches_url: str) -> None:
    """The same document, answered in bytes for few rows, costs too much for many."""
    query = "query($n: Int) { items(first: $n) { edges { node { " + page(1_000, "id") + " } } } }"
    async with web_on(batches_url) as web:
        for _ in range(2):
            few = await web.post(query, n=2)
        assert few.headers["Stockshift-Path"] == "plan"
        for accept, status in (("application/json", 200), (NEWER, 400)):
            for _ in range(2):
                many = await web.post(query, accept=accept, n=1_000)
                assert many.status_code == status
                assert many.json().keys() == {"errors"}
                assert many.json()["errors"][0]["message"].startswith("the operation costs 2003001,")
        again = await web.post(query, n=2)
        assert again.headers["Stockshift-Path"] == "plan"


async def test_a_page_that_is_too_long_is_told_so_and_not_what_it_would_cost(batches_url: str) -> None:
    async with client_of(batches_url, max_cost=100) as client:
        answer = await client.answer("{ items(first: 100000) { edges { node { id } } } }")
    assert answer.message == "first: 100000 rows are asked for; a page has 0 to 1000"
    assert answer.errors[0]["path"] == ["items"]


async def test_what_an_operation_costs_is_in_the_log_for_who_looks(
    batches_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "stockshift.graphql")
    async with client_of(batches_url) as client:
        await client.ask("{ items(first: 10) { edges { cursor } } }")
    assert "the operation costs 11; at most 500000 is answered" in caplog.text


def objects(value: Any) -> Iterator[Any]:
    parts = value if isinstance(value, list) else []
    if isinstance(value, dict):
        yield value
        parts = list(value.values())
    for part in parts:
        yield from objects(part)


@st.composite
def pages(draw: DrawFn, schema: GraphQLSchema) -> tuple[str, dict[str, Any]]:
    """Anything about each of some items."""
    draft = Draft(schema, draw, {})
    item = schema.type_map["Item"]
    assert isinstance(item, GraphQLObjectType)
    return draft.document(f"{{ items(first: {ITEMS}) {{ edges {{ node {draft.selection(item, 2)} }} }} }}")


def test_no_answer_has_more_objects_than_its_operation_costs(batches_url: str) -> None:
    with asyncio.Runner() as runner:
        runner.run(verified(batches_url))
        opened = client_of(batches_url, max_cost=10**9, max_aliases=10**9)
        client = runner.run(opened.__aenter__())
        runner.run(client.ask("{ items { totalCount } }"))
        schema = build_schema(client.reader.status_labels)._schema  # noqa: SLF001 - as above
        sizes = []

        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(operations(schema, {}) | pages(schema))
        def check(drawn: tuple[str, dict[str, Any]]) -> None:
            query, variables = drawn
            data = runner.run(client.answer(query, ADMIN, **variables)).data
            sizes.append(sum(1 for value in (data or {}).values() for _ in objects(value)))
            assert sizes[-1] <= cost_of(query, schema, **variables)

        try:
            check()
        finally:
            runner.run(opened.__aexit__(None, None, None))
    assert sum(size > 2 * ITEMS for size in sizes) > 0, "else this would show nothing"
