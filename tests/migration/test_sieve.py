"""The sieve hides nothing: whatever was done, a verification finds the same without it, with every item looked at."""

import os
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from db.shape import Shape, load_shape
from migration import sieve
from migration.report import load_report
from migration.transaction import one_snapshot, settle
from migration.verify import begin, compare
from tests.migration.support import UNFOLLOWED, engine_on
from tests.migration.test_defects import BUSY, CUT_OVER, DEFECTS, NEW_ITEM, OPENING, RECEIVED, UNMOVED, opening
from tests.migration.test_variants import EQUAL

MORE = "STOCKSHIFT_TEST_EXAMPLES" in os.environ
"""The defects too, each of which test_defects.py sees found."""
ITEM = "WHERE id = 'item-Arrived'"
FOLLOWED = f"{UNFOLLOWED.replace('DISABLE', 'ENABLE ALWAYS')};"
UNDELETED = "ALTER TABLE items DISABLE TRIGGER stockshift_follow_delete;"
UNLEFT = "ALTER TABLE stock_batches DISABLE TRIGGER stockshift_move_delete;"
HERE = RECEIVED.format("item-Arrived", "'acme-main'")
NULLABLE = 'ALTER TABLE items ALTER "costPerUnitUSD" DROP NOT NULL, ALTER "freightCostUSD" DROP NOT NULL;'

