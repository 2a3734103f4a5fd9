"""The mutation check of verification: each of these defects is found and named, none of a busy shop's doings is.

A defect is SQL that tampers, or that takes a trigger off and then writes as anybody might. What can be repaired without
a person's decision is, and then everything matches; what cannot is said, and stays as it is.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from migration import findings, mismatches
from migration.capture import WRITE_BACK_TRIGGERS
from migration.repair import Asked, Repair, repair
from migration.report import VerificationReport, load_report
from migration.verify import verify
from tests.migration.support import UNFOLLOWED, engine_on
from tests.migration.test_variants import EQUAL
from tests.support import psql

README = Path(__file__).parents[2] / "README.md"
OPENING = "(SELECT batch_id FROM stockshift.copy_ledger WHERE item_id = 'item-Arrived')"
CUT_OVER = """
    UPDATE stockshift.copy_ledger SET cut_over_at = clock_timestamp() WHERE item_id = 'item-Arrived';
    UPDATE items SET "useBatchSystem" = true WHERE id = 'item-Arrived';
"""
WRITTEN_BACK = CUT_OVER + "".join(
    f"{trigger.make(name)}; ALTER TABLE stock_batches ENABLE ALWAYS TRIGGER {name};"
    for name, trigger in WRITE_BACK_TRIGGERS.items()
)
WRITTEN_BACK += "UPDATE stockshift.setting SET write_back = true;"
UNSEEN = f"{UNFOLLOWED};"
UNMOVED = "ALTER TABLE stock_batches DISABLE TRIGGER stockshift_move_update;"
NO_ITEM_KEY = 'ALTER TABLE stock_batches DROP CONSTRAINT "stock_batches_itemId_fkey";'
NO_PLACE_KEY = 'ALTER TABLE stock_batches DROP CONSTRAINT "stock_batches_locationId_fkey";'
NO_USER_KEY = 'ALTER TABLE stock_batches DROP CONSTRAINT "stock_batches_assignedUserId_fkey";'
NEW_ITEM = """
    INSERT INTO items SELECT (jsonb_populate_record(i, '{"id": "item-new"}')).* FROM items i WHERE id = 'item-Sold';
"""
RECEIVED = """
    INSERT INTO stock_batches (id, quantity, status, "costPerUnitUSD", "updatedAt", "itemId", "locationId")
    VALUES ('received', 5, 'Arrived', 4.25, now(), '{}', {});
"""
COPY_WRONG = f"""
    {NEW_ITEM}
    INSERT INTO stockshift.copy_ledger (item_id, batch_id, original)
    SELECT id, 'wrong', row_to_json(i) FROM items i WHERE id = 'item-new';
    SELECT set_config('stockshift.reason', 'COPY', true);
    {EQUAL.replace("'batch of ' || id, ", "'wrong', 1 + ")} WHERE id = 'item-new';
"""


def opening(column: str, value: str) -> str:
    return f'UPDATE stock_batches SET "{column}" = {value} WHERE id = {OPENING}'


@dataclass(frozen=True)
class Defect:
    """`kind` is what the item must be named as. `repaired`: without anybody's decision."""

    name: str
    sql: str
    kind: str
    item: str = "item-Arrived"
    repaired: bool = True


