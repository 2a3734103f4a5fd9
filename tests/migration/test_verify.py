"""Verification: what was done behind our back is found and named, item by item, in one snapshot (R19-R23)."""

import io

import pytest

from migration.report import VerificationReport, load_report
from migration.verify import MigrationNotStarted, Verified, verify
from tests.migration.support import engine_on, migrate, once_before, verified
from tests.migration.test_plan import BATCHES, change
from tests.migration.test_variants import EQUAL
from tests.support import insert, insert_item, psql


@pytest.fixture
async def migrated_url(items_url: str) -> str:
    await migrate(items_url)
    return items_url


async def report_on(url: str, company: str | None = None) -> VerificationReport:
    async with engine_on(url) as engine:
        made = await verify(engine, company=company, requested_by="test")
        async with engine.connect() as connection:
            report = await load_report(connection, made.id, company)
    assert report is not None
    assert report.checks == list(made.checks)
    assert report.items_mismatched == made.mismatched == len(report.mismatches)
    assert report.state == ("PASSED" if made.passed else "FAILED")
    return report


def failed(report: VerificationReport | Verified) -> dict[str, tuple[str | None, str | None]]:
    return {check.name: (check.expected, check.actual) for check in report.checks if not check.passed}


async def test_before_the_expansion_there_is_nothing_to_verify_and_nothing_is_made(items_url: str) -> None:
    with pytest.raises(MigrationNotStarted):
        await verified(items_url)
    async with psql(items_url) as connection:
        assert await connection.fetchval("SELECT to_regnamespace('stockshift')") is None


async def test_after_a_migration_everything_matches(migrated_url: str) -> None:
    report = await report_on(migrated_url)
    assert failed(report) == {}
    assert (report.items_checked, report.items_matched, report.items_mismatched) == (7, 7, 0)
    assert (report.legacy_quantity, report.batch_quantity, report.explained_difference) == (45, 45, 0)
    assert report.requested_by == "test"
    assert report.finished_at is not None
    assert report.finished_at >= report.started_at


OPENING = "(SELECT batch_id FROM stockshift.copy_ledger WHERE item_id = 'item-Arrived')"
AGAIN = EQUAL.replace("'batch of '", "'second of '") + " WHERE id = 'item-Arrived'"


