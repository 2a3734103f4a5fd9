"""What `createBatch` refuses: field, value and remedy are named, and not a row is changed (R29)."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from resolvers.viewer import Role
from tests.conftest import CopyTemplate
from tests.migration.support import migrate
from tests.mutations.support import CREATE, Client, rows, serving
from tests.support import insert, insert_item, psql

LONG_NOTE = "ä" * 10_001


@pytest.fixture
async def client(unchanging_url: str) -> AsyncIterator[Client]:
    """An admin, in front of a database in which nothing may have changed when the test is over."""
    async with psql(unchanging_url) as connection:
        before = await rows(connection)
        async with serving(unchanging_url) as admin:
            yield admin
        assert await rows(connection) == before


@pytest.mark.parametrize(
    ("values", "field", "code", "words"),
    [
        ({"itemId": "no-such"}, "itemId", "NOT_FOUND", ["'no-such'", "`items`"]),
        ({"itemId": ""}, "itemId", "NOT_FOUND", ["''", "`items`"]),
        ({"itemId": "m\0g"}, "itemId", "INVALID", ["'m\\x00g'", "NUL"]),
        ({"itemId": "x" * 5_000}, "itemId", "NOT_FOUND", ["xxx…", "`items`"]),
        ({"quantity": -1}, "quantity", "INVALID", ["-1", "0 to 2147483647"]),
        ({"costPerUnitUSD": -0.01}, "costPerUnitUSD", "INVALID", ["-0.01", "0 to 1,000,000,000,000"]),
        ({"costPerUnitUSD": 1.0000001e12}, "costPerUnitUSD", "INVALID", ["1000000100000.0", "0 to 1,000,"]),
        ({"freightCostUSD": -3}, "freightCostUSD", "INVALID", ["-3.0", "0 to 1,000,000,000,000"]),
        ({"freightCostUSD": 1e308}, "freightCostUSD", "INVALID", ["1e+308", "0 to 1,000,000,000,000"]),
        ({"locationId": "nowhere"}, "locationId", "NOT_FOUND", ["'nowhere'", "`locations`"]),
        ({"locationId": ""}, "locationId", "NOT_FOUND", ["''", "`locations`"]),
        ({"locationId": "a\0"}, "locationId", "INVALID", ["'a\\x00'", "NUL"]),
        ({"locationId": "globex-main"}, "locationId", "NOT_FOUND", ["item's company", "'globex-main'"]),
        ({"itemId": "globex", "locationId": "acme-main"}, "locationId", "NOT_FOUND", ["item's company", "'acme-main'"]),
        ({"assignedUserId": "nobody"}, "assignedUserId", "NOT_FOUND", ["'nobody'", "give another"]),
        ({"assignedUserId": "globex-user"}, "assignedUserId", "NOT_FOUND", ["item's company", "'globex-user'"]),
        ({"notes": LONG_NOTE}, "notes", "INVALID", ["10001 characters", "at most 10000"]),
        ({"notes": "a\0b"}, "notes", "INVALID", ["'a\\x00b'", "NUL"]),
        ({"notes": "\0" * 5_000}, "notes", "INVALID", ["\\x00", "…; a text", "NUL"]),
        ({"orderNumber": "9" * 201}, "orderNumber", "INVALID", ["201 characters", "at most 200"]),
        ({"orderNumber": "\0"}, "orderNumber", "INVALID", ["'\\x00'", "NUL"]),
        ({"idempotencyKey": "k" * 201}, "idempotencyKey", "INVALID", ["201 characters", "at most 200"]),
        ({"idempotencyKey": "k\0"}, "idempotencyKey", "INVALID", ["'k\\x00'", "NUL"]),
        ({"idempotencyKey": ""}, "idempotencyKey", "INVALID", ["''", "leave it out"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_a_value_that_cannot_be_is_named_with_what_to_do(
    client: Client, values: dict[str, Any], field: str, code: str, words: list[str]
) -> None:
    error = await client.refused(**{"itemId": "mug", "quantity": 5, "idempotencyKey": "a-key", **values})
    assert (error["field"], error["code"]) == (f"input.{field}", code)
    assert [word for word in words if word not in error["message"]] == [], error["message"]
    assert len(error["message"]) < 300


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"quantity": 2**31}, ["quantity", "2147483648"]),
        ({"quantity": -(2**31) - 1}, ["quantity", "-2147483649"]),
        ({"quantity": 1.5}, ["quantity", "1.5"]),
        ({"quantity": None}, ["quantity"]),
        ({"quantity": "5"}, ["quantity", "'5'"]),
        ({"costPerUnitUSD": "NaN"}, ["costPerUnitUSD", "NaN"]),
        ({"status": "Lost"}, ["status", "Lost"]),
        ({"status": "arrived"}, ["status", "arrived"]),
        ({"colour": "red"}, ["colour"]),
        ({"orderDate": "2026-01-31T12:00:00"}, ["orderDate", "no offset", "2026-01-31T12:00:00Z"]),
        ({"orderDate": "2026-01-31"}, ["orderDate", "no offset"]),
        ({"orderDate": "2026-02-30T12:00:00Z"}, ["orderDate", "'2026-02-30T12:00:00Z'", "write it like"]),
        ({"orderDate": "0000-01-01T00:00:00Z"}, ["orderDate", "years 1 to 9999"]),
        ({"orderDate": "10000-01-01T00:00:00Z"}, ["orderDate", "years 1 to 9999"]),
        ({"orderDate": "9999-12-31T23:00:00-02:00"}, ["orderDate", "years 1 to 9999"]),
        ({"orderDate": "9999-12-31T23:59:59.9996Z"}, ["orderDate", "years 1 to 9999"]),
        ({"orderDate": "0001-01-01T01:00:00+02:00"}, ["orderDate", "years 1 to 9999"]),
        ({"orderDate": "0001-01-01T00:00:00Z"}, ["orderDate", "years 1 to 9999"]),
        ({"arrivedDate": "infinity"}, ["arrivedDate", "'infinity'", "write it like"]),
        ({"expectedArrival": 1_769_860_800}, ["expectedArrival", "1769860800", "is a text"]),
        ({"expectedArrival": "soon\0"}, ["expectedArrival", "write it like"]),
        ({"expectedArrival": "9" * 5_000}, ["expectedArrival", "write it like"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_a_variable_of_the_wrong_kind_is_named_before_anything_is_executed(
    client: Client, values: dict[str, Any], words: list[str]
) -> None:
    answer = await client.ask(CREATE, input={"itemId": "mug", "quantity": 5, **values})
    (error,) = answer["errors"]
    assert "data" not in answer
    assert error["extensions"] == {"code": "BAD_REQUEST"}
    assert [word for word in words if word not in error["message"]] == [], error["message"]
    assert len(error["message"]) < 400


@pytest.mark.parametrize(
    ("literal", "words"),
    [
        ("quantity: 2147483648", ["2147483648"]),
        ("quantity: 5, status: Lost", ["Lost"]),
        ('quantity: 5, orderDate: "2026-01-31T12:00:00"', ["'2026-01-31T12:00:00'", "no offset"]),
        ("quantity: 5, orderDate: 1769860800", ["1769860800", "is a text"]),
        ("quantity: 5, costPerUnitUSD: NaN", ["NaN"]),
        ('quantity: 5, notes: "\\ud800"', ["\\ud800"]),
    ],
)
async def test_a_value_written_into_the_document_is_pointed_at(client: Client, literal: str, words: list[str]) -> None:
    create = f'createBatch(input: {{itemId: "mug", {literal}}})'
    answer = await client.ask(f"mutation {{ {create} {{ errors {{ message }} }} }}")
    (error,) = answer["errors"]
    assert "data" not in answer
    assert [word for word in words if word not in error["message"]] == [], error["message"]
    assert "Syntax" in error["message"] or error["locations"][0]["line"] == 1


async def test_a_number_too_large_for_a_float_is_infinite_and_refused(client: Client) -> None:
    for literal in ("1e999", "-1e999"):
        document = 'mutation { createBatch(input: {itemId: "mug", quantity: 1, %s: %s}) { errors { field message } } }'
        for field in ("costPerUnitUSD", "freightCostUSD"):
            (error,) = (await client.data(document % (field, literal)))["createBatch"]["errors"]
            assert error["field"] == ["input", field]
            assert "inf; an amount in USD is 0 to" in error["message"]


@pytest.mark.parametrize("value", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b'"\\ud800"'])
async def test_a_body_with_what_json_has_not_is_no_request(client: Client, value: bytes) -> None:
    body = b'{"query": "{ __typename }", "variables": {"input": {"itemId": "mug", "costPerUnitUSD": %s}}}' % value
    response = await client.post(body)
    assert response.status_code == 400
    assert response.json()["errors"][0]["extensions"]["code"] == "BAD_REQUEST"


async def test_everything_that_is_wrong_is_said_at_once(client: Client) -> None:
    payload = await client.create(
        itemId="mug", quantity=-1, freightCostUSD=-1, costPerUnitUSD=-1, notes=LONG_NOTE, idempotencyKey=""
    )
    found = [error["field"][1] for error in payload["errors"]]
    assert sorted(found) == ["costPerUnitUSD", "freightCostUSD", "idempotencyKey", "notes", "quantity"]
    payload = await client.create(itemId="mug", quantity=1, locationId="nowhere", assignedUserId="nobody")
    assert [error["field"][1] for error in payload["errors"]] == ["locationId", "assignedUserId"]


async def test_what_another_company_has_is_not_found_in_the_words_for_what_nobody_has(client: Client) -> None:
    staff = client.of(Role.STAFF, "globex")
    theirs, nobodys = await staff.refused(itemId="mug", quantity=1), await staff.refused(itemId="gum", quantity=1)
    assert theirs == {**nobodys, "message": nobodys["message"].replace("'gum'", "'mug'")}
    for field, value in (("locationId", "acme-main"), ("assignedUserId", "acme-user")):
        theirs = await staff.refused(itemId="globex", quantity=1, **{field: value})
        nobodys = await staff.refused(itemId="globex", quantity=1, **{field: "no-such"})
        assert theirs == {**nobodys, "message": nobodys["message"].replace("no-such", value)}


async def test_nobody_without_a_token_makes_a_batch(client: Client) -> None:
    response = await replace(client, token=None).post(
        {"query": CREATE, "variables": {"input": {"itemId": "mug", "quantity": 1}}}
    )
    assert response.status_code == 401
    assert response.json()["errors"][0]["extensions"]["code"] == "UNAUTHENTICATED"


async def test_a_link_makes_no_batch(client: Client) -> None:
    query = 'mutation{createBatch(input:{itemId:"mug",quantity:1}){errors{message}}}'
    response = await client.http.get(
        "/graphql", params={"query": query}, headers={"authorization": f"Bearer {client.token}"}
    )
    assert response.status_code >= 400
    assert "data" not in response.json()


async def test_a_batch_whose_payload_cannot_be_shown_is_not_made(client: Client) -> None:
    answer = await client.ask(
        'mutation { createBatch(input: {itemId: "mug", quantity: 1}) '
        "{ batch { id } item { batches(first: 5000) { totalCount edges { cursor } } } errors { message } } }"
    )
    (error,) = answer["errors"]
    assert error["extensions"] == {"code": "BAD_REQUEST"}
    assert "5000" in error["message"]
    assert answer["data"] is None


async def test_before_the_migration_there_are_no_batches_to_make(
    shop_url: str, copy_template: CopyTemplate, empty_database_url: str
) -> None:
    async with psql(shop_url) as connection, serving(shop_url) as client:
        await insert_item(connection, "mug")
        before = await rows(connection)
        error = await client.refused(itemId="mug", quantity=5)
        assert (error["field"], error["code"]) == ("", "MIGRATION_NOT_STARTED")
        assert "`stockshift migrate`" in error["message"]
        assert await rows(connection) == before


async def test_batches_made_by_hand_before_the_migration_are_not_added_to(shop_url: str) -> None:
    async with psql(shop_url) as connection, serving(shop_url) as client:
        await insert_item(connection, "mug")
        await migrate(shop_url)
        await connection.execute("DROP SCHEMA stockshift CASCADE")
        before = await rows(connection)
        assert (await client.refused(itemId="mug", quantity=5))["code"] == "MIGRATION_NOT_STARTED"
        assert await rows(connection) == before


@pytest.mark.parametrize(
    ("loosened", "column", "value", "words"),
    [
        ('ALTER COLUMN "costPerUnitUSD" DROP NOT NULL', "costPerUnitUSD", None, ["costPerUnitUSD is NULL", "set"]),
        ('ALTER COLUMN "status" DROP NOT NULL', "status", None, ["status is NULL", "set"]),
        ('DROP CONSTRAINT "items_locationId_fkey"', "locationId", "gone", ["locationId names no location", "set it"]),
        ('ALTER COLUMN "orderDate" TYPE timestamp(6)', "orderDate", "'2026-01-01 00:00:00.123456'", ["millisecond"]),
    ],
)
async def test_an_item_that_cannot_be_copied_is_a_conflict_that_names_the_column(
    uncopied_url: str, loosened: str, column: str, value: str | None, words: list[str]
) -> None:
    async with psql(uncopied_url) as connection, serving(uncopied_url) as client:
        await connection.execute(f"ALTER TABLE items {loosened}")
        literal = "NULL" if value is None else f"'{value.strip(chr(39))}'"
        await connection.execute(f"UPDATE items SET \"{column}\" = {literal} WHERE id = 'mug'")
        before = await rows(connection)
        error = await client.refused(itemId="mug", quantity=5, costPerUnitUSD=1, idempotencyKey="k")
        assert (error["field"], error["code"]) == ("input.itemId", "CONFLICT")
        assert [word for word in ["'mug'", *words] if word not in error["message"]] == []
        assert await rows(connection) == before


@pytest.mark.parametrize("own", ["NaN", "Infinity", "-1", "NULL"])
async def test_an_items_own_cost_that_is_no_amount_is_not_taken_for_the_batch(uncopied_url: str, own: str) -> None:
    async with psql(uncopied_url) as connection, serving(uncopied_url) as client:
        await client.made(itemId="mug", quantity=1)
        await connection.execute('ALTER TABLE items ALTER COLUMN "costPerUnitUSD" DROP NOT NULL')
        literal = own if own == "NULL" else f"'{own}'"
        await connection.execute(f"UPDATE items SET \"costPerUnitUSD\" = {literal} WHERE id = 'mug'")
        error = await client.refused(itemId="mug", quantity=5)
        assert (error["field"], error["code"]) == ("input.costPerUnitUSD", "INVALID")
        assert "give the batch one" in error["message"]
        assert (await client.made(itemId="mug", quantity=5, costPerUnitUSD=2.5))["batch"]["costPerUnitUSD"] == 2.5


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (
            "ADD shelf text; UPDATE stock_batches SET shelf = 'A'; ALTER TABLE stock_batches ALTER shelf SET NOT NULL",
            ["shelf", "mend the rule"],
        ),
        ("ADD CONSTRAINT even CHECK (quantity % 2 = 0)", ["even", "ask for something else"]),
        ('ADD CONSTRAINT one_order UNIQUE ("orderNumber")', ["one_order", "ask for something else"]),
    ],
)
async def test_a_rule_that_somebody_made_for_batches_is_a_conflict_that_names_it(
    uncopied_url: str, rule: str, words: list[str]
) -> None:
    async with psql(uncopied_url) as connection, serving(uncopied_url) as client:
        await connection.execute("UPDATE stock_batches SET \"orderNumber\" = 'PO-1'")
        await connection.execute(f"ALTER TABLE stock_batches {rule}")
        before = await rows(connection)
        error = await client.refused(itemId="mug", quantity=5, orderNumber="PO-1", notes="private", idempotencyKey="k")
        assert (error["field"], error["code"]) == ("", "CONFLICT")
        assert [word for word in words if word not in error["message"]] == [], error["message"]
        assert "private" not in error["message"]
        assert await rows(connection) == before


async def test_a_reference_of_their_own_that_names_nothing_is_a_conflict(uncopied_url: str) -> None:
    async with psql(uncopied_url) as connection, serving(uncopied_url) as client:
        await insert(connection, "companies", id="PO-0", name="An order")
        await connection.execute(
            'ALTER TABLE stock_batches ADD CONSTRAINT their_orders FOREIGN KEY ("orderNumber") REFERENCES companies'
        )
        error = await client.refused(itemId="mug", quantity=5, orderNumber="PO-1")
        assert error["code"] == "CONFLICT"
        assert "their_orders" in error["message"]
