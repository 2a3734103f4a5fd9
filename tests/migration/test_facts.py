"""A report says what it was run against (R23): database, server, row counts, a fingerprint by column of items."""

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from migration.report import VerificationReport, load_report
from migration.verify import verify
from tests.conftest import CopyTemplate
from tests.migration.support import engine_on
from tests.migration.test_plan import change
from tests.migration.test_verify import report_on
from tests.support import insert_item, psql


@pytest.fixture
def second_items_url(copy_template: CopyTemplate, migrated_template: str) -> str:
    return copy_template(migrated_template)


COLUMNS = {
    "name": "'other'",
    "status": "'Sold'",
    "quantityInStock": "11",
    "costPerUnitUSD": "4.2500000000000009",
    "sellingPriceSRD": "NULL",
    "orderDate": "'2026-01-02 03:04:05.678'",
    "notes": "''",
    "minStockLevel": "0",
    "supplier": "'x'",
    "companyId": "'globex'",
    "locationId": "NULL",
    "useBatchSystem": "true",
}


def prints(report: VerificationReport) -> dict[str, str]:
    assert report.fingerprint is not None
    return report.fingerprint


def differing(one: VerificationReport, other: VerificationReport) -> set[str]:
    assert set(prints(one)) == set(prints(other))
    return {name for name, value in prints(one).items() if prints(other)[name] != value}


async def made_on(engine: AsyncEngine) -> VerificationReport:
    made = await verify(engine, requested_by="test")
    async with engine.connect() as connection:
        report = await load_report(connection, made.id, None)
    assert report is not None
    return report


async def test_a_report_names_its_database_and_server_and_counts_their_rows(migrated_url: str) -> None:
    async with psql(migrated_url) as connection:
        await insert_item(connection, "new")
        await connection.execute("UPDATE items SET \"quantityInStock\" = 3 WHERE id = 'item-Sold'")
        database = await connection.fetchval("SELECT current_database()")
        version = await connection.fetchval("SHOW server_version")
    report = await report_on(migrated_url)
    assert (report.database, report.server_version) == (database, version)
    assert report.row_counts == {
        "items": 8, "copy_ledger": 7, "stock_batches": 7, "movement": 1, "legacy_write": 2,
    }  # fmt: skip


async def test_every_column_of_items_but_the_id_has_a_fingerprint(migrated_url: str) -> None:
    async with psql(migrated_url) as connection:
        await connection.execute("ALTER TABLE items ADD \"a 'column' of theirs\" jsonb DEFAULT '{}'")
        rows = await connection.fetch(
            "SELECT attname FROM pg_attribute WHERE attrelid = 'items'::regclass AND attnum > 0 AND NOT attisdropped"
        )
    names = {row["attname"] for row in rows} - {"id"}
    assert set(prints(await report_on(migrated_url))) == names


async def test_the_same_rows_have_the_same_fingerprint_in_another_database_and_another_order(
    migrated_url: str, second_items_url: str
) -> None:
    """Written anew, and so in other places; by a session that shows numbers and times otherwise."""
    await change(
        second_items_url,
        "SET session_replication_role = replica; CREATE TABLE rows AS SELECT * FROM items; DELETE FROM items;"
        " INSERT INTO items SELECT * FROM rows ORDER BY name DESC",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET DateStyle = German', current_database()); END $$",
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET extra_float_digits = -9', current_database()); END $$",
    )
    one, other = await report_on(migrated_url), await report_on(second_items_url)
    assert one.database != other.database
    assert differing(one, other) == set()


async def test_a_value_that_changed_changes_the_fingerprint_of_its_column_and_no_other(migrated_url: str) -> None:
    async with engine_on(migrated_url) as engine, psql(migrated_url) as shop:
        await shop.execute('ALTER TABLE items ALTER "sellingPriceSRD" DROP NOT NULL')
        before = await made_on(engine)
        for column, value in COLUMNS.items():
            await shop.execute(f"UPDATE items SET \"{column}\" = {value} WHERE id = 'item-Arrived'")
            after = await made_on(engine)
            assert differing(before, after) == {column}
            before = after


async def test_two_values_that_changed_places_are_seen(migrated_url: str) -> None:
    before = await report_on(migrated_url)
    await change(
        migrated_url,
        """
        UPDATE items SET name = CASE id WHEN 'item-Sold' THEN 'item-Arrived' ELSE 'item-Sold' END
        WHERE id IN ('item-Sold', 'item-Arrived')
        """,
    )
    assert differing(before, await report_on(migrated_url)) == {"name"}


async def test_a_company_has_the_counts_and_fingerprint_of_its_own_items(migrated_url: str) -> None:
    """As if the other were not there."""
    before = await report_on(migrated_url, "globex")
    assert before.row_counts == {"items": 1, "stock_batches": 1}
    await change(migrated_url, "UPDATE items SET name = 'x', \"quantityInStock\" = 1 WHERE \"companyId\" = 'acme'")
    after = await report_on(migrated_url, "globex")
    assert (after.row_counts, after.fingerprint) == (before.row_counts, before.fingerprint)
