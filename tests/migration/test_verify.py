"""Verification: what was done behind our back is found and named, item by item, in one snapshot (R19-R23)."""

import io

import pytest

from migration.checks import Check
from migration.findings import CHECKED
from migration.options import Options
from migration.report import VerificationReport, load_report
from migration.verify import MigrationNotStarted, Verified, verify
from tests.migration.support import UNFOLLOWED, engine_on, migrate, once_before, verified
from tests.migration.test_plan import BATCHES, change
from tests.migration.test_variants import EQUAL
from tests.support import insert, insert_item, psql


async def report_on(url: str, company: str | None = None) -> VerificationReport:
    async with engine_on(url) as engine:
        made = await verify(engine, company=company, requested_by="test")
        async with engine.connect() as connection:
            report = await load_report(connection, made.id, company)
    assert report is not None
    assert report.checks == list(made.checks)
    assert report.items_mismatched == made.mismatched == sum(found.kind not in CHECKED for found in report.mismatches)
    assert report.state == ("PASSED" if made.passed else "FAILED")
    return report


def failed(report: VerificationReport | Verified) -> dict[str, tuple[str | None, str | None]]:
    return {check.name: (check.expected, check.actual) for check in report.checks if not check.passed}


def check(report: VerificationReport, name: str) -> Check:
    return next(check for check in report.checks if check.name == name)


async def test_before_the_expansion_there_is_nothing_to_verify_and_nothing_is_made(items_url: str) -> None:
    with pytest.raises(MigrationNotStarted):
        await verified(items_url)
    async with psql(items_url) as connection:
        assert await connection.fetchval("SELECT to_regnamespace('stockshift')") is None


@pytest.mark.parametrize(
    ("tampering", "named"),
    [
        (UNFOLLOWED, "trigger stockshift_follow_update on public.items is disabled, or not always enabled"),
        (
            "ALTER TABLE stock_batches ENABLE TRIGGER stockshift_move_delete",
            "trigger stockshift_move_delete on public.stock_batches is disabled, or not always enabled",
        ),
        (
            "DROP TRIGGER stockshift_follow_truncate ON items",
            "trigger stockshift_follow_truncate on public.items is missing",
        ),
        (
            """
            CREATE OR REPLACE FUNCTION stockshift.move_batch() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
            AS 'BEGIN RETURN NULL; END'
            """,
            "function stockshift.move_batch is missing or altered",
        ),
        (
            "ALTER FUNCTION stockshift.follow_deleted_items() SECURITY INVOKER",
            "function stockshift.follow_deleted_items is missing or altered",
        ),
        (
            """
            ALTER TABLE stock_batches DROP CONSTRAINT "stock_batches_itemId_fkey",
                ADD CONSTRAINT k FOREIGN KEY ("itemId") REFERENCES items ON DELETE CASCADE NOT VALID
            """,
            "key k was not validated: it holds for new batches only",
        ),
        (
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'stockshift_items_name_idx'::regclass",
            "index stockshift_items_name_idx is invalid, and used by nobody",
        ),
    ],
)
async def test_what_is_missing_altered_disabled_or_not_valid_is_named(
    migrated_url: str, tampering: str, named: str
) -> None:
    await change(migrated_url, tampering)
    report = await report_on(migrated_url)
    assert failed(report) == {"tables, keys and indexes": ("0", "1")}
    assert check(report, "tables, keys and indexes").detail == named
    await change(migrated_url, "UPDATE stockshift.migration_run SET kind = 'online', state = 'RUNNING', stage = 'keys'")
    will_be_made = "not validated" in named or "is invalid" in named
    assert check(await report_on(migrated_url), "tables, keys and indexes").passed is will_be_made
    await change(migrated_url, "UPDATE stockshift.migration_run SET stage = 'verify'")
    assert check(await report_on(migrated_url), "tables, keys and indexes").passed is False