DEFECTS = [
    *[
        Defect(f"the opening batch's {column} changed", opening(column, value), "OPENING_BATCH_CHANGED")
        for column, value in {
            "quantity": "12",
            "status": "'Sold'",
            "costPerUnitUSD": "0",
            "freightCostUSD": "12.51",
            "orderDate": "'2026-02-03'",
            "expectedArrival": "'2026-02-03 04:05:06.789'",
            "orderNumber": "'4711'",
            "notes": "''",
            "locationId": "NULL",
            "assignedUserId": "'globex-user'",
        }.items()
    ],
    Defect(
        "the opening batch changed, and nothing recorded it",
        UNMOVED + opening("quantity", "12"),
        "OPENING_BATCH_CHANGED",
    ),
    Defect("the copy is not what the item was", COPY_WRONG, "COPIED_WRONG", item="item-new"),
    Defect("the opening batch deleted", f"DELETE FROM stock_batches WHERE id = {OPENING}", "BATCH_LOST"),
    Defect(
        "the opening batch deleted, and nothing recorded it",
        f"""
        ALTER TABLE stock_batches DISABLE TRIGGER stockshift_move_delete;
        DELETE FROM stock_batches WHERE id = {OPENING}
        """,
        "BATCH_LOST",
    ),
    Defect("the opening batch given to another item", opening("itemId", "'item-Sold'"), "BATCH_LOST"),
    Defect("all batches truncated", "TRUNCATE stock_batches", "BATCH_LOST"),
    Defect(
        "the ledger names another batch",
        f"UPDATE stockshift.copy_ledger SET batch_id = 'x' WHERE batch_id = {OPENING}",
        "COPIED_TWICE",
    ),
    Defect(
        "an item copied a second time",
        EQUAL.replace("'batch of '", "'second of '") + " WHERE id = 'item-Arrived'",
        "COPIED_TWICE",
    ),
    Defect(
        "the item written, and its trigger was off",
        UNSEEN + "UPDATE items SET \"quantityInStock\" = 8, notes = 'sold' WHERE id = 'item-Arrived'",
        "LEGACY_CHANGED_UNRECORDED",
    ),
    Defect(
        "both written, and the trigger was off",
        f"{UNSEEN} UPDATE items SET notes = 'x' WHERE id = 'item-Arrived'; {opening('quantity', '1')}",
        "BOTH_CHANGED",
    ),
    Defect(
        "a value that no batch can have",
        "ALTER TABLE items ALTER status DROP NOT NULL; UPDATE items SET status = NULL WHERE id = 'item-Arrived'",
        "LEGACY_WRITE_NOT_FOLLOWED",
        repaired=False,
    ),
    Defect(
        "a location that came later than the item that names it",
        """
        ALTER TABLE items DROP CONSTRAINT "items_locationId_fkey";
        UPDATE items SET "locationId" = 'later' WHERE id = 'item-Arrived';
        INSERT INTO locations (id, name, "updatedAt", "companyId") VALUES ('later', 'Later', now(), 'acme')
        """,
        "LEGACY_WRITE_NOT_FOLLOWED",
    ),
    Defect(
        "an item inserted while its trigger was off",
        f"ALTER TABLE items DISABLE TRIGGER stockshift_follow_insert; {NEW_ITEM}",
        "NOT_COPIED",
        item="item-new",
    ),
    Defect(
        "a batch before the copy",
        NEW_ITEM + RECEIVED.format("item-new", "NULL"),
        "HIDDEN_LEGACY_STOCK",
        item="item-new",
        repaired=False,
    ),
    Defect("a copy made by hand", f"{NEW_ITEM} {EQUAL} WHERE id = 'item-new'", "HIDDEN_LEGACY_STOCK", item="item-new"),
    Defect(
        "the ledger lost a row",
        "DELETE FROM stockshift.copy_ledger WHERE item_id = 'item-Arrived'",
        "HIDDEN_LEGACY_STOCK",
    ),
    Defect(
        "the flag of an item that is not copied",
        NEW_ITEM + "UPDATE items SET \"useBatchSystem\" = true WHERE id = 'item-new'",
        "FLAG_WITHOUT_COPY",
        item="item-new",
    ),
    Defect(
        "the flag of an item that has nothing to copy",
        f"""
        {NEW_ITEM} ALTER TABLE items ALTER status DROP NOT NULL;
        UPDATE items SET "useBatchSystem" = true, status = NULL, "quantityInStock" = 0 WHERE id = 'item-new'
        """,
        "FLAG_WITHOUT_COPY",
        item="item-new",
    ),
    Defect(
        "an item deleted while its trigger was off",
        "ALTER TABLE items DISABLE TRIGGER stockshift_follow_delete; DELETE FROM items WHERE id = 'item-Arrived'",
        "ITEM_LOST",
        repaired=False,
    ),
    Defect(
        "an item made again, and deleted while its trigger was off",
        f"""
        DELETE FROM items WHERE id = 'item-Arrived'; {NEW_ITEM.replace("item-new", "item-Arrived")}
        ALTER TABLE items DISABLE TRIGGER stockshift_follow_delete; DELETE FROM items WHERE id = 'item-Arrived'
        """,
        "ITEM_LOST",
        repaired=False,
    ),
    Defect(
        "an item deleted, and its record too",
        "DELETE FROM items WHERE id = 'item-Arrived'; DELETE FROM stockshift.legacy_write",
        "ITEM_LOST",
        repaired=False,
    ),
    Defect(
        "the batches of an item that is gone", f"{NO_ITEM_KEY} DELETE FROM items WHERE id = 'item-Arrived'", "ORPHAN"
    ),
    Defect(
        "a batch of an item that never was", NO_ITEM_KEY + RECEIVED.format("nothing", "NULL"), "ORPHAN", item="nothing"
    ),
    Defect(
        "a batch at a place that is not there",
        NO_PLACE_KEY + RECEIVED.format("item-Arrived", "'nowhere'"),
        "UNKNOWN_LOCATION",
    ),
    Defect(
        "a batch of a user who is not there",
        f"""{NO_USER_KEY} {RECEIVED.format("item-Arrived", "NULL")}
        UPDATE stock_batches SET "assignedUserId" = 'nobody' WHERE id = 'received'""",
        "UNKNOWN_USER",
    ),
    Defect(
        "a batch changed, and its trigger was off",
        f"{CUT_OVER} {UNMOVED} {opening('quantity', '9')}",
        "UNBALANCED",
    ),
    Defect(
        "movements deleted",
        RECEIVED.format("item-Arrived", "NULL") + "DELETE FROM stockshift.movement",
        "UNBALANCED",
    ),
    Defect(
        "a movement altered",
        RECEIVED.format("item-Arrived", "NULL") + "UPDATE stockshift.movement SET delta = delta + 1",
        "UNBALANCED",
    ),
    Defect(
        "a movement made up",
        f"""
        INSERT INTO stockshift.movement (batch_id, item_id, delta, reason, role)
        VALUES ({OPENING}, 'item-Arrived', 3, 'RECEIVED', 'x')
        """,
        "UNBALANCED",
    ),
    Defect(
        "the ledger's original altered",
        "UPDATE stockshift.copy_ledger SET original = '{\"quantityInStock\": 4}' WHERE item_id = 'item-Arrived'",
        "UNBALANCED",
    ),
    Defect(
        "the legacy columns written after the cut-over",
        f"{CUT_OVER} UPDATE items SET \"quantityInStock\" = 3 WHERE id = 'item-Arrived'",
        "DRIFT",
        repaired=False,
    ),
    Defect(
        "the legacy columns written after the cut-over, and nothing recorded it",
        f"{CUT_OVER} {UNSEEN} UPDATE items SET \"quantityInStock\" = 3 WHERE id = 'item-Arrived'",
        "UNRECORDED_DRIFT",
    ),
    Defect(
        "the same while write-back is on, which must not write over it",
        f"{WRITTEN_BACK} {UNSEEN} UPDATE items SET \"quantityInStock\" = 3 WHERE id = 'item-Arrived'",
        "UNRECORDED_DRIFT",
    ),
    Defect(
        "a batch changed, and write-back did not fire",
        f"""
        {WRITTEN_BACK} ALTER TABLE stock_batches DISABLE TRIGGER stockshift_write_back_update;
        {opening("quantity", "4")}
        """,
        "WRITE_BACK_WRONG",
    ),
]

