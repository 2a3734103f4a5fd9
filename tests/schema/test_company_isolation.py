"""With a token of one company nothing of another is visible, countable or changeable, through any field.

Every path is generated from the schema, so a new field is asked for without being added here. Whatever is company
globex's has "globex" in its ids and names and 987654 in its numbers, so a leak shows in the text of a response.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from graphql import GraphQLObjectType, get_named_type

from resolvers.viewer import Role
from schema import build_schema
from tests.conftest import CopyTemplate, MakeTemplate, database_on, fill_shop
from tests.graphql_client import Web, web_on
from tests.migration.support import migrate, verified
from tests.resolvers.shop import insert_batch
from tests.resolvers.test_cursors import forged
from tests.support import Connection, insert_item, psql

SCHEMA = build_schema()._schema  # noqa: SLF001 - Strawberry has no public name for graphql-core's schema
DEEP = {"max_depth": 50, "max_tokens": 1_000_000, "max_cost": 10_000_000}
CANARY = re.compile("globex|987654", re.IGNORECASE)
OTHERS = ["globex", "globex-item", "globex-batch", "globex-main", "globex-user"]


async def fill_two_companies(connection: Connection, url: str) -> None:
    """Both migrated and verified, together and each by itself; in each an item whose batch was tampered with."""
    await fill_shop(connection)
    for company, quantity in (("acme", 10), ("globex", 987_654)):
        await insert_item(connection, f"{company}-item", companyId=company, quantityInStock=quantity,
                          locationId=f"{company}-main", assignedUserId=f"{company}-user", minStockLevel=quantity,
                          sellingPriceSRD=quantity, notes=company, orderNumber=company)  # fmt: skip
        await insert_item(connection, f"{company}-other", companyId=company, locationId=f"{company}-harbour",
                          quantityInStock=quantity, status="Sold")  # fmt: skip
    await migrate(url)
    for company, quantity in (("acme", 3), ("globex", 987_654)):
        await insert_batch(connection, f"{company}-batch", f"{company}-item", quantity=quantity,
                           locationId=f"{company}-main", assignedUserId=f"{company}-user", notes=company)  # fmt: skip
        await connection.execute(
            """UPDATE stock_batches SET quantity = quantity - 1 WHERE "itemId" = $1""", f"{company}-other"
        )
    for scope in (None, "acme", "globex"):
        await verified(url, company=scope)


@pytest.fixture(scope="module")
def companies_template(make_template: MakeTemplate, server_url: str) -> str:
    async def fill(connection: Connection) -> None:
        name = await connection.fetchval("SELECT current_database()")
        await fill_two_companies(connection, database_on(server_url, name))

    return make_template(fill)


@pytest.fixture
def companies_url(copy_template: CopyTemplate, companies_template: str) -> str:
    return copy_template(companies_template)


@pytest.fixture
def second_url(copy_template: CopyTemplate, companies_template: str) -> str:
    return copy_template(companies_template)


@pytest.fixture
async def alone_url(second_url: str) -> str:
    """The same database, in which company globex never was."""
    async with psql(second_url) as connection:
        await connection.execute(
            """
            DELETE FROM companies WHERE id = 'globex';
            DELETE FROM stockshift.copy_ledger WHERE item_id LIKE 'globex%';
            DELETE FROM stockshift.verification_mismatch WHERE item_id LIKE 'globex%';
            DELETE FROM stockshift.verification WHERE company_id = 'globex'
            """
        )
        assert await connection.fetchval("SELECT count(*) FROM items") == 2
    return second_url


@pytest.fixture
async def entangled_url(companies_url: str) -> str:
    """The same, but that rows of acme point at rows of globex, and the other way round."""
    async with psql(companies_url) as connection:
        await insert_item(connection, "acme-astray", locationId="globex-main", assignedUserId="globex-user")
        await insert_batch(connection, "acme-astray-1", "acme-astray", locationId="globex-harbour",
                           assignedUserId="globex-user")  # fmt: skip
        await insert_batch(connection, "acme-1", "acme-item", locationId="globex-main", assignedUserId="globex-user")
        await insert_batch(connection, "globex-1", "globex-item", quantity=987_654, locationId="acme-main",
                           assignedUserId="acme-user")  # fmt: skip
        await connection.execute("SET stockshift.actor = 'globex'")
        await insert_batch(connection, "acme-moved", "globex-item", quantity=987_654)
        await connection.execute(
            """
            UPDATE stock_batches SET "itemId" = 'acme-item', quantity = 1 WHERE id = 'acme-moved';
            UPDATE stockshift.movement SET actor = 'acme' WHERE item_id = 'acme-item'
            """
        )
    return companies_url


def everything(type_: GraphQLObjectType, trail: tuple[str, ...] = (), *, levels: int = 20, times: int = 1) -> str:
    """A selection of every field of a type, and of what it leads to: so many levels down, no type more than `times`."""
    fields = []
    for name, field in type_.fields.items():
        of = get_named_type(field.type)
        if not isinstance(of, GraphQLObjectType):
            fields.append(name)
        elif levels and trail.count(of.name) < times:
            below = everything(of, (*trail, of.name), levels=levels - 1, times=times)
            fields.append(f"{name} {{ {below} }}")
    return " ".join(fields) or "__typename"


FILTERS = [
    "", '(filter: { companyId: "globex" })', '(filter: { locationIds: ["globex-main", "globex-harbour"] })',
    '(filter: { search: "globex" })', "(filter: { usingBatchSystem: true })", "(filter: { usingBatchSystem: false })",
    "(filter: { lowStock: true })", "(filter: { lowStock: false })", "(filter: { statuses: [Sold, Arrived] })",
]  # fmt: skip
ORDERS = [
    f"(orderBy: {{ field: {field}, direction: {direction} }})"
    for field in ("NAME", "CREATED_AT", "TOTAL_QUANTITY")
    for direction in ("ASC", "DESC")
]
CURSORS = [
    f'(after: "{forged(1, "NAME_ASC", "globex-item", "globex-item")}")',
    f'(orderBy: {{ field: NAME, direction: DESC }}, after: "{forged(1, "NAME_DESC", "zzz", "zzz")}")',
    f'(orderBy: {{ field: TOTAL_QUANTITY, direction: DESC }}, after: "{forged(1, "TOTAL_QUANTITY_DESC", 10**9, "z")}")',
]
ARGUMENTS = {
    "item": [f'(id: "{id_}")' for id_ in ("acme-item", "acme-other", "acme-astray", *OTHERS)],
    "batch": [f'(id: "{id_}")' for id_ in ("acme-batch", "acme-1", "acme-astray-1", "acme-moved", "globex-1", *OTHERS)],
    "items": FILTERS + ORDERS + CURSORS,
    "stockSummary": FILTERS,
    "verification": [f'(id: "{id_}")' for id_ in range(6)],
    "locations": [""],
    "verifications": ["", "(first: 1)", f'(after: "{forged(1, "LATEST", 4, 4)}")'],
    "migration": [""],
}


def test_every_root_field_is_asked() -> None:
    assert SCHEMA.query_type is not None
    assert set(ARGUMENTS) == set(SCHEMA.query_type.fields)


def documents() -> Iterator[str]:
    """Each field with each of its arguments; with the first of them down to the bottom, and once around in circles."""
    assert SCHEMA.query_type is not None
    for name, field in SCHEMA.query_type.fields.items():
        of = get_named_type(field.type)
        assert isinstance(of, GraphQLObjectType)
        for number, arguments in enumerate(ARGUMENTS[name]):
            levels = 3 if number else 20
            times = 2 if name in ("item", "batch") and not number else 1
            yield f"{{ {name}{arguments} {{ {everything(of, (of.name,), levels=levels, times=times)} }} }}"


async def ask(web: Web, document: str, company: str | None = "acme") -> httpx.Response:
    response = await web.post(document, role=Role.ADMIN, company=company)
    assert response.status_code == 200
    return response


async def test_the_canaries_are_seen_by_who_may_see_them(entangled_url: str) -> None:
    """So the search would find them."""
    async with web_on(entangled_url, **DEEP) as web:
        found = {document for document in documents() if CANARY.search((await ask(web, document, None)).text)}
    calls = {re.split(r"\W+", document)[1] for document in found}
    assert calls == set(ARGUMENTS)
    assert len(found) > len(list(documents())) / 2


async def test_no_path_leads_to_a_row_of_another_company(entangled_url: str) -> None:
    async with web_on(entangled_url, **DEEP) as web:
        for document in documents():
            response = await ask(web, document)
            assert not CANARY.search(response.text), document[:200]


async def test_every_answer_and_count_is_as_if_the_other_company_were_not(companies_url: str, alone_url: str) -> None:
    async with web_on(companies_url, **DEEP) as both, web_on(alone_url, **DEEP) as alone:
        for document in documents():
            seen, expected = (await ask(both, document)).json(), (await ask(alone, document)).json()
            assert seen == expected, document[:200]
            assert "errors" not in seen


async def test_a_report_over_all_companies_is_not_for_who_sees_one(companies_url: str) -> None:
    async with web_on(companies_url) as web:
        seen = (await ask(web, "{ verifications { totalCount edges { node { id itemsChecked } } } }")).json()
        assert seen["data"]["verifications"]["totalCount"] == 1
        assert seen["data"]["verifications"]["edges"][0]["node"]["itemsChecked"] == 2
        everybodys = (await ask(web, "{ verifications { totalCount } }", None)).json()
        assert everybodys["data"]["verifications"]["totalCount"] > 2


CREATE = """
    mutation($input: CreateBatchInput!) {
        createBatch(input: $input) { batch { id } item { id } errors { field message code } }
    }
