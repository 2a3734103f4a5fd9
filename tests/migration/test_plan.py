"""`plan`: what would run, what needs a decision, what stands in the way; and not a byte is written."""

from collections.abc import Sequence

import pytest

from migration.atomic import migrate_atomic
from migration.blockers import Blocked
from migration.plan import Plan, make_plan
from tests.conftest import CopyTemplate
from tests.migration.support import engine_on, migrate, once_before, structure, whole_database
from tests.support import insert_item, psql


async def plan(url: str) -> Plan:
    async with engine_on(url) as engine:
        return await make_plan(engine)


async def change(url: str, *statements: str) -> None:
    async with psql(url) as connection:
        for statement in statements:
            await connection.execute(statement)


@pytest.mark.parametrize("migrated", [False, True])
async def test_the_plan_writes_nothing(items_url: str, *, migrated: bool) -> None:
    if migrated:
        await migrate(items_url)
    async with psql(items_url) as connection:
        await insert_item(connection, "item-new")
        before = await whole_database(connection)
        assert (await plan(items_url)).ready
        assert await whole_database(connection) == before


@pytest.fixture
def by_hand(copy_template: CopyTemplate, items_template: str) -> str:
    return copy_template(items_template)


async def test_the_plans_statements_run_by_hand_make_what_migrate_makes(by_hand: str, items_url: str) -> None:
    batch = """
        SELECT "itemId", quantity, status, "costPerUnitUSD", "freightCostUSD", "createdAt", "updatedAt", "locationId",
               "assignedUserId", notes, original::text, adopted
        FROM stock_batches b JOIN stockshift.copy_ledger ON batch_id = b.id ORDER BY 1
    """
    await change(by_hand, *[step.sql for step in (await plan(by_hand)).steps])
    await migrate(items_url)
    async with psql(by_hand) as one, psql(items_url) as other:
        assert await structure(one) == await structure(other)
        assert await one.fetch(batch) == await other.fetch(batch)
    assert not (await plan(by_hand)).steps, "there is nothing left to do"


async def test_the_plan_counts_what_would_be_copied_and_then_what_was(items_url: str) -> None:
    before = await plan(items_url)
    assert (before.copied, before.to_copy) == (0, 7)
    await migrate(items_url)
    after = await plan(items_url)
    assert (after.copied, after.to_copy, after.steps, after.seconds) == (7, 0, [], 0.0)


async def test_the_totals_before_the_start_are_documented_by_status_and_by_location(items_url: str) -> None:
    totals = (await plan(items_url)).totals
    assert totals is not None
    assert (totals.items, totals.quantity) == (7, 45)
    # Arrived: 10 and 7 units at 4.25 with 12.5 freight, -2 units and none, with freight each.
    assert totals.value_usd == (10 + 7 - 2 + 0) * 4.25 + 4 * 12.5
    assert [(group.label, group.items, group.quantity) for group in totals.by_status] == [
        ("ToOrder", 1, 10),
        ("Ordered", 1, 10),
        ("Arrived", 4, 15),
        ("Sold", 1, 10),
    ]
    assert [(group.label, group.items, group.quantity) for group in totals.by_location] == [
        ("Main", 5, 38),
        ("Main", 1, 7),
        (None, 1, 0),
    ]


@pytest.mark.parametrize("cost", ["1e308", "Infinity", "NaN", "-1e308"])
async def test_costs_that_no_sum_of_doubles_can_hold_do_not_fail_the_plan(items_url: str, cost: str) -> None:
    await change(items_url, f"UPDATE items SET \"costPerUnitUSD\" = '{cost}'")
    assert (await plan(items_url)).ready


NULLABLE = [
    f'ALTER TABLE items ALTER "{column}" DROP NOT NULL'
    for column in ("status", "quantityInStock", "costPerUnitUSD", "freightCostUSD", "createdAt", "updatedAt")
]