GONE = "DROP TRIGGER stockshift_move_delete ON stock_batches"
STRUCTURE = {
    f"{WRITTEN_BACK} DROP TRIGGER stockshift_write_back_delete ON stock_batches": (
        "trigger stockshift_write_back_delete on public.stock_batches is missing or disabled"
    ),
    UNFOLLOWED: "trigger stockshift_follow_update on public.items is disabled",
    GONE: "trigger stockshift_move_delete on public.stock_batches is missing",
    "ALTER TABLE stock_batches ENABLE TRIGGER stockshift_move_insert": "stockshift_move_insert",
    "CREATE OR REPLACE FUNCTION stockshift.move_batch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'": (
        "function stockshift.move_batch is missing or altered"
    ),
}


async def report_on(url: str) -> VerificationReport:
    async with engine_on(url) as engine:
        made = await verify(engine, requested_by="test")
        async with engine.connect() as connection:
            report = await load_report(connection, made.id, None)
    assert report is not None
    return report


async def repaired(url: str, **asked: object) -> Repair:
    async with engine_on(url) as engine:
        return await repair(engine, Asked("tester", **asked))  # type: ignore[arg-type]  # what a test asks for


async def tamper(url: str, sql: str) -> None:
    async with psql(url, application_name="tampering") as connection:
        await connection.execute(sql)