"""


async def made(web: Web, company: str, **given: Any) -> Any:
    response = await web.post(CREATE, role=Role.STAFF, company=company, input={"itemId": "acme-item", **given})
    return response.json()["data"]["createBatch"]


@pytest.mark.parametrize("field", ["itemId", "locationId", "assignedUserId"])
async def test_what_is_another_companys_is_refused_as_if_it_did_not_exist(companies_url: str, field: str) -> None:
    """Word for word, so that an error does not tell which ids exist."""
    other = {"itemId": "globex-item", "locationId": "globex-main", "assignedUserId": "globex-user"}[field]
    async with web_on(companies_url) as web, psql(companies_url) as connection:
        before = await connection.fetch("SELECT * FROM stock_batches ORDER BY id")
        refused = await made(web, "acme", quantity=1, **{field: other})
        unknown = await made(web, "acme", quantity=1, **{field: "no-such-id"})
        assert refused["batch"] is None
        assert json.dumps(refused).replace(other, "no-such-id") == json.dumps(unknown)
        assert [error["code"] for error in refused["errors"]] == ["NOT_FOUND"]
        assert await connection.fetch("SELECT * FROM stock_batches ORDER BY id") == before


async def test_an_idempotency_key_is_the_companys_own(companies_url: str) -> None:
    async with web_on(companies_url) as web:
        theirs = await made(web, "globex", itemId="globex-item", quantity=1, idempotencyKey="k")
        ours = await made(web, "acme", quantity=1, idempotencyKey="k")
    assert theirs["errors"] == ours["errors"] == []
    assert theirs["batch"] != ours["batch"]


async def test_a_payload_shows_nothing_of_another_company(entangled_url: str) -> None:
    assert SCHEMA.mutation_type is not None
    calls = {
        "createBatch": [
            f'(input: {{ itemId: "{item}", quantity: 1 }})' for item in ("acme-item", "acme-astray", "globex-other")
        ],
        "runVerification": ["", "(input: { wait: false })"],
        "setReadSource": ["(source: AUTO)"],
        "setWriteBack": ["(on: true)"],
        **{
            name: [
                *['(input: { itemIds: ["acme-item", "acme-astray", "globex-other"] })', "(input: { all: true })"],
                '(input: { filter: { companyId: "acme" } })',
            ]
            for name in ("cutOverItems", "takeBackItems")
        },
        **{name: ['(confirm: "nothing")'] for name in ("rollbackMigration", "undoRollback")},
        **{name: [""] for name in ("startMigration", "pauseMigration", "resumeMigration", "cancelMigration")},
    }
    assert set(calls) == set(SCHEMA.mutation_type.fields)
    async with web_on(entangled_url, **DEEP) as web:
        for name, field in SCHEMA.mutation_type.fields.items():
            of = get_named_type(field.type)
            assert isinstance(of, GraphQLObjectType)
            for arguments in calls[name]:
                response = await ask(web, f"mutation {{ {name}{arguments} {{ {everything(of)} }} }}")
                text = response.text.replace("globex-other", "")  # it was passed in, so it may be named
                assert not CANARY.search(text), arguments


async def test_a_run_and_a_subscription_tell_nothing_of_another_company(entangled_url: str) -> None:
    assert SCHEMA.subscription_type is not None
    calls = {"migrationProgress": [""], "verificationProgress": ARGUMENTS["verification"]}
    assert set(calls) == set(SCHEMA.subscription_type.fields)
    documents = ["{ migration { run { itemsTotal itemsCopied itemsHeldBack rate secondsLeft waiting error } } }"]
    for name, field in SCHEMA.subscription_type.fields.items():
        of = get_named_type(field.type)
        assert isinstance(of, GraphQLObjectType)
        documents += [f"subscription {{ {name}{arguments} {{ {everything(of)} }} }}" for arguments in calls[name]]
    async with psql(entangled_url) as connection:
        await connection.execute(
            """
            INSERT INTO stockshift.migration_run
                (kind, driver, started_at, state, items_total, items_copied, items_held_back, rate, waiting, error)
            VALUES ('online', 'test', now(), 'FAILED', 987654, 987654, 987654, 987654, 'globex', 'globex')
            """
        )
    async with web_on(entangled_url, **DEEP) as web:
        told = set()
        for document in documents:
            response = await web.post(document, company="acme", accept="text/event-stream")
            assert response.status_code == 200
            assert not CANARY.search(response.text), document[:200]
            everybodys = await web.post(document, accept="text/event-stream")
            if CANARY.search(everybodys.text):
                told.add(re.findall(r"migration\w*|verificationProgress", document)[0])
        assert told == {"migration", *calls}


async def test_a_verification_of_one_company_is_as_if_the_other_were_not(companies_url: str, alone_url: str) -> None:
    report = """mutation { runVerification { verification {
        state itemsChecked itemsMatched itemsMismatched legacyQuantity batchQuantity explainedDifference
        checks { name passed expected actual detail }
        mismatches { totalCount edges { node { itemId fields cause repair } } }
        conservation { companyId locationId status conserved
            copied { units valueUSD freightUSD } moved { units valueUSD freightUSD } there { units } }
        explanations { kind items units examples } rowCounts fingerprint
    } errors { message } } }"""
    async with web_on(companies_url) as both, web_on(alone_url) as alone:
        seen, expected = (await ask(both, report)).json(), (await ask(alone, report)).json()
    assert seen == expected
    assert seen["data"]["runVerification"]["verification"]["itemsChecked"] == 2


async def test_who_sees_one_company_cannot_change_what_all_read(companies_url: str) -> None:
    async with web_on(companies_url) as web:
        response = await ask(web, "mutation { setReadSource(source: LEGACY) { errors { code } } }")
        assert response.json()["errors"][0]["extensions"] == {"code": "FORBIDDEN"}
        source = (await ask(web, "{ migration { readSource } }")).json()["data"]["migration"]["readSource"]
    assert source == "AUTO"


async def test_a_location_of_another_company_finds_none_of_ones_own_items_that_point_at_it(entangled_url: str) -> None:
    """They show no such location, so the filter sees none (R3)."""
    query = '{ items(filter: { locationIds: ["globex-main", "globex-harbour"] }) { edges { node { id } } } }'
    async with web_on(entangled_url) as web:
        assert (await ask(web, query)).json() == {"data": {"items": {"edges": []}}}
        assert "acme-astray" in (await ask(web, query, None)).text