async def test_each_kind_of_row_that_needs_a_decision_is_counted_with_examples(items_url: str) -> None:
    await change(
        items_url,
        *NULLABLE,
        'ALTER TABLE items DROP CONSTRAINT "items_locationId_fkey", DROP CONSTRAINT "items_assignedUserId_fkey"',
        "ALTER TABLE items ALTER status DROP DEFAULT, ALTER status TYPE text",
        'ALTER TABLE items ALTER "orderDate" TYPE timestamp(6)',
    )
    async with psql(items_url) as connection:
        for number in range(7):
            await insert_item(connection, f"no-cost-{number}", costPerUnitUSD=None)
        await insert_item(connection, "no-status", status=None)
        await insert_item(connection, "no-created", createdAt=None)
        await insert_item(connection, "no-updated", updatedAt=None)
        await insert_item(connection, "odd-status", status="Lost")
        await insert_item(connection, "odd-location", locationId="nowhere")
        await insert_item(connection, "odd-user", assignedUserId="nobody")
        await insert_item(connection, "no-quantity", quantityInStock=None)
        await insert_item(connection, "no-freight", freightCostUSD=None)
        await insert_item(connection, "neither", freightCostUSD=None, quantityInStock=None)
        await insert_item(connection, "nothing", status=None, quantityInStock=-3)
        await insert_item(connection, "nothing-at-all", status=None, quantityInStock=None)
        await insert_item(connection, "finer")
        await connection.execute("UPDATE items SET \"orderDate\" = '2026-01-01 00:00:00.000001' WHERE id = 'finer'")
    planned = await plan(items_url)
    assert planned.ready
    found = {decision.kind: (decision.held_back, decision.count, decision.examples) for decision in planned.decisions}
    assert found == {
        "NULL_COST": (True, 7, [f"no-cost-{number}" for number in range(5)]),
        "NULL_STATUS": (True, 1, ["no-status"]),
        "NULL_TIMES": (True, 2, ["no-created", "no-updated"]),
        "UNKNOWN_STATUS": (True, 1, ["odd-status"]),
        "DANGLING_LOCATION": (True, 1, ["odd-location"]),
        "DANGLING_USER": (True, 1, ["odd-user"]),
        "FINER_TIMES": (True, 1, ["finer"]),
        "NULL_QUANTITY": (False, 2, ["neither", "no-quantity"]),
        "NULL_FREIGHT": (False, 2, ["neither", "no-freight"]),
        "NOTHING_TO_COPY": (False, 2, ["nothing", "nothing-at-all"]),
    }
    held_back = sum(count for held, count, _ in found.values() if held)
    assert planned.to_copy == 7 + 3
    assert planned.totals is not None
    assert planned.totals.items == planned.to_copy + held_back + 2, "every item is accounted for"
    outcome = await migrate(items_url)
    assert (outcome.copied, outcome.held_back, outcome.mismatched) == (planned.to_copy, held_back, 0)


BATCHES = """
CREATE TABLE public.stock_batches (
    id text PRIMARY KEY, quantity integer NOT NULL DEFAULT 0, status "Status" NOT NULL DEFAULT 'ToOrder',
    "costPerUnitUSD" double precision NOT NULL, "freightCostUSD" double precision NOT NULL DEFAULT 0,
    "orderDate" timestamp(3), "expectedArrival" timestamp(3), "arrivedDate" timestamp(3), "orderNumber" text,
    notes text, "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP, "updatedAt" timestamp(3) NOT NULL,
    "itemId" text NOT NULL, "locationId" text, "assignedUserId" text
)
"""
TRIGGER = """
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER mine BEFORE INSERT ON stock_batches FOR EACH ROW EXECUTE FUNCTION nothing()
"""
ORPHAN = """
INSERT INTO stock_batches (id, quantity, "costPerUnitUSD", "updatedAt", "itemId") VALUES ('orphan', 3, 1, now(), 'gone')
"""


