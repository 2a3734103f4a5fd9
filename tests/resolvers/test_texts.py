"""A text that PostgreSQL cannot have (a NUL, half a surrogate pair) is refused with its place; it is never a fault."""

from itertools import product

from tests.graphql_client import client_of, web_on

BAD = ["\0", "a\0b", "\ud800", "\udfff" * 100]
QUERIES = [
    "query($x: ID!) { item(id: $x) { id } }",
    "query($x: ID!) { batch(id: $x) { id } }",
    "query($x: ID!) { verification(id: $x) { id } }",
    "query($x: String!) { items(filter: { search: $x }) { totalCount } }",
    "query($x: ID!) { items(filter: { companyId: $x }) { totalCount } }",
    'query($x: ID!) { items(filter: { locationIds: ["a", $x] }) { totalCount } }',
    "query($x: String!) { stockSummary(filter: { search: $x }) { items } }",
    "query($x: String!) { items(after: $x) { totalCount } }",
    "query($x: String!) { verifications(after: $x) { totalCount } }",
    'query($x: String!) { item(id: "mug") { batches(after: $x) { totalCount } } }',
    "query($x: String!) { items { edges { node { batches(after: $x) { totalCount } } } } }",
    'query($x: String!) { verification(id: "1") { mismatches(after: $x) { totalCount } } }',
]


async def test_every_argument_is_checked(batches_url: str) -> None:
    async with client_of(batches_url) as client:
        for query, text in product(QUERIES, BAD):
            answer = await client.answer(query, x=text)
            assert answer.codes == ["BAD_REQUEST"], (query, text)
            assert "no text here has a NUL or half a surrogate pair" in answer.message
            assert len(answer.message) < 500
        assert client.statements[4:] == []  # no more than a look at the database


async def test_every_input_of_a_mutation_is_checked(batches_url: str) -> None:
    mutation = (
        "mutation($input: CreateBatchInput!) { createBatch(input: $input) { batch { id } errors { field code } } }"
    )
    async with client_of(batches_url) as client:
        for field in ("itemId", "locationId", "assignedUserId", "orderNumber", "notes", "idempotencyKey"):
            for text in BAD[:3]:
                given = {"itemId": "mug", "quantity": 1, field: text}
                payload = (await client.ask(mutation, input=given))["createBatch"]
                assert payload["batch"] is None
                assert {"field": ["input", field], "code": "INVALID"} in payload["errors"]


async def test_over_http_they_are_refused_too(batches_url: str) -> None:
    async with web_on(batches_url) as web:
        nul = await web.post("query($x: ID!) { item(id: $x) { id } }", x="a\0")
        literal = await web.post('{ item(id: "a\\u0000") { id } }')
        half = await web.post('{ item(id: "\\uD800") { id } }')
        whole = await web.post('{ item(id: "\\uD83C\\uDF75") { id } }')
    for response in (nul, literal, half):
        assert response.status_code == 200
        assert [error["extensions"]["code"] for error in response.json()["errors"]] == ["BAD_REQUEST"]
    assert whole.json() == {"data": {"item": None}}
