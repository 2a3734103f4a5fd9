"""Every copied item is as it was copied, or was changed by writes that are recorded (R20)."""

import pytest

from db import tables
from tests.migration.support import UNFOLLOWED, migrate
from tests.migration.test_defects import OPENING, UNMOVED, opening
from tests.migration.test_plan import change
from tests.migration.test_verify import check, failed, report_on
from tests.support import insert_item, psql

ITEM = "WHERE id = 'item-Arrived'"
CHANGES = {
    "quantityInStock": "9",
    "status": "'Sold'",
    "costPerUnitUSD": "4.250001",
    "freightCostUSD": "0",
    "orderDate": "'2026-02-03'",
    "expectedArrival": "'2026-02-03 04:05:06.789'",
    "orderNumber": "'4711'",
    "notes": "''",
    "locationId": "NULL",
    "assignedUserId": "'globex-user'",
}


def set_item(changes: dict[str, str]) -> str:
    values = ", ".join(f'"{column}" = {value}' for column, value in changes.items())
    return f"UPDATE items SET {values} {ITEM}"


def set_opening(changes: dict[str, str]) -> list[str]:
    batch = {legacy: name for name, legacy in tables.COMPARED_COLUMNS.items()}
    return [opening(batch[column], value) for column, value in changes.items()]


@pytest.mark.parametrize("columns", [list(CHANGES), ["notes"], ["locationId", "assignedUserId"]], ids=len)
async def test_a_change_that_nobody_recorded_is_named_with_its_columns(migrated_url: str, columns: list[str]) -> None:
    """Also where the batch was changed alike, so that both systems agree."""
    changes = {column: CHANGES[column] for column in columns}
    await change(migrated_url, UNFOLLOWED, UNMOVED, set_item(changes), *set_opening(changes))
    report = await report_on(migrated_url)
    assert failed(report)["originals"] == ("0", "1")
    named = f"item item-Arrived: {', '.join(columns)} changed, and no write of it is recorded"
    assert check(report, "originals").detail == named
    assert "items match" not in failed(report)


async def test_recorded_writes_are_no_mismatch_however_many_and_whatever_the_last_is(migrated_url: str) -> None:
    await change(
        migrated_url,
        *[f'UPDATE items SET "{column}" = {value} {ITEM}' for column, value in CHANGES.items()],
        f"UPDATE items SET notes = NULL, \"orderNumber\" = 'x' {ITEM}",
        f'UPDATE items SET "orderNumber" = NULL, "costPerUnitUSD" = 0.1::float8 + 0.2::float8 {ITEM}',
    )
    assert failed(await report_on(migrated_url)) == {}


async def test_a_change_behind_the_last_recorded_one_is_named(migrated_url: str) -> None:
    """The record says what the column was last written to, not only that it was."""
    unseen = f"{UNFOLLOWED}; {UNMOVED}"
    await change(
        migrated_url,
        f"UPDATE items SET notes = 'known', \"orderNumber\" = '1' {ITEM}",
        f"{unseen} UPDATE items SET notes = 'unknown' {ITEM}; " + opening("notes", "'unknown'"),
    )
    report = await report_on(migrated_url)
    assert check(report, "originals").detail == "item item-Arrived: notes changed, and no write of it is recorded"


async def test_a_record_that_was_deleted_explains_nothing(migrated_url: str) -> None:
    await change(migrated_url, f"UPDATE items SET notes = 'x' {ITEM}", "DELETE FROM stockshift.legacy_write")
    assert failed(await report_on(migrated_url)) == {"originals": ("0", "1")}


async def test_a_kept_row_that_was_altered_is_named(migrated_url: str) -> None:
    altered = "jsonb_set(original::jsonb, '{notes}', '\"forged\"')::json"
    await change(migrated_url, f"UPDATE stockshift.copy_ledger SET original = {altered} WHERE batch_id = {OPENING}")
    assert failed(await report_on(migrated_url)) == {"originals": ("0", "1")}


async def test_a_column_that_is_none_of_the_legacy_ones_may_change(migrated_url: str) -> None:
    await change(migrated_url, f'UPDATE items SET name = \'x\', "sellingPriceSRD" = 1, "updatedAt" = now() {ITEM}')
    assert failed(await report_on(migrated_url)) == {}


async def test_of_a_ledger_without_fingerprints_the_rows_themselves_are_compared(migrated_url: str) -> None:
    """One of an earlier version has none; that is no mismatch."""
    await change(migrated_url, "UPDATE stockshift.copy_ledger SET fingerprint = NULL")
    assert failed(await report_on(migrated_url)) == {}
    await change(migrated_url, f"{UNFOLLOWED}; UPDATE items SET notes = 'x' {ITEM}")
    assert failed(await report_on(migrated_url))["originals"] == ("0", "1")


async def test_a_cut_over_item_that_was_written_unseen_is_named_although_it_matches(migrated_url: str) -> None:
    cut_over = f"UPDATE stockshift.copy_ledger SET cut_over_at = now() WHERE batch_id = {OPENING}"
    await change(migrated_url, cut_over, f'{UNFOLLOWED}; UPDATE items SET "quantityInStock" = 3 {ITEM}')
    assert set(failed(await report_on(migrated_url))) == {"originals", "tables, keys and indexes"}


async def test_costs_of_any_sort_are_known_again(items_url: str) -> None:
    costs = ("NaN", "Infinity", "-0", "1e-300", "0.30000000000000004", "1e308")
    async with psql(items_url) as connection:
        for number, cost in enumerate(costs):
            await insert_item(connection, f"odd-{number}", costPerUnitUSD=float(cost), freightCostUSD=float(cost))
    await migrate(items_url)
    assert failed(await report_on(items_url)) == {}
    await change(
        items_url, *[f"UPDATE items SET notes = 'x' WHERE id = 'odd-{number}'" for number in range(len(costs))]
    )
    assert failed(await report_on(items_url)) == {}


async def test_a_cost_that_a_session_recorded_with_fewer_digits_is_the_same(migrated_url: str) -> None:
    """The record has fifteen digits of it, as that session shows it."""
    await change(
        migrated_url,
        f'SET extra_float_digits = 0; UPDATE items SET "costPerUnitUSD" = 0.1::float8 + 0.2::float8 {ITEM}',
    )
    assert failed(await report_on(migrated_url)) == {}


async def test_a_company_is_told_of_its_own_items(migrated_url: str) -> None:
    await change(migrated_url, f"{UNFOLLOWED}; UPDATE items SET notes = 'x' {ITEM}")
    assert "originals" not in failed(await report_on(migrated_url, "globex"))
