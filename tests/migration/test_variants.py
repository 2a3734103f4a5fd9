"""Databases that differ from the one in the book: roles, settings, columns, rows and tables of the shop's own."""

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from migration.atomic import NotVerified, migrate_atomic
from migration.blockers import Blocked
from migration.failures import Refused
from tests.migration.support import (
    UNFOLLOWED,
    at_statements,
    engine_on,
    legacy_rows,
    migrate,
    once_before,
    verified,
    whole_database,
)
from tests.migration.test_plan import BATCHES, change, plan
from tests.support import insert, insert_item, psql


async def decisions(url: str) -> dict[str, list[str]]:
    return {decision.kind: decision.examples for decision in (await plan(url)).decisions}


@asynccontextmanager
async def role_on(url: str, *grants: str) -> AsyncIterator[str]:
    """The URL as a role of its own, made with the statements, in which {role} is its name."""
    name = f"stockshift_role_{uuid.uuid4().hex[:12]}"
    async with psql(url) as connection:
        await connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'known'")
        try:
            for grant in grants:
                await connection.execute(grant.format(role=name, database=make_url(url).database))
            yield make_url(url).set(username=name, password="known").render_as_string(hide_password=False)
        finally:
            admin = make_url(url).username
            await connection.execute(f'REASSIGN OWNED BY {name} TO "{admin}"')
            await connection.execute(f"DROP OWNED BY {name}")
            await connection.execute(f"DROP ROLE {name}")


OWNER = (
    "GRANT CREATE ON DATABASE {database} TO {role}",
    "GRANT USAGE, CREATE ON SCHEMA public TO {role}",
    *[f"ALTER TABLE {table} OWNER TO {{role}}" for table in ("items", "locations", "users", "companies")],
)


async def test_a_role_that_owns_the_tables_migrates_and_verifies(items_url: str) -> None:
    async with role_on(items_url, *OWNER) as url:
        assert (await migrate(url)).copied == 7
        assert (await verified(url)).passed