async def test_after_a_migration_everything_matches(migrated_url: str) -> None:
    report = await report_on(migrated_url)
    assert failed(report) == {}
    assert (report.items_checked, report.items_matched, report.items_mismatched) == (7, 7, 0)
    assert (report.legacy_quantity, report.batch_quantity, report.explained_difference) == (45, 45, 0)
    assert report.requested_by == "test"
    assert report.finished_at is not None
    assert report.finished_at >= report.started_at


OPENING = "(SELECT batch_id FROM stockshift.copy_ledger WHERE item_id = 'item-Arrived')"
UNSEEN = f"{UNFOLLOWED}; "
SOLD_ONE = 'UPDATE items SET "quantityInStock" = "quantityInStock" - 1 WHERE id = \'item-Arrived\''
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
            UNSEEN + "UPDATE items SET \"quantityInStock\" = 8, \"orderDate\" = '2026-02-03' WHERE id = 'item-Arrived'",
            (8, 10, 2),
            ["quantity", "orderDate"],
            "the legacy columns were written after the copy, and nothing recorded it",
            "set batch {opening} to the legacy columns: quantity 10 -> 8, orderDate NULL -> 2026-02-03 00:00:00",
        ),
        (
            (
                f"{UNSEEN} UPDATE stock_batches SET quantity = 12 WHERE id = {OPENING};"
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
            AGAIN + f"; {UNSEEN} UPDATE items SET \"quantityInStock\" = 4 WHERE id = 'item-Arrived'",
            (4, 20, 16),
            ["quantity"],
            "a second batch has the item's own time of creation: the item was copied twice",
            (
                "decide: delete batch second of item-Arrived if it is a copy; if it is stock, give it a createdAt"
                " of its own"
            ),
        ),
        (
            f"{SOLD_ONE}; {UNSEEN} {SOLD_ONE}",
            (8, 9, 1),
            ["quantity"],
            "the legacy columns were written after the copy, and nothing recorded it",
            "set batch {opening} to the legacy columns: quantity 9 -> 8",
        ),
        (
            f"{SOLD_ONE}; UPDATE stock_batches SET quantity = 12 WHERE id = {OPENING}",
            (9, 12, 3),
            ["quantity"],
            "the opening batch was changed after the copy",
            "set batch {opening} to the legacy columns: quantity 12 -> 9",
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
    assert detail.endswith(" (10 units) refers to item-Arrived, which is not there")
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
    assert [found.kind for found in report.mismatches] == ["BATCH_LOST"] * 7 + ["UNBALANCED"] * 6
    assert failed(report)["opening batches"] == ("7", "0")
    assert failed(report)["quantities"] == ("45", "0")


async def test_an_item_made_since_is_no_mismatch_until_the_next_copy_and_one_that_cannot_be_is_held_back(
    migrated_url: str,
) -> None:
    async with psql(migrated_url) as connection:
        await insert_item(connection, "item-new", quantityInStock=3)
        await connection.execute('ALTER TABLE items ALTER "costPerUnitUSD" DROP NOT NULL')
        await insert_item(connection, "no-cost", quantityInStock=4, costPerUnitUSD=None)
    report = await report_on(migrated_url)
    assert failed(report) == {}
    assert (report.items_checked, report.items_matched, report.explained_difference) == (9, 7, -7)
    assert check(report, "items copied").detail == (
        "1 new since the copy; answered from their legacy columns until `stockshift migrate` is run again"
    )
    assert check(report, "quantities").detail == "legacy 52, received since 0, not on batches 7"
    assert check(report, "held back").actual == "1"
    await migrate(migrated_url)
    assert failed(await report_on(migrated_url)) == {}


async def test_an_item_without_a_record_is_a_mismatch_while_it_is_not_copied(migrated_url: str) -> None:
    async with psql(migrated_url) as connection:
        await connection.execute("ALTER TABLE items DISABLE TRIGGER stockshift_follow_insert")
        await insert_item(connection, "item-new", quantityInStock=3)
    report = await report_on(migrated_url)
    assert failed(report)["items copied"] == ("8", "7")
    assert failed(report)["quantities"] == ("48", "45")
    assert [(found.item_id, found.legacy_quantity, found.batch_quantity) for found in report.mismatches] == [
        ("item-new", 3, None)
    ]
    assert "no write of it since the last run is recorded" in report.mismatches[0].cause


async def test_a_record_from_before_the_last_run_explains_nothing(migrated_url: str) -> None:
    """A run that begins after it should have copied the item."""
    async with psql(migrated_url) as connection:
        await insert_item(connection, "item-new", quantityInStock=3)
        await connection.execute("UPDATE stockshift.legacy_write SET at = at - interval '1 hour'")
    assert [found.item_id for found in (await report_on(migrated_url)).mismatches] == ["item-new"]


async def test_an_item_that_became_copyable_by_a_write_is_no_mismatch_until_the_next_copy(items_url: str) -> None:
    async with psql(items_url) as connection:
        await connection.execute("ALTER TABLE items ALTER status DROP NOT NULL")
        await insert_item(connection, "nothing", quantityInStock=0, status=None)
        await migrate(items_url)
        await connection.execute("UPDATE items SET \"quantityInStock\" = 5, status = 'Sold' WHERE id = 'nothing'")
    report = await report_on(items_url)
    assert failed(report) == {}
    assert (report.items_matched, report.explained_difference) == (7, -5)


@pytest.mark.parametrize("state", ["RUNNING", "PAUSED", "CANCELLED", "FAILED"])
async def test_in_the_middle_of_a_copy_what_is_copied_matches_and_the_rest_is_explained(
    items_url: str, state: str
) -> None:
    """As of a first run: also when it was stopped. What was begun, and what was recorded, is all that is known."""
    await migrate(items_url, options=Options(items=("item-Sold", "item-globex")))
    async with psql(items_url) as connection:
        await connection.execute("UPDATE stockshift.migration_run SET state = $1, options = NULL", state)
    report = await report_on(items_url)
    assert failed(report) == {}
    assert (report.items_checked, report.items_matched, report.explained_difference) == (7, 2, -28)


async def test_a_run_of_some_items_leaves_the_others_to_a_run_of_all(items_url: str) -> None:
    await migrate(items_url, options=Options(items=("item-Sold",)))
    report = await report_on(items_url)
    assert failed(report) == {}
    assert (report.items_matched, check(report, "items copied").actual) == (1, "1")


async def test_an_item_deleted_and_made_again_after_its_copy_has_its_opening_batch_again(migrated_url: str) -> None:
    async with psql(migrated_url) as connection:
        await connection.execute("DELETE FROM items WHERE id = 'item-Arrived'")
        assert (await report_on(migrated_url)).state == "PASSED"
        await insert_item(connection, "item-Arrived", quantityInStock=6)
        assert failed(await report_on(migrated_url)) == {}
        await connection.execute("DELETE FROM items WHERE id = 'item-Arrived'")
        await connection.execute("ALTER TABLE items DISABLE TRIGGER stockshift_follow_insert")
        await insert_item(connection, "item-Arrived", quantityInStock=6)
    assert (await migrate(migrated_url)).copied == 0
    async with psql(migrated_url) as connection:
        await connection.execute("ALTER TABLE items DISABLE TRIGGER stockshift_follow_insert")
    report = await report_on(migrated_url)
    assert [(found.item_id, found.difference) for found in report.mismatches] == [("item-Arrived", -6)]
    assert "made again" in report.mismatches[0].cause


async def test_what_the_opening_batch_could_not_take_is_named_with_its_writer(migrated_url: str) -> None:
    await change(migrated_url, "ALTER TABLE items ALTER status DROP NOT NULL")
    async with psql(migrated_url, application_name="old till") as connection:
        await connection.execute("UPDATE items SET status = NULL, notes = 'gone' WHERE id = 'item-Arrived'")
        at = await connection.fetchval(
            "SELECT to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') FROM stockshift.legacy_write"
        )
    async with psql(migrated_url, application_name="new till") as connection:
        await connection.execute("UPDATE items SET notes = 'found' WHERE id = 'item-Arrived'")
    report = await report_on(migrated_url)
    assert [(found.item_id, found.fields, found.cause) for found in report.mismatches] == [
        (
            "item-Arrived",
            ["status"],
            (
                f"the legacy columns were written by application old till at {at} UTC, and the opening batch could"
                " not take it"
            ),
        )
    ]
    await change(migrated_url, f'UPDATE stock_batches SET "costPerUnitUSD" = 1 WHERE id = {OPENING}')
    both = "the legacy columns and the opening batch were both changed after the copy"
    assert [found.cause for found in (await report_on(migrated_url)).mismatches] == [both]
    await change(migrated_url, "UPDATE items SET status = 'Sold', \"costPerUnitUSD\" = 2 WHERE id = 'item-Arrived'")
    assert failed(await report_on(migrated_url)) == {}


CUT_OVER = "UPDATE stockshift.copy_ledger SET cut_over_at = clock_timestamp() WHERE item_id = 'item-Arrived'"


async def test_an_item_that_is_cut_over_matches_whatever_its_batches_say(migrated_url: str) -> None:
    await change(migrated_url, CUT_OVER, f"UPDATE stock_batches SET quantity = 3, status = 'Sold' WHERE id = {OPENING}")
    async with psql(migrated_url) as connection:
        await insert(
            connection, "stock_batches", id="b", itemId="item-Arrived", quantity=5, status="Sold", costPerUnitUSD=1.0
        )
    lines = io.BytesIO()
    report = await report_on(migrated_url)
    assert failed(report) == {}
    assert (report.items_matched, report.legacy_quantity, report.batch_quantity) == (7, 45, 43)
    assert report.explained_difference == -2
    assert check(report, "quantities").detail == (
        "legacy 45, received since 0, not on batches 0, changed since their cut-over -2"
    )
    await change(migrated_url, "DELETE FROM stock_batches WHERE \"itemId\" = 'item-Arrived'")
    assert failed(await report_on(migrated_url)) == {}
    await verified(migrated_url, items_csv=lines)
    assert 'item-Arrived,item-Arrived,10,,-10,MATCH,"",CUT_OVER\n' in lines.getvalue().decode()


async def test_a_legacy_write_after_the_cut_over_is_drift(migrated_url: str) -> None:
    await change(
        migrated_url,
        "UPDATE items SET notes = 'before' WHERE id IN ('item-Arrived', 'item-Sold')",
        "UPDATE stockshift.legacy_write SET followed = false",
        CUT_OVER,
    )
    assert failed(await report_on(migrated_url)) == {}
    async with psql(migrated_url, application_name="old till") as connection:
        await connection.execute('UPDATE items SET "quantityInStock" = 1')
    report = await report_on(migrated_url)
    assert failed(report) == {"drift": ("0", "1")}
    assert (check(report, "drift").detail or "").startswith(
        'item item-Arrived: the legacy columns were written 1 times since the cut-over: {"quantityInStock": 10} ->'
    )
    await change(migrated_url, "UPDATE items SET id = 'renamed' WHERE id = 'item-Arrived'")
    assert failed(await report_on(migrated_url)) == {"drift": ("0", "1")}, "another id is no legacy column"
    assert failed(await report_on(migrated_url, "globex")) == {}
    await change(migrated_url, "UPDATE stockshift.legacy_write SET followed = true")
    assert failed(await report_on(migrated_url)) == {}


UNMOVED = "ALTER TABLE stock_batches DISABLE TRIGGER stockshift_move_update; "


@pytest.mark.parametrize(
    ("tampering", "found"),
    [
        (
            UNMOVED + "UPDATE stock_batches SET quantity = 12 WHERE \"itemId\" = 'item-Arrived'",
            "item item-Arrived: 10 copied, 0 moved, 12 there",
        ),
        (
            "DELETE FROM stock_batches WHERE \"itemId\" = 'item-Arrived'; DELETE FROM stockshift.movement",
            "item item-Arrived: 10 copied, 0 moved, 0 there",
        ),
        (
            "UPDATE stockshift.copy_ledger SET original = '{\"quantityInStock\": null}' WHERE item_id = 'item-Arrived'",
            "item item-Arrived: 0 copied, 0 moved, 10 there",
        ),
        (
            SOLD_ONE + "; UPDATE stockshift.movement SET delta = delta + 1",
            "item item-Arrived: 10 copied, 0 moved, 9 there",
        ),
    ],
)
async def test_a_quantity_without_its_movement_is_named(migrated_url: str, tampering: str, found: str) -> None:
    async with psql(migrated_url) as connection:
        await connection.execute(tampering)
    report = await report_on(migrated_url)
    assert failed(report)["baseline plus movements"] == ("0", "1")
    assert check(report, "baseline plus movements").detail == found
    assert "baseline plus movements" not in failed(await report_on(migrated_url, "globex"))


async def test_baseline_and_movements_agree_after_writes_of_every_kind(migrated_url: str) -> None:
    await change(
        migrated_url,
        'UPDATE items SET "quantityInStock" = "quantityInStock" - 3',
        *[
            'INSERT INTO stock_batches (id, quantity, "costPerUnitUSD", "updatedAt", "itemId")'
            f" VALUES ('b{number}', 5, 1, now(), 'item-Arrived')"
            for number in range(4)
        ],
        "UPDATE stock_batches SET quantity = 2, id = 'c0' WHERE id = 'b0'",
        "UPDATE stock_batches SET \"itemId\" = 'item-Sold' WHERE id = 'b1'",
        "DELETE FROM stock_batches WHERE id = 'b2'",
        "DELETE FROM items WHERE id = 'item-Ordered'",
        "UPDATE items SET id = 'item-Ordered' WHERE id = 'item-ToOrder'",
        'INSERT INTO items SELECT (jsonb_populate_record(i, \'{"id": "item-ToOrder"}\')).* FROM items i'
        " WHERE id = 'item-Sold'",
        "DELETE FROM items WHERE id = 'item-globex'",
        'INSERT INTO items SELECT (jsonb_populate_record(i, \'{"id": "item-globex"}\')).* FROM items i'
        " WHERE id = 'item-Sold'",
    )
    assert failed(await report_on(migrated_url)) == {}
    await change(migrated_url, "TRUNCATE items CASCADE")
    assert failed(await report_on(migrated_url)) == {}


async def test_batches_from_before_the_copy_are_no_part_of_its_balance(items_url: str) -> None:
    """Held back for batches that go, adopted with a batch that moved before, adopted with one that never did."""
    await change(items_url, BATCHES, EQUAL + " WHERE id IN ('item-Arrived', 'item-Ordered', 'item-Sold')")
    await change(items_url, "UPDATE stock_batches SET quantity = 3 WHERE \"itemId\" <> 'item-Sold'")
    assert (await migrate(items_url)).held_back == 2
    await change(
        items_url,
        "DELETE FROM stock_batches WHERE \"itemId\" = 'item-Arrived'",
        "UPDATE stock_batches SET quantity = 10 WHERE \"itemId\" = 'item-Ordered'",
        "UPDATE items SET \"quantityInStock\" = 6 WHERE id = 'item-Sold'",
    )
    outcome = await migrate(items_url)
    assert (outcome.copied, outcome.adopted) == (2, 1)
    await change(items_url, 'UPDATE items SET "quantityInStock" = "quantityInStock" + 1')
    assert failed(await report_on(items_url)) == {}


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
        UNFOLLOWED,
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

        with once_before(engine, "AS counted", sell):
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


NEVER_FIRES = """
CREATE OR REPLACE TRIGGER stockshift_follow_update AFTER UPDATE ON items FOR EACH ROW WHEN (false)
EXECUTE FUNCTION stockshift.follow_item()
"""


@pytest.mark.parametrize("tampering", ["ALTER FUNCTION stockshift.follow_item() RESET search_path", NEVER_FIRES])
async def test_a_trigger_that_is_there_by_name_alone_is_named_and_put_right(migrated_url: str, tampering: str) -> None:
    await change(migrated_url, tampering)
    found = {check.name: check for check in (await verified(migrated_url)).checks}
    assert not found["tables, keys and indexes"].passed
    await migrate(migrated_url)
    assert (await verified(migrated_url)).passed