TRICKS = {
    "both written alike while the triggers were off": f"""
        {UNFOLLOWED}; {UNMOVED} UPDATE items SET notes = 'x', "quantityInStock" = 8 {ITEM};
        {opening("notes", "'x'")}; {opening("quantity", "8")}
    """,
    "written, followed, and both written back unseen": f"""
        UPDATE items SET "locationId" = 'acme-harbour', "quantityInStock" = 4 {ITEM};
        {UNFOLLOWED}; {UNMOVED} UPDATE items SET "locationId" = 'acme-main', "quantityInStock" = 10 {ITEM};
        {opening("locationId", "'acme-main'")}; {opening("quantity", "10")}
    """,
    "written, followed, and the item alone written back unseen": f"""
        UPDATE items SET notes = 'x' {ITEM}; {UNFOLLOWED}; UPDATE items SET notes = NULL {ITEM}
    """,
    "a batch moved to another place unseen": f"""
        {HERE} {UNMOVED} UPDATE stock_batches SET "locationId" = 'acme-harbour' WHERE id = 'received'
    """,
    "a batch's cost and freight changed unseen": f"""
        {HERE} {UNMOVED} UPDATE stock_batches SET "costPerUnitUSD" = 5, "freightCostUSD" = 1 WHERE id = 'received'
    """,
    "a movement's place altered": f"{HERE} UPDATE stockshift.movement SET location_id = 'acme-harbour'",
    "a movement's cost altered": f"{HERE} UPDATE stockshift.movement SET unit_cost = unit_cost + 0.01",
    "a movement's freight altered": f"{HERE} UPDATE stockshift.movement SET freight = 0.01",
    "a movement given to another item": f"{HERE} UPDATE stockshift.movement SET item_id = 'item-Sold'",
    "a movement without a place": f"{HERE} UPDATE stockshift.movement SET status = NULL",
    "a movement set before the copy": f"{HERE} UPDATE stockshift.movement SET at = '2020-01-01'",
    "a batch deleted unseen": f"{HERE} {UNLEFT} DELETE FROM stock_batches WHERE id = 'received'",
    "received and issued again": f"{HERE} DELETE FROM stock_batches WHERE id = 'received'",
    "two batches received that cancel out": f"""
        {HERE} {HERE.replace("'received', 5", "'other', -5")} DELETE FROM stockshift.movement
    """,
    "no units, but freight": f"""
        {HERE.replace("'received', 5", "'received', 0")} {UNMOVED} UPDATE stock_batches SET "freightCostUSD" = 7
        WHERE id = 'received'
    """,
    "the ledger's row kept for another item": """
        UPDATE stockshift.copy_ledger l SET original = o.original FROM stockshift.copy_ledger o
        WHERE l.item_id = 'item-Arrived' AND o.item_id = 'item-Sold'
    """,
    "fingerprints unknown": "UPDATE stockshift.copy_ledger SET fingerprint = NULL",
    "fingerprints of others": "UPDATE stockshift.copy_ledger SET fingerprint = fingerprint + 1",
    "a choice altered": f"""
        UPDATE stockshift.copy_ledger SET choices = '{{"orderDate": "2026-01-02T00:00:00"}}' WHERE batch_id = {OPENING}
    """,
    "a choice that was taken": f"""
        UPDATE stockshift.copy_ledger SET choices = '{{"orderDate": "2026-01-02T00:00:00"}}' WHERE batch_id = {OPENING};
        {opening("orderDate", "'2026-01-02'")}
    """,
    "costs that are no numbers": f"""
        UPDATE items SET "costPerUnitUSD" = 'NaN', "freightCostUSD" = 'Infinity' {ITEM};
        UPDATE items SET "costPerUnitUSD" = '-0', "freightCostUSD" = '1e308' WHERE id = 'item-Sold';
        {HERE.replace("4.25", "'NaN'")}
    """,
    "NULL where there was none": f"""
        {NULLABLE} UPDATE items SET "freightCostUSD" = NULL {ITEM};
        UPDATE items SET "costPerUnitUSD" = NULL WHERE id = 'item-Sold'
    """,
    "NULL unseen": f"""{NULLABLE} {UNFOLLOWED}; UPDATE items SET "freightCostUSD" = NULL {ITEM}""",
    "a batch of one item given to another and back": f"""
        {HERE} UPDATE stock_batches SET "itemId" = 'item-Sold' WHERE id = 'received';
        UPDATE stock_batches SET "itemId" = 'item-Arrived' WHERE id = 'received'
    """,
    "as many batches as copies, of which one is another": f"""
        {HERE} {UNLEFT} DELETE FROM stock_batches WHERE "itemId" = 'item-Sold'
    """,
    "two items' opening batches exchanged": """
        UPDATE stockshift.copy_ledger l SET batch_id = 'x ' || o.batch_id FROM stockshift.copy_ledger o
        WHERE (l.item_id, o.item_id) IN (('item-Arrived', 'item-Sold'), ('item-Sold', 'item-Arrived'));
        UPDATE stockshift.copy_ledger SET batch_id = substr(batch_id, 3) WHERE batch_id LIKE 'x %'
    """,
    "an item deleted unseen": f"{UNDELETED} DELETE FROM items {ITEM}",
    "an item deleted unseen with its batches": f"{UNDELETED} {UNLEFT} DELETE FROM items {ITEM}",
    "an item deleted": f"DELETE FROM items {ITEM}",
    "an item that nobody copied": f"{NEW_ITEM} {RECEIVED.format('item-new', 'NULL')} {CUT_OVER}",
    "a location deleted": "DELETE FROM locations WHERE id = 'acme-main'",
    "a user deleted": "DELETE FROM users WHERE id = 'acme-user'",
    "a company deleted": "DELETE FROM companies WHERE id = 'globex'",
    "an item of another company now": f"UPDATE items SET \"companyId\" = 'globex' {ITEM}",
    "all cut over and sold": """
        UPDATE stockshift.copy_ledger SET cut_over_at = clock_timestamp(); UPDATE stock_batches SET quantity = 0
    """,
    "a second copy of every item": EQUAL.replace("'batch of '", "'second of '"),
    "another company's item written unseen": f"""
        {UNFOLLOWED}; UPDATE items SET notes = 'x', "quantityInStock" = 5 WHERE id = 'item-globex';
        {RECEIVED.format("item-globex", "NULL")}
    """,
    "a column more": f"ALTER TABLE stock_batches ADD colour text DEFAULT 'red'; ALTER TABLE items ADD colour text;"
    f" UPDATE items SET colour = 'blue' {ITEM}",
    "a busy shop": "; ".join(BUSY),
}  # fmt: skip


async def looked_at(connection: AsyncConnection, shape: Shape, company: str | None) -> dict[str, Any]:
    """All that a report says but for which it is and when it was made."""
    made = await begin(connection, company, "test")
    await compare(connection, shape, made, company)
    report = await load_report(connection, made, None)
    assert report is not None
    return {name: value for name, value in vars(report).items() if name not in ("id", "started_at", "finished_at")}


async def test_with_the_sieve_a_report_says_what_it_says_without(
    migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each in a transaction that is taken back: one engine knows the statements already."""
    tampering = TRICKS | ({defect.name: defect.sql for defect in DEFECTS} if MORE else {})
    async with engine_on(migrated_url) as engine:
        for name, sql in tampering.items():
            async with one_snapshot(engine) as connection:
                await settle(connection)
                raw = await connection.get_raw_connection()
                driver: Any = raw.driver_connection
                await driver.execute(sql)
                shape = await load_shape(connection)
                company = "acme" if name in TRICKS else None
                sifted = await looked_at(connection, shape, company)
                with monkeypatch.context() as patch:
                    patch.setattr(sieve, "MOST", -1)
                    assert sifted == await looked_at(connection, shape, company), name
                await connection.rollback()
