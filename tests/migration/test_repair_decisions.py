"""Repair takes no decision that is a person's: what may be stock is left alone and named, as is what it cannot mend."""

import pytest

from migration.contract import contract
from migration.exclusively import Actor
from migration.repair import NoDrift, Outdated
from tests.migration.support import engine_on, verified
from tests.migration.test_contract import ready_template, ready_url  # noqa: F401 - fixtures
from tests.migration.test_defects import (
    CUT_OVER,
    NEW_ITEM,
    NO_ITEM_KEY,
    NO_PLACE_KEY,
    NO_USER_KEY,
    OPENING,
    RECEIVED,
    UNMOVED,
    UNSEEN,
    WRITTEN_BACK,
    opening,
    tamper,
)
from tests.migration.test_repair import all_of, repaired
from tests.migration.test_variants import EQUAL
from tests.support import psql

STOCK = "SELECT * FROM stock_batches WHERE \"itemId\" = 'item-Arrived' ORDER BY id"
SECOND = EQUAL.replace("'batch of '", "'second of '") + " WHERE id = 'item-Arrived';"
NO_STATUS = """
    ALTER TABLE items ALTER status DROP NOT NULL; UPDATE items SET status = NULL WHERE id = 'item-Arrived';
"""
MAY_BE_STOCK = {
    "a part that was split off by cloning the batch": f"""
        {CUT_OVER} UPDATE stock_batches SET quantity = 6 WHERE id = {OPENING};
        INSERT INTO stock_batches SELECT (jsonb_populate_record(b, '{{"id": "part", "quantity": 4}}')).*
        FROM stock_batches b WHERE id = {OPENING}
    """,
    "the only batch, which the ledger knows by another name": f"""
        {CUT_OVER} UPDATE stockshift.copy_ledger SET batch_id = 'x' WHERE batch_id = {OPENING}
    """,
    "a second copy that was sold from": f"{SECOND} UPDATE stock_batches SET quantity = 4 WHERE id ~ '^second'",
}


@pytest.mark.parametrize("sql", MAY_BE_STOCK.values(), ids=MAY_BE_STOCK.keys())
async def test_a_batch_that_may_be_stock_is_not_taken_away(migrated_url: str, sql: str) -> None:
    await tamper(migrated_url, sql)
    before = await all_of(migrated_url, STOCK)
    done = await repaired(migrated_url, make=True)
    assert await all_of(migrated_url, STOCK) == before
    assert [(left.item_id, left.kind, left.what[:7]) for left in done.left] == [
        ("item-Arrived", "COPIED_TWICE", "decide:")
    ]


async def test_an_orphan_that_is_the_stock_of_an_item_stays_and_one_that_is_only_its_copy_comes_back(
    migrated_url: str,
) -> None:
    await tamper(migrated_url, CUT_OVER + NO_ITEM_KEY + opening("itemId", "'garbage'"))
    await tamper(migrated_url, opening("itemId", "'garbage'").replace("item-Arrived", "item-Sold"))
    done = await repaired(migrated_url, make=True)
    owners = await all_of(
        migrated_url,
        """
        SELECT l.item_id, b."itemId", quantity FROM stock_batches b JOIN stockshift.copy_ledger l ON b.id = l.batch_id
        WHERE l.item_id IN ('item-Arrived', 'item-Sold') ORDER BY 1
        """,
    )
    assert [tuple(row.values()) for row in owners] == [("item-Arrived", "garbage", 10), ("item-Sold", "item-Sold", 10)]
    (left,) = done.left
    assert (left.item_id, left.kind) == ("garbage", "ORPHAN")
    assert left.what.endswith("back to item item-Arrived, which it is a copy of")


async def test_drift_that_nobody_recorded_is_recorded_and_then_decided(migrated_url: str) -> None:
    """Also where write-back is on: what was written is not written over before somebody saw it."""
    await tamper(migrated_url, WRITTEN_BACK + UNSEEN)
    await tamper(migrated_url, "UPDATE items SET \"quantityInStock\" = 3 WHERE id = 'item-Arrived'")
    first = await repaired(migrated_url, make=True)
    assert (first.changes, [left.kind for left in first.left]) == ({"UNRECORDED_DRIFT": 1}, ["DRIFT"])
    (item,) = await all_of(migrated_url, "SELECT \"quantityInStock\" AS it FROM items WHERE id = 'item-Arrived'")
    assert item["it"] == 3
    assert (await repaired(migrated_url, make=True, accepted=("item-Arrived",))).made
    assert (await verified(migrated_url)).passed
    assert [row["quantity"] for row in await all_of(migrated_url, STOCK)] == [3]


async def test_drift_that_no_batch_could_take_is_not_settled(migrated_url: str) -> None:
    await tamper(migrated_url, f"{CUT_OVER} DELETE FROM stock_batches WHERE id = {OPENING};")
    await tamper(migrated_url, "UPDATE items SET \"quantityInStock\" = 15 WHERE id = 'item-Arrived'")
    with pytest.raises(NoDrift, match="item 'item-Arrived' has no batch"):
        await repaired(migrated_url, make=True, accepted=("item-Arrived",))
    (write,) = await all_of(migrated_url, "SELECT settled FROM stockshift.legacy_write")
    assert write["settled"] is None