@pytest.mark.parametrize(
    ("grants", "blockers"),
    [
        (
            ["GRANT SELECT ON items, locations, users TO {role}"],
            [
                "may not create a schema; GRANT CREATE ON DATABASE",
                "may not create tables; GRANT CREATE ON SCHEMA public",
                "does not own table public.items; migrate as its owner, or GRANT that role to it",
                "may not add keys that refer to public.locations; GRANT REFERENCES, UPDATE on it",
                "may not add keys that refer to public.users; GRANT REFERENCES, UPDATE on it",
            ],
        ),
        (
            [*OWNER, "REVOKE SELECT ON users FROM {role}", "GRANT SELECT (id, name) ON users TO {role}"],
            ["this role may not read public.users.companyId; GRANT SELECT on public.users"],
        ),
        (
            ["CREATE SCHEMA stockshift", *OWNER, "GRANT USAGE ON SCHEMA stockshift TO {role}"],
            ["does not own schema stockshift; migrate as its owner"],
        ),
        (["CREATE SCHEMA stockshift", *OWNER], ["may not use schema stockshift; GRANT USAGE on it"]),
        (
            [*OWNER, BATCHES, "GRANT SELECT, INSERT ON stock_batches TO {role}"],
            ["does not own table public.stock_batches; migrate as its owner, or GRANT that role to it"],
        ),
    ],
)
async def test_a_role_that_may_too_little_is_told_all_that_it_lacks(
    items_url: str, grants: Sequence[str], blockers: Sequence[str]
) -> None:
    if grants[0].startswith("GRANT SELECT ON items"):
        await change(items_url, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    async with role_on(items_url, *grants) as url:
        found = (await plan(url)).blockers
    assert len(found) == len(blockers)
    for said, ends in zip(found, blockers, strict=True):
        assert said.endswith(ends)


async def test_row_security_that_would_hide_items_is_refused(items_url: str) -> None:
    """A policy of the shop hides one company's items from their very owner: a copy would silently miss them."""
    policy = [
        "ALTER TABLE items ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY one ON items USING (\"companyId\" = 'acme')",
    ]
    async with role_on(items_url, *OWNER) as url:
        await change(items_url, *policy)
        assert (await plan(url)).ready, "the owner is not subject to it"
        await change(items_url, "ALTER TABLE items FORCE ROW LEVEL SECURITY")
        with pytest.raises(Blocked, match=r"row security hides rows of public\.items"):
            await migrate(url)
        await change(items_url, "ALTER TABLE items NO FORCE ROW LEVEL SECURITY")
        assert (await migrate(url)).copied == 7
        await change(items_url, "ALTER TABLE items FORCE ROW LEVEL SECURITY")
        with pytest.raises(Refused, match="row-level security"):
            await verified(url)


SETTINGS = {
    "extra_float_digits": "'-10'",
    "DateStyle": "'German, DMY'",
    "IntervalStyle": "'sql_standard'",
    "TimeZone": "'Asia/Tokyo'",
    "bytea_output": "'escape'",
    "search_path": "'nowhere'",
    "standard_conforming_strings": "off",
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "serializable",
    "lock_timeout": "100",
    "idle_in_transaction_session_timeout": "60000",
    "quote_all_identifiers": "on",
    "row_security": "off",
}


async def test_settings_of_a_role_change_nothing(items_url: str) -> None:
    async with psql(items_url) as connection:
        await connection.execute(
            """
            ALTER TABLE items ADD raw bytea DEFAULT 'a\\\\b', ADD seen timestamptz DEFAULT '2026-01-01 00:00:00+03',
                ADD took interval DEFAULT '1 day 2 hours', ADD span tsrange DEFAULT '[2026-01-31, 2026-02-01]'
            """
        )
        await connection.execute('UPDATE items SET "costPerUnitUSD" = 0.1::float8 + 0.2::float8')
        await connection.execute("SET TimeZone = 'UTC'")
        expected = await connection.fetch("SELECT id, row_to_json(items)::text FROM items ORDER BY id")
        async with role_on(
            items_url, *OWNER, *[f"ALTER ROLE {{role}} SET {name} = {value}" for name, value in SETTINGS.items()]
        ) as url:
            assert (await migrate(url)).copied == 7
            assert (await verified(url)).passed
        kept = await connection.fetch("SELECT item_id, original::text FROM stockshift.copy_ledger ORDER BY item_id")
        assert [tuple(row) for row in kept] == [tuple(row) for row in expected]


async def test_a_roles_statement_timeout_does_not_end_a_long_statement_of_the_migration(items_url: str) -> None:
    def take_long(statement: str, cursor: Any) -> None:
        if "WITH choice" in statement:
            cursor.execute("SELECT pg_sleep(0.3)")

    async with (
        role_on(items_url, *OWNER, "ALTER ROLE {role} SET statement_timeout = 200") as url,
        engine_on(url) as engine,
    ):
        with at_statements(engine, take_long):
            assert (await migrate_atomic(engine, driver="test")).copied == 7


@pytest.mark.parametrize("name", ['Quoted "Shop"', "winkel é 💡", "%s"])
async def test_a_database_may_be_named_anything(server_url: str, name: str, items_template: str) -> None:
    connection = await asyncpg.connect(server_url)
    quoted = '"' + f"{name} {uuid.uuid4().hex[:6]}".replace('"', '""') + '"'
    try:
        await connection.execute(f'CREATE DATABASE {quoted} TEMPLATE "{items_template}"')
        database = quoted[1:-1].replace('""', '"')
        url = make_url(server_url).set(database=database).render_as_string(hide_password=False)
        assert (await migrate(url)).copied == 7
        assert (await verified(url)).passed
        assert (await plan(url)).database == database
    finally:
        await connection.execute(f"DROP DATABASE {quoted} WITH (FORCE)")
        await connection.close()


async def test_columns_of_the_shops_own_are_kept_and_in_the_ledger(items_url: str) -> None:
    await change(
        items_url,
        "CREATE TYPE size AS (width int, label text)",
        """
        ALTER TABLE items ADD serial int GENERATED ALWAYS AS IDENTITY, ADD tags text[] DEFAULT '{a,"b c",NULL}',
            ADD data json DEFAULT '{"b": 1,  "a": 1e400, "b": 2}', ADD box size DEFAULT ROW(3, 'x "y"')::size,
            ADD "Odd Name" numeric DEFAULT 1.10, ADD twice int GENERATED ALWAYS AS ("quantityInStock" * 2) STORED,
            ADD gone int DEFAULT 1
        """,
        "ALTER TABLE items DROP gone",
    )
    async with psql(items_url) as connection:
        before = await legacy_rows(connection)
        assert (await migrate(items_url)).copied == 7
        assert await legacy_rows(connection) == before
        kept = await connection.fetchval(
            "SELECT original::text FROM stockshift.copy_ledger WHERE item_id = 'item-Sold'"
        )
        assert '"tags":["a","b c",null]' in kept
        assert '"data":{"b": 1,  "a": 1e400, "b": 2}' in kept
        assert '"box":{"width":3,"label":"x \\"y\\""}' in kept
        assert '"Odd Name":1.10,"twice":20' in kept
    assert (await verified(items_url)).passed


async def test_a_flag_that_is_true_by_default_copies_all_the_same(items_url: str) -> None:
    await change(items_url, 'ALTER TABLE items ADD "useBatchSystem" boolean DEFAULT true')
    assert (await migrate(items_url)).copied == 7
    async with psql(items_url) as connection:
        assert await connection.fetchval('SELECT bool_and("useBatchSystem") FROM items'), "the shop's own, left alone"
    assert (await verified(items_url)).passed


async def test_a_status_type_with_more_labels_in_another_order_is_copied(items_url: str) -> None:
    await change(
        items_url,
        "ALTER TYPE \"Status\" ADD VALUE 'Re''turned \\%' BEFORE 'ToOrder'",
        "UPDATE items SET status = 'Re''turned \\%' WHERE id = 'item-Sold'",
    )
    assert (await migrate(items_url)).copied == 7
    assert (await verified(items_url)).passed


async def test_statuses_kept_as_text_are_copied_and_one_without_a_label_is_held_back(items_url: str) -> None:
    await change(
        items_url,
        "ALTER TABLE items ALTER status DROP DEFAULT, ALTER status TYPE text",
        "UPDATE items SET status = 'Lost' WHERE id = 'item-Sold'",
    )
    outcome = await migrate(items_url)
    assert (outcome.copied, outcome.held_back) == (6, 1)
    # A copied item whose status is no label any more is a difference, not a failure to look.
    await change(items_url, "UPDATE items SET status = 'Stolen' WHERE id = 'item-Arrived'")
    assert (await verified(items_url)).mismatched == 1


async def test_an_empty_table_of_batches_is_filled_and_its_own_columns_are_left_alone(items_url: str) -> None:
    await change(
        items_url,
        BATCHES,
        "ALTER TABLE stock_batches ADD shelf text, ADD bin int NOT NULL DEFAULT 7",
        "ALTER TABLE stock_batches ADD number int GENERATED ALWAYS AS IDENTITY",
    )
    assert (await migrate(items_url)).copied == 7
    async with psql(items_url) as connection:
        rows = await connection.fetch("SELECT shelf, bin FROM stock_batches")
        assert {tuple(row) for row in rows} == {(None, 7)}
    assert (await verified(items_url)).passed


EQUAL = """
INSERT INTO stock_batches (id, quantity, status, "costPerUnitUSD", "freightCostUSD", "orderDate", "expectedArrival",
    "orderNumber", notes, "createdAt", "updatedAt", "itemId", "locationId", "assignedUserId")
SELECT 'batch of ' || id, "quantityInStock", status, "costPerUnitUSD", "freightCostUSD", "orderDate",
    "expectedArrival", "orderNumber", notes, "createdAt", "updatedAt", id, "locationId", "assignedUserId" FROM items
"""


async def test_a_database_where_the_plain_recipe_was_run_is_adopted_and_not_doubled(items_url: str) -> None:
    await change(items_url, BATCHES, EQUAL)
    before = await plan(items_url)
    assert {d.kind: d.count for d in before.decisions} == {"ADOPTED": 7}
    outcome = await migrate(items_url)
    assert (outcome.copied, outcome.adopted, outcome.held_back) == (7, 7, 0)
    async with psql(items_url) as connection:
        ledger = await connection.fetch("SELECT item_id, batch_id FROM stockshift.copy_ledger")
        assert {(row[0], row[1]) for row in ledger} == {(row[0], f"batch of {row[0]}") for row in ledger}
        assert await connection.fetchval("SELECT count(*) FROM stock_batches") == 7
    assert (await verified(items_url)).passed


@pytest.mark.parametrize("adopted", [False, True])
async def test_no_table_is_read_once_for_every_item(
    items_url: str, monkeypatch: pytest.MonkeyPatch, *, adopted: bool
) -> None:
    """Neither what the run makes nor a table without an index: a shop with 100,000 items would wait for hours."""
    items, read = 600, []
    async with psql(items_url) as connection:
        for number in range(items):
            await insert_item(connection, f"many-{number}")
    if adopted:
        await change(items_url, BATCHES, EQUAL)
    monkeypatch.setattr("migration.atomic.CHUNK", 100)

    def count(statement: str, cursor: Any) -> None:
        if statement.startswith("UPDATE stockshift.migration_run"):
            cursor.execute("SELECT max(seq_tup_read) FROM pg_stat_xact_user_tables")
            read.append(cursor.fetchone()[0])

    async with engine_on(items_url) as engine:
        with at_statements(engine, count):
            await migrate_atomic(engine, driver="test")
    assert 0 < read[0] < 60 * items


async def test_keys_under_other_names_are_not_made_again(items_url: str) -> None:
    await change(
        items_url,
        BATCHES,
        """
        ALTER TABLE stock_batches ADD CONSTRAINT a FOREIGN KEY ("itemId") REFERENCES items ON DELETE CASCADE,
            ADD CONSTRAINT b FOREIGN KEY ("locationId") REFERENCES locations ON DELETE SET NULL,
            ADD CONSTRAINT c FOREIGN KEY ("assignedUserId") REFERENCES users ON DELETE SET NULL
        """,
    )
    assert not [step for step in (await plan(items_url)).steps if "FOREIGN KEY" in step.sql]
    assert (await migrate(items_url)).copied == 7


async def test_what_was_there_and_is_no_copy_is_held_back_listed_and_left_as_it_is(items_url: str) -> None:
    await change(
        items_url,
        BATCHES,
        EQUAL,
        "UPDATE stock_batches SET quantity = 9 WHERE \"itemId\" = 'item-Sold'",
        "UPDATE stock_batches SET notes = '' WHERE \"itemId\" = 'item-Ordered'",
        'UPDATE stock_batches SET "createdAt" = now() WHERE "itemId" = \'item-Arrived\'',
        EQUAL.replace("'batch of '", "'second of '") + " WHERE id = 'item-ToOrder'",
    )
    assert await decisions(items_url) == {
        "ADOPTED": ["item-Arrived", "item-globex", "item-negative", "item-nowhere"],
        "UNKNOWN_BATCHES": ["item-Ordered", "item-Sold", "item-ToOrder"],
    }
    async with psql(items_url) as connection:
        before = await connection.fetch("SELECT stock_batches::text FROM stock_batches ORDER BY id")
        outcome = await migrate(items_url)
        assert (outcome.copied, outcome.adopted, outcome.held_back) == (4, 4, 3)
        assert await connection.fetch("SELECT stock_batches::text FROM stock_batches ORDER BY id") == before
    report = await verified(items_url)
    failed = {check.name: check.actual for check in report.checks if not check.passed}
    assert failed["hidden legacy stock"] == "3"


async def test_a_batch_of_an_item_that_was_renamed_is_not_adopted_a_second_time(items_url: str) -> None:
    await migrate(items_url)
    await change(items_url, UNFOLLOWED, "UPDATE items SET id = 'renamed' WHERE id = 'item-Sold'")
    assert await decisions(items_url) == {"UNKNOWN_BATCHES": ["renamed"]}
    assert (await migrate(items_url)).copied == 0


async def test_a_rule_of_the_shops_batches_that_the_copy_breaks_is_told_and_nothing_is_changed(items_url: str) -> None:
    await change(items_url, BATCHES, "ALTER TABLE stock_batches ADD CONSTRAINT never_below CHECK (quantity >= 0)")
    async with psql(items_url) as connection:
        before = await whole_database(connection)
        with pytest.raises(Refused, match=r"violates check constraint .never_below.\); nothing was changed"):
            await migrate(items_url)
        assert await whole_database(connection) == before


async def test_a_copy_that_something_changes_on_its_way_is_not_kept(items_url: str) -> None:
    await change(
        items_url,
        "CREATE SCHEMA stockshift",  # a trigger of the shop's own would be a blocker
        BATCHES,
        """
        CREATE FUNCTION stockshift.touch() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN NEW."updatedAt" := ''2030-01-01''; RETURN NEW; END';
        CREATE TRIGGER touch BEFORE INSERT ON public.stock_batches FOR EACH ROW EXECUTE FUNCTION stockshift.touch()
        """,
    )
    async with psql(items_url) as connection:
        before = await whole_database(connection)
        with pytest.raises(NotVerified, match=r"7 wrong, such as item item-\w+: the copy is not exact, "):
            await migrate(items_url)
        assert await whole_database(connection) == before


async def test_batches_that_appear_between_the_plan_and_the_lock_are_adopted(items_url: str) -> None:
    async with engine_on(items_url) as engine:

        async def copy_by_hand() -> None:
            await change(items_url, BATCHES, EQUAL)

        with once_before(engine, "LOCK TABLE public.items", copy_by_hand):
            outcome = await migrate_atomic(engine, driver="test")
    assert (outcome.copied, outcome.adopted) == (7, 7)


async def test_triggers_rules_and_generated_columns_on_items_do_not_run(items_url: str) -> None:
    await change(
        items_url,
        """
        CREATE FUNCTION touched() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN RAISE EXCEPTION ''items were written''; END';
        CREATE TRIGGER touched BEFORE INSERT OR UPDATE OR DELETE ON items FOR EACH STATEMENT
            EXECUTE FUNCTION touched()
        """,
    )
    assert (await migrate(items_url)).copied == 7


async def test_an_empty_shop_is_migrated_and_its_items_later(shop_url: str) -> None:
    assert (await migrate(shop_url)).copied == 0
    async with psql(shop_url) as connection:
        await insert_item(connection, "first")
    assert (await migrate(shop_url)).copied == 1


async def test_a_narrower_column_type_of_items_is_copied_exactly(items_url: str) -> None:
    await change(
        items_url,
        'ALTER TABLE items ALTER "quantityInStock" TYPE smallint, ALTER "freightCostUSD" TYPE real',
        "ALTER TABLE items ALTER notes TYPE varchar(40)",
        'UPDATE items SET "freightCostUSD" = 0.1',
    )
    assert (await migrate(items_url)).copied == 7
    assert (await verified(items_url)).passed


async def test_a_table_that_refers_to_items_is_none_of_our_business(items_url: str) -> None:
    await change(
        items_url,
        'CREATE TABLE "orderLines" ("itemId" text REFERENCES items ON DELETE RESTRICT)',
        "INSERT INTO \"orderLines\" VALUES ('item-Sold')",
    )
    async with psql(items_url) as connection:
        await insert(connection, "expenses", id="e", description="e", amount=1.0, companyId="acme")
    assert (await migrate(items_url)).copied == 7