@pytest.mark.parametrize(
    ("tampering", "values", "fields", "cause", "repair"),
    [
        (
            f"UPDATE stock_batches SET quantity = 12 WHERE id = {OPENING}",
            (10, 12, 2),
            ["quantity"],
            "the opening batch was changed after the copy",
            "set batch {opening} to the legacy columns: quantity 12 -> 10",
        ),
        (
            f"UPDATE stock_batches SET status = 'Sold', notes = '' WHERE id = {OPENING}",
            (10, 10, 0),
            ["status", "notes"],
            "the opening batch was changed after the copy",
            "set batch {opening} to the legacy columns: status Sold -> Arrived, notes  -> NULL",
        ),
        (
            f'UPDATE stock_batches SET "locationId" = NULL, "assignedUserId" = \'globex-user\' WHERE id = {OPENING}',
            (10, 10, 0),
            ["locationId", "assignedUserId"],
            "the opening batch was changed after the copy",
            (
                "set batch {opening} to the legacy columns: locationId NULL -> acme-main,"
                " assignedUserId globex-user -> acme-user"
            ),
        ),
        (
            f'UPDATE stock_batches SET "costPerUnitUSD" = 0.1::float8 + 0.2::float8 WHERE id = {OPENING}',
            (10, 10, 0),
            ["costPerUnitUSD"],
            "the opening batch was changed after the copy",
            "set batch {opening} to the legacy columns: costPerUnitUSD 0.30000000000000004 -> 4.25",
        ),
        (
            f"DELETE FROM stock_batches WHERE id = {OPENING}",
            (10, None, -10),
            [],
            "the opening batch was deleted, or given to another item, or the item itself was deleted and made again",
            "put the opening batch back from the copy ledger",
        ),
        (
            f"UPDATE stock_batches SET \"itemId\" = 'item-Sold' WHERE id = {OPENING}",
            (10, None, -10),
            [],
            "the opening batch was deleted, or given to another item, or the item itself was deleted and made again",
            "put the opening batch back from the copy ledger",
        ),
        (
            "UPDATE items SET \"quantityInStock\" = 8, \"orderDate\" = '2026-02-03' WHERE id = 'item-Arrived'",
            (8, 10, 2),
            ["quantity", "orderDate"],
            "the legacy columns were written after the copy",
            "set batch {opening} to the legacy columns: quantity 10 -> 8, orderDate NULL -> 2026-02-03 00:00:00",
        ),
        (
            (
                f"UPDATE stock_batches SET quantity = 12 WHERE id = {OPENING};"
                "UPDATE items SET notes = 'sold', \"quantityInStock\" = 9 WHERE id = 'item-Arrived';"
                f'UPDATE stock_batches SET "costPerUnitUSD" = 1 WHERE id = {OPENING}'
            ),
            (9, 12, 3),
            ["quantity", "costPerUnitUSD", "notes"],
            "the legacy columns and the opening batch were both changed after the copy",
            "set batch {opening} to the legacy columns: quantity 12 -> 9, costPerUnitUSD 1 -> 4.25, notes NULL -> sold",
        ),
        (
            AGAIN,
            (10, 20, 10),
            [],
            "a second batch has the item's own time of creation: the item was copied twice",
            "delete batch second of item-Arrived",
        ),
        (
            AGAIN + "; UPDATE items SET \"quantityInStock\" = 4 WHERE id = 'item-Arrived'",
            (4, 20, 16),
            ["quantity"],
            "a second batch has the item's own time of creation: the item was copied twice",
            "delete batch second of item-Arrived",
        ),
    ],
)
async def test_a_difference_is_named_with_its_values_cause_and_repair(
    migrated_url: str, tampering: str, values: tuple[int, int | None, int], fields: list[str], cause: str, repair: str
) -> None:
    async with psql(migrated_url) as connection:
        opening = await connection.fetchval(f"SELECT {OPENING}")
        await connection.execute(tampering)
    report = await report_on(migrated_url)
    assert report.state == "FAILED"
    assert "items match" in failed(report)
    mismatch = report.mismatches[0]
    assert [found.item_id for found in report.mismatches] == ["item-Arrived"]
    assert (mismatch.legacy_quantity, mismatch.batch_quantity, mismatch.difference) == values
    assert (mismatch.fields, mismatch.cause) == (fields, cause)
    assert mismatch.repair == repair.format(opening=opening)


async def test_the_whole_copy_run_a_second_time_by_hand_fails_although_each_sum_doubled_alike(
    migrated_url: str,
) -> None:
    await change(migrated_url, EQUAL)
    report = await report_on(migrated_url)
    assert failed(report)["copied twice"] == ("0", "7")
    assert len(report.mismatches) == 7


async def test_a_batch_received_since_explains_the_difference(migrated_url: str) -> None:
    async with psql(migrated_url) as connection:
        for number in range(3):
            await insert(
                connection,
                "stock_batches",
                id=f"received-{number}",
                itemId="item-Arrived",
                quantity=5,
                costPerUnitUSD=4.25,
                locationId="acme-main",
            )
    report = await report_on(migrated_url)
    assert failed(report) == {}
    assert (report.legacy_quantity, report.batch_quantity, report.explained_difference) == (45, 60, 15)


async def test_an_orphaned_batch_is_named(migrated_url: str) -> None:
    await change(
        migrated_url,
        'ALTER TABLE stock_batches DROP CONSTRAINT "stock_batches_itemId_fkey"',
        "DELETE FROM items WHERE id = 'item-Arrived'",
    )
    report = await report_on(migrated_url)
    found = {check.name: check for check in report.checks if not check.passed}
    assert set(found) == {"batches with an unknown itemId", "tables, keys and indexes"}
    detail = found["batches with an unknown itemId"].detail or ""
    assert detail.endswith(" of item item-Arrived (10 units)")
    assert found["tables, keys and indexes"].detail == "every batch's itemId must exist"


async def test_batches_that_refer_to_nothing_are_named(migrated_url: str) -> None:
    await change(
        migrated_url,
        'ALTER TABLE stock_batches DROP CONSTRAINT "stock_batches_locationId_fkey"',
        'ALTER TABLE stock_batches DROP CONSTRAINT "stock_batches_assignedUserId_fkey"',
        f"UPDATE stock_batches SET \"locationId\" = 'nowhere', \"assignedUserId\" = 'nobody' WHERE id = {OPENING}",
    )
    problems = failed(await report_on(migrated_url))
    assert problems["batches with an unknown locationId"] == ("0", "1")
    assert problems["batches with an unknown assignedUserId"] == ("0", "1")