@pytest.mark.parametrize(
    ("statements", "blocker"),
    [
        (["DROP TABLE items"], "table public.items does not exist, or this role may not see it"),
        (["ALTER TABLE items DROP notes"], "public.items has no column 'notes' (TEXT)"),
        (
            ['ALTER TABLE items ALTER "costPerUnitUSD" TYPE numeric(10, 2)'],
            "public.items.costPerUnitUSD is numeric(10,2), not DOUBLE PRECISION",
        ),
        (
            ['ALTER TABLE items ALTER "createdAt" TYPE timestamptz'],
            "public.items.createdAt is timestamp with time zone, not TIMESTAMP(3) WITHOUT TIME ZONE",
        ),
        (
            ['ALTER TABLE items ADD "useBatchSystem" text'],
            "public.items.useBatchSystem is text, not BOOLEAN",
        ),
        (
            ['ALTER TYPE "Status" RENAME TO "ItemStatus"'],
            'type public."Status" with a label ToOrder does not exist',
        ),
        (["ALTER TABLE items DROP CONSTRAINT items_pkey"], "public.items has no unique key on id"),
        (["ALTER TABLE users DROP CONSTRAINT users_pkey CASCADE"], "public.users has no unique key on id"),
        (
            ['ALTER TABLE items RENAME TO "Items"', 'CREATE VIEW items AS SELECT * FROM "Items"'],
            "public.items is a view; only a plain table can be migrated",
        ),
        (
            ['CREATE TABLE "moreItems" () INHERITS (items)'],
            "public.items has tables that inherit from it; only a plain table can be migrated",
        ),
        (["ALTER TABLE items SET UNLOGGED"], "public.items is unlogged or temporary"),
        (
            ['ALTER TABLE items ALTER notes TYPE text COLLATE "C"'],
            "public.items.notes has a collation of its own; give it the database's default",
        ),
        (["CREATE VIEW stock_batches AS SELECT 1 AS id"], "public.stock_batches is a view"),
        (
            ["CREATE TABLE stock_batches (id text PRIMARY KEY)"],
            "public.stock_batches has no column 'quantity' (INTEGER)",
        ),
        (
            [BATCHES, "ALTER TABLE stock_batches ALTER quantity TYPE smallint"],
            "public.stock_batches.quantity is smallint, not INTEGER",
        ),
        (
            [BATCHES, "ALTER TABLE stock_batches ALTER notes TYPE varchar(5)"],
            "public.stock_batches.notes is character varying(5), not TEXT",
        ),
        (
            [BATCHES, "ALTER TABLE stock_batches DROP notes, ADD notes text GENERATED ALWAYS AS ('x') STORED"],
            "public.stock_batches.notes is generated, so an item's value cannot be put there",
        ),
        (
            [BATCHES, "ALTER TABLE stock_batches ADD shelf text NOT NULL"],
            "public.stock_batches.shelf must be given for every batch, and Stockshift does not know it",
        ),
        ([BATCHES, TRIGGER], "trigger or rule 'mine' of stock_batches would run for every copied batch"),
        (
            [BATCHES, ORPHAN],
            "1 batches with an unknown itemId: batch orphan of item gone (3 units); delete or mend them",
        ),
        (
            ["CREATE SCHEMA stockshift", "CREATE TABLE stockshift.setting (name text)"],
            "table stockshift.setting exists and lacks batches_made, flag_made, only_row, ",
        ),
    ],
)
async def test_what_stands_in_the_way_is_said_and_the_migration_refuses(
    items_url: str, statements: Sequence[str], blocker: str
) -> None:
    await change(items_url, "DELETE FROM items", *statements)
    blockers = (await plan(items_url)).blockers
    assert [found for found in blockers if found.startswith(blocker)], blockers
    async with psql(items_url) as connection:
        before = await whole_database(connection)
        with pytest.raises(Blocked, match=r"^the migration cannot run: "):
            await migrate(items_url)
        assert await whole_database(connection) == before


async def test_a_partitioned_table_of_items_is_refused(database_url: str) -> None:
    await change(
        database_url,
        "ALTER TABLE items RENAME TO old_items",
        "CREATE TABLE items (LIKE old_items) PARTITION BY HASH (id)",
    )
    assert (await plan(database_url)).blockers == [
        "public.items is a partitioned table; only a plain table can be migrated"
    ]


async def test_a_foreign_table_of_items_is_refused(database_url: str) -> None:
    await change(
        database_url,
        "DROP TABLE items",
        "CREATE FOREIGN DATA WRAPPER elsewhere",
        "CREATE SERVER elsewhere FOREIGN DATA WRAPPER elsewhere",
        "CREATE FOREIGN TABLE items (id text) SERVER elsewhere",
    )
    assert (await plan(database_url)).blockers == [
        "public.items is a foreign table; only a plain table can be migrated"
    ]


async def test_what_came_in_the_way_after_the_plan_is_found_under_the_lock(items_url: str) -> None:
    async with engine_on(items_url) as engine, psql(items_url) as connection:

        async def add_table() -> None:
            await change(items_url, BATCHES, "ALTER TABLE stock_batches ADD shelf text NOT NULL")

        with once_before(engine, "LOCK TABLE public.items", add_table), pytest.raises(Blocked, match="shelf"):
            await migrate_atomic(engine, driver="test")
        assert await connection.fetchval("SELECT to_regnamespace('stockshift')") is None
