"""Contract drops the legacy columns only when each gate is open, all answers stay the same, and undo is exact (R25)."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from sqlalchemy.util import await_only

from migration.archive import ConfirmationMismatch, NotArchived, Superseded
from migration.contract import Contracted, contract
from migration.draft import SCHEMA
from migration.exclusively import Actor
from migration.failures import ConnectionLost
from migration.gates import Gate, GateClosed, gates
from migration.plan import make_plan
from migration.read_source import set_read_source
from migration.rollback import Contracted as NothingToGoBackTo
from migration.undo_contract import Restored, undo_contract
from migration.verify import MigrationNotStarted
from tests.conftest import CopyTemplate, MakeTemplate, fill_shop, url_of
from tests.graphql_client import client_of
from tests.migration.cutting_over import cut, taken_back, write_back
from tests.migration.support import at_statements, engine_on, migrate, once_before, structure, verified
from tests.migration.test_rollback import kept, name_of, phase, rolled_back, without_flag
from tests.resolvers.shop import ITEM, fill_stock, insert_batch
from tests.support import Connection, insert_item, psql

ACTOR = Actor("test")
NAMES = [
    "all cut over",
    "verified for a week",
    "no legacy writes",
    "rehearsed",
    "reads from batches",
    "write-back off",
    "no dependents",
]
REHEARSED = "INSERT INTO stockshift.audit (action, actor, details) VALUES ('REHEARSED', 'test', '{\"matched\": true}')"
A_WEEK_AGO = "now() - interval '8 days'"


async def fill_ready(connection: Connection, url: str) -> None:
    """Everything is cut over, and was verified a week ago and now; `mug` has three batches, `vase` none any more."""
    await fill_shop(connection)
    await fill_stock(connection)
    await connection.execute('CREATE INDEX items_by_state ON items (status, "companyId") WHERE "quantityInStock" > 0')
    await connection.execute('ALTER TABLE items ADD CONSTRAINT cheap CHECK ("costPerUnitUSD" < 1000)')
    await connection.execute("""COMMENT ON COLUMN items.notes IS 'of the shop'""")
    await migrate(url)
    await cut(url)
    await insert_batch(connection, "mug-2", "mug", quantity=5, status="ToOrder", locationId="acme-harbour")
    await insert_batch(connection, "mug-3", "mug", quantity=7, costPerUnitUSD=2.0, locationId=None)
    await connection.execute("""DELETE FROM stock_batches WHERE "itemId" = 'vase'""")
    await insert_item(connection, "nothing", quantityInStock=0, locationId=None)
    await open_gates(connection, url)


async def open_gates(connection: Connection, url: str) -> None:
    """Everything was cut over, verified and rehearsed, in time."""
    await cut(url)
    await connection.execute(
        f"UPDATE stockshift.verification SET started_at = {A_WEEK_AGO}, finished_at = {A_WEEK_AGO}"
    )
    await connection.execute(f"UPDATE stockshift.legacy_write SET at = {A_WEEK_AGO}")
    await connection.execute("UPDATE stockshift.copy_ledger SET cut_over_at = cut_over_at - interval '1 hour'")
    await connection.execute(REHEARSED)
    await verified(url)


@pytest.fixture(scope="session")
def ready_template(make_template: MakeTemplate, server_url: str) -> str:
    async def fill(connection: Connection) -> None:
        await fill_ready(connection, await url_of(connection, server_url))

    return make_template(fill)


@pytest.fixture
def ready_url(copy_template: CopyTemplate, ready_template: str) -> str:
    return copy_template(ready_template)


async def gates_of(url: str) -> list[Gate]:
    async with engine_on(url) as engine, engine.connect() as connection:
        return await gates(connection)


async def closed(url: str) -> dict[str, str]:
    return {gate.name: gate.reason for gate in await gates_of(url) if not gate.open}


async def contracted(url: str, **options: Any) -> Contracted:
    async with engine_on(url) as engine:
        return await contract(engine, ACTOR, **{"confirm": await name_of(url), **options})


async def restored(url: str) -> Restored:
    async with engine_on(url) as engine:
        return await undo_contract(engine, ACTOR, confirm=await name_of(url))


def in_any_order(lines: list[str]) -> list[str]:
    """Columns that are added again have other numbers."""
    words = [line.split(" ") for line in without_flag(lines)]
    return sorted(" ".join(w[:2] + w[3:]) if w[:2] == ["items", "column"] else " ".join(w) for w in words)


# The gates


async def test_every_gate_is_open_once_all_is_done(ready_url: str) -> None:
    found = await gates_of(ready_url)
    assert [gate.name for gate in found] == NAMES
    assert await closed(ready_url) == {}


async def sell(shop: Connection, url: str) -> None:
    await shop.execute("""UPDATE items SET "quantityInStock" = 9 WHERE id = 'mug'""")


async def fail(shop: Connection, url: str) -> None:
    await shop.execute(
        "UPDATE stockshift.verification SET state = 'FAILED' WHERE id = (SELECT max(id) FROM stockshift.verification)"
    )


async def verify_never_before(shop: Connection, url: str) -> None:
    await shop.execute("DELETE FROM stockshift.verification WHERE started_at < now() - interval '7 days'")


async def verify_long_ago(shop: Connection, url: str) -> None:
    await shop.execute("UPDATE stockshift.verification SET started_at = now() - interval '9 days'")
    await shop.execute("UPDATE stockshift.verification SET finished_at = now() - interval '9 days'")


async def cut_over_since(shop: Connection, url: str) -> None:
    await shop.execute("UPDATE stockshift.copy_ledger SET cut_over_at = now() WHERE item_id = 'mug'")


async def take_back(shop: Connection, url: str) -> None:
    await taken_back(url, "pot")


async def refer_to_an_order_number(shop: Connection, url: str) -> None:
    await shop.execute('ALTER TABLE items ADD UNIQUE ("orderNumber")')
    await shop.execute('CREATE TABLE orders (number text CONSTRAINT ordered REFERENCES items ("orderNumber"))')


async def make_a_view(shop: Connection, url: str) -> None:
    await shop.execute('CREATE VIEW stock AS SELECT id, "quantityInStock" FROM items')


async def rehearse_badly(shop: Connection, url: str) -> None:
    await shop.execute(REHEARSED.replace("true", "false"))


async def write_back_on(shop: Connection, url: str) -> None:
    await write_back(url)


async def read_legacy(shop: Connection, url: str) -> None:
    async with engine_on(url) as engine, engine.begin() as connection:
        await set_read_source(connection, "LEGACY", "test")


async def switch_a_trigger_off(shop: Connection, url: str) -> None:
    await shop.execute("ALTER TABLE items DISABLE TRIGGER stockshift_follow_update")


@pytest.mark.parametrize(
    ("act", "name", "words"),
    [
        (take_back, "all cut over", "1 items are not, such as pot"),
        (fail, "verified for a week", "failed within 7 days"),
        (verify_never_before, "verified for a week", "there is none from before"),
        (verify_long_ago, "verified for a week", "of the last 24 hours"),
        (cut_over_since, "verified for a week", "after the last cut-over"),
        (sell, "no legacy writes", "the latest of item mug by application 'psql'"),
        (switch_a_trigger_off, "no legacy writes", "not all on"),
        (rehearse_badly, "rehearsed", "did not match"),
        (read_legacy, "reads from batches", "read-source auto"),
        (write_back_on, "write-back off", "write-back off"),
        (make_a_view, "no dependents", "view stock"),
        (refer_to_an_order_number, "no dependents", "constraint ordered on table orders"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
async def test_one_thing_that_is_amiss_closes_its_gate(
    ready_url: str, act: Callable[[Connection, str], Awaitable[None]], name: str, words: str
) -> None:
    async with psql(ready_url) as shop:
        await act(shop, ready_url)
        found = await closed(ready_url)
        assert list(found) == [name]
        assert words in found[name]
        before = await structure(shop)
        with pytest.raises(GateClosed, match=f"1 of 8 gates are closed: {name}"):
            await contracted(ready_url)
        assert await structure(shop) == before


async def test_what_is_not_migrated_or_is_rolled_back_has_one_closed_gate(items_url: str) -> None:
    assert list(await closed(items_url)) == ["migrated"]
    await migrate(items_url)
    assert {"all cut over", "verified for a week", "rehearsed"} <= (await closed(items_url)).keys()
    await rolled_back(items_url)
    assert "was rolled back" in (await closed(items_url))["migrated"]
    with pytest.raises(NotArchived):
        await restored(items_url)


async def test_a_contract_changes_nothing_unless_the_database_is_named(ready_url: str) -> None:
    async with psql(ready_url) as connection:
        before = await structure(connection)
        with pytest.raises(ConfirmationMismatch):
            await contracted(ready_url, confirm="shop")
        assert await structure(connection) == before


# What it does, and that it is undone


FILTERS = [
    "", "statuses: [Arrived]", "statuses: [ToOrder, Sold]", 'locationIds: ["acme-main"]', "usingBatchSystem: true",
    "usingBatchSystem: false", "lowStock: true", "lowStock: false", 'companyId: "acme"', 'search: "m"',
]  # fmt: skip
ORDERS = [
    f"{{ field: {field}, direction: {way} }}"
    for field in ("NAME", "CREATED_AT", "TOTAL_QUANTITY")
    for way in ("ASC", "DESC")
]
FIELDS = ITEM.replace("legacy { quantityInStock status location { id } costPerUnitUSD freightCostUSD }", "")
SURFACE = [
    *[f"{{ items(filter: {{ {each} }}) {{ totalCount edges {{ node {{ {FIELDS} }} }} }} }}" for each in FILTERS],
    *[f"{{ items(orderBy: {order}) {{ edges {{ cursor node {{ id }} }} }} }}" for order in ORDERS],
    *[f"{{ stockSummary(filter: {{ {each} }}) {{ __typename totalQuantity stockValueUSD }} }}" for each in FILTERS],
    '{ batch(id: "mug-2") { quantity openingBatch item { id totalQuantity } movements { totalCount } } }',
    "{ locations { id name } }",
    "{ migration { items copied cutOver drifted heldBack readSource } }",
]


async def test_every_answer_is_the_same_and_the_legacy_stock_is_null(ready_url: str) -> None:
    """By a service that was started before, by one that is started after, and after the undo."""
    async with client_of(ready_url) as client:
        before = [await client.ask(query) for query in SURFACE]
        legacy = "{ items { edges { node { id legacy { quantityInStock status location { id } } } } } }"
        old = await client.ask(legacy)
        done = await contracted(ready_url)
        assert done == Contracted(5, "stockshift_archive_1")
        assert [await client.ask(query) for query in SURFACE] == before
        assert {edge["node"]["legacy"] for edge in (await client.ask(legacy))["items"]["edges"]} == {None}
        async with client_of(ready_url) as fresh:
            assert [await fresh.ask(query) for query in SURFACE] == before
        assert (await client.ask("{ migration { phase } }"))["migration"]["phase"] == "CONTRACTED"
        await restored(ready_url)
        assert [await client.ask(query) for query in SURFACE] == before
        assert await client.ask(legacy) == old


async def test_undo_puts_the_columns_back_with_all_that_hung_on_them(ready_url: str) -> None:
    async with psql(ready_url) as connection:
        looked, rows = in_any_order(await structure(connection)), await kept(connection)
        columns = (
            "SELECT json_object_agg(key, value ORDER BY key)::text FROM items i, json_each(row_to_json(i)) GROUP BY id"
        )
        before = sorted(row[0] for row in await connection.fetch(columns))
        triggers = "SELECT pg_get_triggerdef(oid) || tgenabled::text FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1"
        fired = await connection.fetch(triggers)
        await contracted(ready_url)
        assert await connection.fetchval("SELECT count(*) FROM stockshift_archive_1.legacy") == 5
        assert (await restored(ready_url)) == Restored(5, 0, 0, None)
        assert in_any_order(await structure(connection)) == looked
        assert sorted(row[0] for row in await connection.fetch(columns)) == before
        assert await kept(connection) == rows
        assert await connection.fetch(triggers) == fired
        comment = "SELECT col_description(attrelid, attnum) FROM pg_attribute"
        comment += " WHERE attrelid = 'items'::regclass AND attname = 'notes'"
        assert await connection.fetchval(comment) == "of the shop"
        assert await connection.fetchval("SELECT count(*) FROM pg_constraint WHERE NOT convalidated") == 0
    assert await phase(ready_url) == "CUT_OVER"
    assert (await verified(ready_url)).passed
    assert await closed(ready_url) == {}
    await contracted(ready_url)


async def test_what_the_shop_made_and_deleted_meanwhile(ready_url: str) -> None:
    await contracted(ready_url)
    async with psql(ready_url) as shop, client_of(ready_url) as client:
        for item_id in ("new", "empty"):
            await shop.execute(MADE_SINCE, item_id)
        await shop.execute("DELETE FROM items WHERE id = 'pot'")
        for quantity, cost in ((4, 1.5), (6, 2.5)):
            made = await client.ask(
                "mutation ($input: CreateBatchInput!)"
                " { createBatch(input: $input) { item { totalQuantity } errors { message } } }",
                input={"itemId": "new", "quantity": quantity, "costPerUnitUSD": cost, "locationId": "acme-main"},
            )
            assert made["createBatch"]["errors"] == []
        assert made["createBatch"]["item"]["totalQuantity"] == 10
        none = await client.ask(
            'mutation { createBatch(input: { itemId: "mug", quantity: 1 }) { errors { field code } } }'
        )
        assert none["createBatch"]["errors"] == [{"field": ["input", "costPerUnitUSD"], "code": "INVALID"}]
        report = await verified(ready_url)
        assert [check for check in report.checks if not check.passed] == []
        assert (await restored(ready_url)) == Restored(4, 2, 1, "stockshift_archive_1")
        rows = await shop.fetch(
            """
            SELECT id, "quantityInStock", status::text, "costPerUnitUSD", "locationId" FROM items
            WHERE id IN ('new', 'empty') ORDER BY id
            """
        )
        assert [tuple(row) for row in rows] == [
            ("empty", 0, "ToOrder", 0.0, None),
            ("new", 10, "ToOrder", 2.5, "acme-main"),
        ]
        assert await shop.fetchval("SELECT id FROM stockshift_archive_1.legacy") == "pot"
        report = await verified(ready_url)
        assert [check.name for check in report.checks if not check.passed] == []


MADE_SINCE = """
INSERT INTO items (id, name, "sellingPriceSRD", "updatedAt", "companyId") VALUES ($1, $1, 1, now(), 'acme')
"""
FIRST_BATCH = 'itemId: "new", quantity: 1, costPerUnitUSD: 1, status: Ordered'


async def test_grants_and_keys_that_were_not_checked_are_as_they_were(ready_url: str) -> None:
    role = f"reader_{await name_of(ready_url)}"
    grants = (
        "SELECT attname::text, attacl::text FROM pg_attribute WHERE attrelid = 'items'::regclass AND attacl <> '{}'"
    )
    loose = "SELECT conname::text FROM pg_constraint WHERE NOT convalidated"
    async with psql(ready_url) as shop:
        await shop.execute(f'CREATE ROLE "{role}"')
        try:
            await shop.execute(f'GRANT SELECT (notes), UPDATE (notes) ON items TO "{role}" WITH GRANT OPTION')
            await shop.execute("GRANT SELECT (status) ON items TO PUBLIC")
            await shop.execute('ALTER TABLE items ADD CONSTRAINT dear CHECK ("costPerUnitUSD" > 1000) NOT VALID')
            before = sorted(await shop.fetch(grants)), await shop.fetch(loose)
            await contracted(ready_url)
            await restored(ready_url)
            assert (sorted(await shop.fetch(grants)), await shop.fetch(loose)) == before
        finally:
            await shop.execute(f'DROP OWNED BY "{role}"; DROP ROLE "{role}"')


async def test_an_undo_that_would_leave_a_required_column_empty_names_the_item(ready_url: str) -> None:
    async with psql(ready_url) as shop, client_of(ready_url) as client:
        await shop.execute("ALTER TABLE items ALTER status DROP DEFAULT")
        await contracted(ready_url)
        await shop.execute(MADE_SINCE, "new")
        with pytest.raises(Superseded, match="item 'new' would have no 'status'"):
            await restored(ready_url)
        assert await phase(ready_url) == "CONTRACTED"
        await client.ask(f"mutation {{ createBatch(input: {{ {FIRST_BATCH} }}) {{ errors {{ message }} }} }}")
        assert (await restored(ready_url)).made_since == 1


async def test_an_undo_is_refused_where_the_shop_made_a_column_of_the_name(ready_url: str) -> None:
    async with psql(ready_url) as shop:
        await contracted(ready_url)
        await shop.execute("ALTER TABLE items ADD notes integer")
        with pytest.raises(Superseded, match="'notes' of items was made anew"):
            await restored(ready_url)


async def test_an_undo_that_was_killed_before_its_indexes_were_made_is_finished_when_it_is_run_again(
    ready_url: str,
) -> None:
    """Until then there is no second contract, which would not know of them."""
    async with psql(ready_url) as shop:
        looked = in_any_order(await structure(shop))
        await contracted(ready_url)
        for words in (
            "VALIDATE CONSTRAINT",
            "CREATE INDEX CONCURRENTLY items_by_state",
            "UPDATE stockshift.archive SET undone",
        ):
            async with engine_on(ready_url) as engine:

                def kill(statement: str, cursor: Any, words: str = words) -> None:
                    if words in statement:
                        pid = cursor._connection.get_server_pid()  # noqa: SLF001 - the driver's own
                        assert await_only(shop.fetchval("SELECT pg_terminate_backend($1, 5000)", pid))

                with at_statements(engine, kill), pytest.raises(ConnectionLost):
                    await undo_contract(engine, ACTOR, confirm=await name_of(ready_url))
            assert "did not finish" in (await closed(ready_url))["migrated"]
            if "INDEX" in words:  # as one is found that was being made when the server went down
                await shop.execute("CREATE INDEX items_by_state ON items (name)")
                await shop.execute(
                    "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'items_by_state'::regclass"
                )
        assert (await restored(ready_url)) == Restored(5, 0, 0, None)
        assert in_any_order(await structure(shop)) == looked
        assert await shop.fetchval("SELECT count(*) FROM pg_constraint WHERE NOT convalidated") == 0
        assert await closed(ready_url) == {}
        with pytest.raises(NotArchived):
            await restored(ready_url)


# After it


async def test_after_a_contract_the_other_stages_say_so(ready_url: str) -> None:
    await contracted(ready_url)
    assert await phase(ready_url) == "CONTRACTED"
    report = await verified(ready_url)
    assert [check for check in report.checks if not check.passed] == []
    async with engine_on(ready_url) as engine:
        (blocker,) = (await make_plan(engine)).blockers
        assert "contract --undo" in blocker
        with pytest.raises(MigrationNotStarted, match="contract --undo"):
            async with engine.begin() as connection:
                await set_read_source(connection, "LEGACY", "test")
    with pytest.raises(Exception, match="contract --undo"):
        await migrate(ready_url)
    with pytest.raises(NothingToGoBackTo, match="contract --undo"):
        await rolled_back(ready_url)
    with pytest.raises(GateClosed, match="legacy columns were dropped"):
        await contracted(ready_url)
    with pytest.raises(Exception, match="contract"):
        await taken_back(ready_url)


async def test_a_write_between_the_copy_and_the_drop_is_in_the_archive(ready_url: str) -> None:
    """Even of a program that no trigger saw."""
    async with psql(ready_url) as shop, engine_on(ready_url) as engine:

        async def write_late() -> None:
            await shop.execute("ALTER TABLE items DISABLE TRIGGER stockshift_follow_update")
            await shop.execute("""UPDATE items SET notes = 'late' WHERE id = 'mug'""")
            await shop.execute("ALTER TABLE items ENABLE ALWAYS TRIGGER stockshift_follow_update")

        with once_before(engine, "IN ACCESS EXCLUSIVE", write_late):
            await contract(engine, ACTOR, confirm=await name_of(ready_url))
        assert await shop.fetchval("SELECT notes FROM stockshift_archive_1.legacy WHERE id = 'mug'") == "late"


async def insert_another(shop: Connection, url: str) -> None:
    await insert_item(shop, "another")
    await shop.execute(f"UPDATE stockshift.legacy_write SET at = {A_WEEK_AGO} WHERE item_id = 'another'")


async def cut_over_again(shop: Connection, url: str) -> None:
    await taken_back(url, "pot")
    await cut(url, "pot")


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (take_back, "all cut over: 1 items are not, such as pot"),
        (insert_another, "all cut over: 1 items are not, such as another"),
        (cut_over_again, "verified for a week: .* after the last cut-over"),
        (sell, "no legacy writes: 1 in the last 7 days"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
async def test_a_gate_that_closes_between_the_copy_and_the_drop_is_seen(
    ready_url: str, act: Callable[[Connection, str], Awaitable[None]], words: str
) -> None:
    """Under the lock only what was written since is looked at."""
    async with psql(ready_url) as shop, engine_on(ready_url) as engine:
        with (
            once_before(engine, "IN ACCESS EXCLUSIVE", lambda: act(shop, ready_url)),
            pytest.raises(GateClosed, match=f"1 of 8 gates are closed: {words}"),
        ):
            await contract(engine, ACTOR, confirm=await name_of(ready_url))
        assert await shop.fetchval("SELECT to_regnamespace($1) IS NULL", SCHEMA)
        assert await shop.fetchval("""SELECT count("quantityInStock") > 0 FROM items""")