async def test_a_table_of_batches_that_was_dropped_is_every_opening_batch_lost(migrated_url: str) -> None:
    await change(migrated_url, "DROP TABLE stock_batches")
    report = await report_on(migrated_url)
    assert len(report.mismatches) == 7
    assert failed(report)["opening batches"] == ("7", "0")
    assert failed(report)["quantities"] == ("45", "0")


async def test_an_item_made_since_is_not_copied_and_one_that_cannot_be_is_held_back(migrated_url: str) -> None:
    async with psql(migrated_url) as connection:
        await insert_item(connection, "item-new", quantityInStock=3)
        await connection.execute('ALTER TABLE items ALTER "costPerUnitUSD" DROP NOT NULL')
        await insert_item(connection, "no-cost", quantityInStock=4, costPerUnitUSD=None)
    report = await report_on(migrated_url)
    assert failed(report)["items copied"] == ("8", "7")
    assert [(found.item_id, found.legacy_quantity, found.batch_quantity) for found in report.mismatches] == [
        ("item-new", 3, None)
    ]
    held_back = next(check for check in report.checks if check.name == "held back")
    assert (held_back.passed, held_back.actual) == (True, "1")
    await migrate(migrated_url)
    assert failed(await report_on(migrated_url)) == {}


async def test_an_item_deleted_and_made_again_after_its_copy_is_named(migrated_url: str) -> None:
    """It has a ledger row and no opening batch: it answers 0, and is not copied again."""
    async with psql(migrated_url) as connection:
        await connection.execute("DELETE FROM items WHERE id = 'item-Arrived'")
        assert (await report_on(migrated_url)).state == "PASSED"
        await insert_item(connection, "item-Arrived", quantityInStock=6)
    assert (await migrate(migrated_url)).copied == 0
    report = await report_on(migrated_url)
    assert [(found.item_id, found.difference) for found in report.mismatches] == [("item-Arrived", -6)]
    assert "made again" in report.mismatches[0].cause


async def test_batches_of_an_item_that_was_never_copied_hide_its_stock_and_are_named(migrated_url: str) -> None:
    async with psql(migrated_url) as connection:
        await insert_item(connection, "item-new", quantityInStock=3)
        await insert(
            connection, "stock_batches", id="b", itemId="item-new", quantity=5, status="Sold", costPerUnitUSD=1.0
        )
    report = await report_on(migrated_url)
    mismatch = report.mismatches[0]
    assert (mismatch.item_id, mismatch.legacy_quantity, mismatch.batch_quantity) == ("item-new", 3, 5)
    assert mismatch.cause == "the item has batches but was never copied, so its legacy stock is hidden"
    assert failed(report)["hidden legacy stock"] == ("0", "1")


async def test_null_and_null_are_equal_and_null_and_a_value_are_not(migrated_url: str) -> None:
    await change(
        migrated_url,
        'ALTER TABLE items ALTER "quantityInStock" DROP NOT NULL, ALTER status DROP NOT NULL',
        "UPDATE items SET \"quantityInStock\" = NULL, status = NULL WHERE id = 'item-Arrived'",
        "UPDATE items SET \"quantityInStock\" = NULL WHERE id = 'item-nowhere'",
    )
    report = await report_on(migrated_url)
    assert [(found.item_id, found.fields) for found in report.mismatches] == [("item-Arrived", ["quantity", "status"])]
    assert report.mismatches[0].legacy_quantity == 0


async def test_totals_beyond_31_bits_are_exact_and_joins_multiply_nothing(migrated_url: str) -> None:
    largest = 2**31 - 1
    async with psql(migrated_url) as connection:
        await connection.execute(f'UPDATE items SET "quantityInStock" = {largest}')
        await connection.execute(f"UPDATE stock_batches SET quantity = {largest}")
        for number in range(40):
            await insert(
                connection,
                "stock_batches",
                id=f"received-{number}",
                itemId="item-Arrived",
                quantity=largest,
                costPerUnitUSD=1.0,
            )
    report = await report_on(migrated_url)
    assert failed(report) == {}
    assert report.legacy_quantity == 7 * largest
    assert report.batch_quantity == 47 * largest
    assert report.explained_difference == 40 * largest