async def test_drift_to_no_quantity_leaves_none(migrated_url: str) -> None:
    """A quantity that is NULL answers 0."""
    await tamper(migrated_url, CUT_OVER + 'ALTER TABLE items ALTER "quantityInStock" DROP NOT NULL')
    await tamper(migrated_url, "UPDATE items SET \"quantityInStock\" = NULL WHERE id = 'item-Arrived'")
    assert (await repaired(migrated_url, make=True, accepted=("item-Arrived",))).made
    assert [row["quantity"] for row in await all_of(migrated_url, STOCK)] == [0]


async def test_drift_is_taken_also_by_a_batch_that_has_something_else_wrong(migrated_url: str) -> None:
    await tamper(migrated_url, CUT_OVER + NO_PLACE_KEY + opening("locationId", "'nowhere'"))
    await tamper(migrated_url, "UPDATE items SET \"quantityInStock\" = 3 WHERE id = 'item-Arrived'")
    first = await repaired(migrated_url, make=True, accepted=("item-Arrived",))
    assert [left.kind for left in first.left] == ["UNKNOWN_LOCATION"]
    assert (await repaired(migrated_url, make=True)).left == ()
    assert [(row["quantity"], row["locationId"]) for row in await all_of(migrated_url, STOCK)] == [(3, None)]


async def test_batches_that_stand_are_written_back(migrated_url: str) -> None:
    await tamper(migrated_url, WRITTEN_BACK + "UPDATE items SET \"quantityInStock\" = 3 WHERE id = 'item-Arrived'")
    assert (await repaired(migrated_url, make=True, kept=("item-Arrived",))).made
    assert (await verified(migrated_url)).passed
    (item,) = await all_of(migrated_url, "SELECT \"quantityInStock\" AS it FROM items WHERE id = 'item-Arrived'")
    assert item["it"] == 10


@pytest.mark.parametrize(
    "sql",
    [
        UNSEEN + NO_STATUS,
        UNSEEN + NO_STATUS + opening("quantity", "3"),
        SECOND + NO_STATUS,
    ],
    ids=["an unrecorded write", "both written", "a second copy"],
)
async def test_an_item_that_cannot_be_repaired_keeps_no_other_from_it(migrated_url: str, sql: str) -> None:
    await tamper(migrated_url, sql)
    await tamper(migrated_url, opening("quantity", "3").replace("item-Arrived", "item-Sold"))
    done = await repaired(migrated_url, make=True)
    assert (done.made, done.changes) == (True, {"OPENING_BATCH_CHANGED": 1})
    assert [left.what for left in done.left] == ["status is NULL; set the item's status, then repair again"]


@pytest.mark.parametrize(
    "sql",
    [
        f"""ALTER TABLE items DISABLE TRIGGER stockshift_follow_insert; {NEW_ITEM}
        UPDATE items SET "useBatchSystem" = true WHERE id = 'item-new'""",
        f"""{NO_PLACE_KEY} {NO_USER_KEY} {RECEIVED.format("item-Arrived", "'nowhere'")}
        UPDATE stock_batches SET "assignedUserId" = 'nobody' WHERE id = 'received'""",
        NO_PLACE_KEY + opening("locationId", "'nowhere'"),
    ],
    ids=["flagged and not copied", "neither place nor user", "an opening batch"],
)
async def test_what_one_change_mends_in_two_ways_is_not_left(migrated_url: str, sql: str) -> None:
    await tamper(migrated_url, sql)
    for make in (False, True):
        done = await repaired(migrated_url, make=make)
        assert (sum(done.changes.values()), done.left) == (1, ())


@pytest.mark.parametrize(
    ("sql", "check"),
    [
        (NO_PLACE_KEY, "tables, keys and indexes"),
        (CUT_OVER + UNMOVED + opening("costPerUnitUSD", "9"), "conservation"),
    ],
)
async def test_a_check_that_names_no_item_is_told(migrated_url: str, sql: str, check: str) -> None:
    await tamper(migrated_url, sql)
    done = await repaired(migrated_url, make=True)
    assert [failed.name for failed in done.failed] == [check]
    await tamper(migrated_url, opening("quantity", "3").replace("item-Arrived", "item-Sold"))
    assert [failed.name for failed in (await repaired(migrated_url)).failed] == [], "first what can be mended"
    assert [failed.name for failed in (await repaired(migrated_url, make=True)).failed] == [check]


async def test_an_earlier_versions_database_is_to_be_migrated_first(migrated_url: str) -> None:
    await tamper(migrated_url, "DROP TABLE stockshift.repair_archive")
    for make in (False, True):
        with pytest.raises(Outdated):
            await repaired(migrated_url, make=make)


async def test_after_the_contract_an_altered_function_is_made_anew(ready_url: str) -> None:  # noqa: F811 - a fixture
    async with engine_on(ready_url) as engine, psql(ready_url) as connection:
        await contract(engine, Actor("test"), confirm=await connection.fetchval("SELECT current_database()"))
    await tamper(
        ready_url,
        """CREATE OR REPLACE FUNCTION stockshift.move_batch() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN RETURN NULL; END'""",
    )
    assert not (await verified(ready_url)).passed
    assert (await repaired(ready_url, make=True)).made
    assert (await verified(ready_url)).passed