def test_there_are_enough_defects_and_each_has_a_name() -> None:
    assert len({defect.name for defect in DEFECTS}) == len(DEFECTS) >= 25


def test_every_kind_has_a_defect_and_is_explained_to_users() -> None:
    told = f"{mismatches.__doc__}{findings.__doc__}"
    kinds = {kind for row in re.findall(r"^\| ([A-Z_, ]+) \|", told, re.MULTILINE) for kind in row.split(", ")}
    assert {defect.kind for defect in DEFECTS} == kinds
    readme = README.read_text("utf-8")
    assert [kind for kind in sorted(kinds) if f"`{kind}`" not in readme] == []


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
async def test_a_defect_is_named_and_what_can_be_is_repaired(migrated_url: str, defect: Defect) -> None:
    await tamper(migrated_url, defect.sql)
    report = await report_on(migrated_url)
    named = [found for found in report.mismatches if (found.item_id, found.kind) == (defect.item, defect.kind)]
    assert named, [(found.item_id, found.kind, found.cause) for found in report.mismatches]
    assert report.state == "FAILED"
    assert all(found.repair and found.evidence is not None for found in report.mismatches)
    done = await repaired(migrated_url, make=True)
    after = {(found.item_id, found.kind) for found in (await report_on(migrated_url)).mismatches}
    assert ((defect.item, defect.kind) not in after) is defect.repaired
    assert [(left.item_id, left.kind) for left in done.left] == sorted(after), "what is left is said"
    again = await repaired(migrated_url, make=True)
    assert (again.made, again.changes, again.steps) == (False, {}, ()), "a second time there is nothing to do"


@pytest.mark.parametrize(("sql", "named"), STRUCTURE.items())
async def test_triggers_that_do_not_fire_are_named_and_put_on_again(migrated_url: str, sql: str, named: str) -> None:
    await tamper(migrated_url, sql)
    report = await report_on(migrated_url)
    check = next(check for check in report.checks if check.name == "tables, keys and indexes")
    assert (check.passed, named in (check.detail or "")) == (False, True), check.detail
    shown = await repaired(migrated_url)
    assert shown.steps
    assert not shown.made
    assert (await report_on(migrated_url)).state == "FAILED", "only shown"
    assert (await repaired(migrated_url, make=True)).made
    assert (await report_on(migrated_url)).state == "PASSED"


BUSY = [
    'UPDATE items SET "quantityInStock" = "quantityInStock" - 3, "updatedAt" = now()',
    "UPDATE items SET status = 'Sold', notes = 'gone', \"locationId\" = NULL WHERE id = 'item-Arrived'",
    *[RECEIVED.replace("received", f"received-{number}").format("item-Arrived", "'acme-main'") for number in range(4)],
    "UPDATE stock_batches SET quantity = 2, id = 'other-0', status = 'Sold' WHERE id = 'received-0'",
    "UPDATE stock_batches SET \"itemId\" = 'item-Sold' WHERE id = 'received-1'",
    "DELETE FROM stock_batches WHERE id = 'received-2'",
    "DELETE FROM items WHERE id = 'item-Ordered'",
    "UPDATE items SET id = 'item-Ordered' WHERE id = 'item-ToOrder'",
    NEW_ITEM,
    "DELETE FROM items WHERE id = 'item-globex'",
    NEW_ITEM.replace("item-new", "item-globex"),
    WRITTEN_BACK.replace("item-Arrived", "item-Sold"),
    "UPDATE stock_batches SET quantity = quantity - 1, status = 'Sold' WHERE \"itemId\" = 'item-Sold'",
    "DELETE FROM locations WHERE id = 'acme-harbour'",
    "DELETE FROM users WHERE id = 'acme-user'",
]


async def test_nothing_that_a_busy_shop_does_is_a_defect(migrated_url: str) -> None:
    for statement in BUSY:
        await tamper(migrated_url, statement)
    report = await report_on(migrated_url)
    assert (report.state, report.mismatches) == ("PASSED", [])
    assert not (await repaired(migrated_url)).proposed