async def test_a_company_sees_its_own_items_only(migrated_url: str) -> None:
    await change(
        migrated_url,
        "UPDATE stock_batches SET quantity = 1 WHERE \"itemId\" IN ('item-Arrived', 'item-globex')",
    )
    report = await report_on(migrated_url, "globex")
    assert (report.items_checked, report.items_mismatched) == (1, 1)
    assert (report.legacy_quantity, report.batch_quantity) == (7, 1)
    assert [found.item_id for found in report.mismatches] == ["item-globex"]
    assert "acme" not in str(report)
    nobody = await report_on(migrated_url, "no \\'such%s company")
    assert (nobody.items_checked, nobody.state) == (0, "PASSED")


async def test_a_company_is_not_shown_another_companys_broken_references(migrated_url: str) -> None:
    await change(
        migrated_url,
        'ALTER TABLE stock_batches DROP CONSTRAINT "stock_batches_itemId_fkey"',
        'ALTER TABLE stock_batches DROP CONSTRAINT "stock_batches_locationId_fkey"',
        f"UPDATE stock_batches SET \"locationId\" = 'nowhere' WHERE id = {OPENING}",
        "DELETE FROM items WHERE id = 'item-Sold'",
    )
    report = await report_on(migrated_url, "globex")
    assert set(failed(report)) == {"tables, keys and indexes"}


async def test_a_report_is_of_one_instant_whatever_is_written_meanwhile(migrated_url: str) -> None:
    """Between any two statements of the verification somebody sells; checks, totals and CSV agree all the same."""
    lines = io.BytesIO()
    async with engine_on(migrated_url) as engine, psql(migrated_url) as till:

        async def sell() -> None:
            await till.execute('UPDATE items SET "quantityInStock" = 1000000')
            await till.execute(
                'INSERT INTO items SELECT (jsonb_populate_record(i, \'{"id": "new"}\')).* FROM items i'
                " WHERE id = 'item-Sold'"
            )
            await till.execute('ALTER TABLE stock_batches DROP CONSTRAINT "stock_batches_itemId_fkey"')
            await till.execute("UPDATE stock_batches SET \"itemId\" = 'nothing' WHERE \"itemId\" = 'item-Ordered'")

        with once_before(engine, "WITH compared", sell):
            made = await verify(engine, requested_by="test", items_csv=lines)
        assert failed(made) == {}
        told = lines.getvalue().decode().splitlines()
        assert len(told) == 1 + 7
        assert all(line.split(",")[5] == "MATCH" for line in told[1:])
        assert not (await verify(engine, requested_by="test")).passed


async def test_the_csv_has_a_line_for_every_item_with_values_and_result(migrated_url: str) -> None:
    await change(
        migrated_url,
        f"UPDATE stock_batches SET quantity = 12, notes = 'x' WHERE id = {OPENING}",
        "UPDATE items SET name = E'a \\\"b\\\",\\nc' WHERE id = 'item-Sold'",
    )
    lines = io.BytesIO()
    await verified(migrated_url, items_csv=lines, company="acme")
    told = lines.getvalue().decode()
    assert told.startswith(
        "item_id,item_name,legacy_quantity,batch_quantity,difference,result,fields,outcome\n"
        "item-Arrived,item-Arrived,10,12,2,MISMATCH,quantity notes,FIELDS_DIFFER\n"
        'item-Ordered,item-Ordered,10,10,0,MATCH,"",MATCH\n'
        'item-Sold,"a ""b"",\nc",10,10,0,MATCH,"",MATCH\n'
    )
    assert "globex" not in told


async def test_the_csv_of_a_company_is_of_that_company_whatever_its_id(shop_url: str) -> None:
    company = "50% o'f \\ acme"
    async with psql(shop_url) as connection:
        await connection.execute('INSERT INTO companies (id, name, "updatedAt") VALUES ($1, $1, now())', company)
        await insert_item(connection, "theirs", companyId=company)
        await insert_item(connection, "others")
    await migrate(shop_url)
    lines = io.BytesIO()
    await verified(shop_url, items_csv=lines, company=company)
    assert [line.split(",")[0] for line in lines.getvalue().decode().splitlines()] == ["item_id", "theirs"]


async def test_an_adopted_batch_is_verified_as_any_other(items_url: str) -> None:
    await change(items_url, BATCHES, EQUAL)
    await migrate(items_url)
    assert failed(await report_on(items_url)) == {}
    await change(items_url, "UPDATE stock_batches SET quantity = 1 WHERE \"itemId\" = 'item-Sold'")
    assert [found.item_id for found in (await report_on(items_url)).mismatches] == ["item-Sold"]
