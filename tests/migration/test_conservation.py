"""What was copied and what moved since is what is there, by company, location and status, to the cent (R12, R20)."""

from decimal import Decimal

import pytest

from migration.report import Conservation, VerificationReport
from tests.migration.support import migrate
from tests.migration.test_defects import CUT_OVER, OPENING, RECEIVED, UNMOVED, opening
from tests.migration.test_plan import BATCHES, change
from tests.migration.test_variants import EQUAL
from tests.migration.test_verify import check, failed, report_on
from tests.support import insert_item, psql

HERE = RECEIVED.format("item-Arrived", "'acme-main'").strip(" \n;")
ARRIVED = ("acme", "acme-main", "Arrived")
HARBOUR = ("acme", "acme-harbour", "Arrived")


def place(one: Conservation) -> tuple[str | None, str | None, str | None]:
    return one.company_id, one.location_id, one.status


def proof(report: VerificationReport) -> dict[tuple[str | None, str | None, str | None], Conservation]:
    found = {place(one): one for one in report.conservation}
    assert len(found) == len(report.conservation), "a place has one line"
    return found


def totals(report: VerificationReport, side: str) -> list[Decimal]:
    names = (f"{side}_units", f"{side}_value", f"{side}_freight")
    return [sum((Decimal(getattr(one, name)) for one in report.conservation), Decimal(0)) for name in names]


async def test_after_a_copy_each_place_has_what_was_copied_there(migrated_url: str) -> None:
    report = await report_on(migrated_url)
    found = proof(report)
    # 10 units of 4.25 at each status; at Arrived also the -2 that were sold twice.
    assert found["acme", "acme-main", "Sold"] == Conservation(
        "acme", "acme-main", "Sold", 10, 0, 10, "42.50", "0", "42.50", "12.5", "0", "12.5", conserved=True
    )
    assert (found[ARRIVED].batch_units, found[ARRIVED].batch_value, found[ARRIVED].batch_freight) == (
        8,
        "34.00",
        "25.0",
    )
    assert found["globex", "globex-main", "Arrived"].copied_value == "29.75"
    assert found["acme", None, "Arrived"].batch_freight == "12.5"
    assert check(report, "conservation").detail == "45 units, 191.25 USD, freight 87.50 USD"


async def test_every_movement_is_between_its_places_in_units_value_and_freight(migrated_url: str) -> None:
    await change(
        migrated_url,
        HERE,
        "UPDATE stock_batches SET quantity = 3, \"freightCostUSD\" = 0.1 WHERE id = 'received'",
        "UPDATE stock_batches SET \"locationId\" = 'acme-harbour', \"costPerUnitUSD\" = 5.05 WHERE id = 'received'",
        'UPDATE items SET "freightCostUSD" = 12.75, "costPerUnitUSD" = 4.26 WHERE id = \'item-Sold\'',
        "UPDATE items SET status = 'Sold' WHERE id = 'item-Ordered'",
    )
    report = await report_on(migrated_url)
    assert failed(report) == {}
    found = proof(report)
    harbour, sold, ordered = found[HARBOUR], found["acme", "acme-main", "Sold"], found["acme", "acme-main", "Ordered"]
    assert (harbour.copied_units, harbour.moved_units, harbour.batch_units) == (0, 3, 3)
    assert [Decimal(amount) for amount in (harbour.moved_value, harbour.batch_value)] == [Decimal("15.15")] * 2
    assert [Decimal(amount) for amount in (harbour.moved_freight, harbour.batch_freight)] == [Decimal("0.1")] * 2
    assert (found[ARRIVED].moved_units, found[ARRIVED].moved_value) == (0, "0.00"), "it came, and went on"
    assert (sold.copied_units, sold.moved_units, sold.batch_units) == (10, 10, 20)
    assert Decimal(sold.batch_value) == 10 * Decimal("4.26") + 10 * Decimal("4.25")
    assert Decimal(sold.moved_freight) == Decimal("12.75")  # 0.25 more, and the other's 12.5
    assert (ordered.copied_units, ordered.moved_units, ordered.batch_units) == (10, -10, 0)
    for each in report.conservation:
        assert each.copied_units + each.moved_units == each.batch_units
    before, moved, there = (totals(report, side) for side in ("copied", "moved", "batch"))
    assert [one + other for one, other in zip(before, moved, strict=True)] == there


BROKEN = {
    "a cent of freight": (
        UNMOVED + opening("freightCostUSD", "12.51"),
        {ARRIVED: "freight 25.00 copied, 0 moved, 25.01 there"},
    ),
    "a cent of a unit's cost": (UNMOVED + opening("costPerUnitUSD", "4.26"), {ARRIVED: "value 34.00 copied"}),
    "a unit": (UNMOVED + opening("quantity", "11"), {ARRIVED: "units 8 copied, 0 moved, 9 there"}),
    "a place": (
        UNMOVED + opening("locationId", "'acme-harbour'"),
        {ARRIVED: "units 8 copied, 0 moved, -2 there", HARBOUR: "units 0 copied, 0 moved, 10 there"},
    ),
    "a status": (
        UNMOVED + opening("status", "'Ordered'"),
        {ARRIVED: "-2 there", ("acme", "acme-main", "Ordered"): "20 there"},
    ),
    "a movement's cost": (
        f"{HERE}; UPDATE stockshift.movement SET unit_cost = 4.24",
        {ARRIVED: "value 34.00 copied, 21.20 moved, 55.25 there"},
    ),
    "a movement's place": (
        f"{HERE}; UPDATE stockshift.movement SET location_id = 'acme-harbour'",
        {ARRIVED: "units 8 copied, 0 moved, 13 there", HARBOUR: "units 0 copied, 5 moved, 0 there"},
    ),
    "what the ledger kept": (
        (
            "UPDATE stockshift.copy_ledger SET original = jsonb_set(original::jsonb, '{freightCostUSD}', '1')::json"
            " WHERE item_id = 'item-Arrived'"
        ),
        {ARRIVED: "freight 13.5 copied, 0 moved, 25.0 there"},
    ),
    "another company": (
        f"{CUT_OVER}; {UNMOVED} UPDATE stock_batches SET \"itemId\" = 'item-globex' WHERE id = {OPENING}",
        {ARRIVED: "8 copied, 0 moved, -2 there", ("globex", "acme-main", "Arrived"): "0 copied, 0 moved, 10 there"},
    ),
}


@pytest.mark.parametrize(("sql", "named"), BROKEN.values(), ids=BROKEN)
async def test_what_is_not_conserved_is_named_with_its_place(
    migrated_url: str, sql: str, named: dict[tuple[str, str, str], str]
) -> None:
    await change(migrated_url, sql)
    report = await report_on(migrated_url)
    assert failed(report)["conservation"] == ("0", str(len(named)))
    assert {place(one) for one in report.conservation if not one.conserved} == set(named)
    detail = check(report, "conservation").detail or ""
    for (company, location, status), words in named.items():
        told = detail.partition(f"company {company}, location {location}, {status}: ")[2].partition("; ")[0]
        assert words in told, detail


async def test_freight_is_added_up_to_the_last_digit(items_url: str) -> None:
    """As doubles 0.1 three times is more than 0.3; and the cheapest is not lost beside the dearest."""
    async with psql(items_url) as connection:
        for number in range(3):
            await insert_item(
                connection, f"tenth-{number}", freightCostUSD=0.1, costPerUnitUSD=1e-9, locationId="acme-harbour"
            )
        await insert_item(
            connection, "dear", freightCostUSD=1e15, costPerUnitUSD=1e15, locationId="acme-harbour", quantityInStock=1
        )
    await migrate(items_url)
    report = await report_on(items_url)
    assert failed(report) == {}
    harbour = proof(report)[HARBOUR]
    assert Decimal(harbour.batch_freight) == Decimal("1000000000000000.3")
    assert Decimal(harbour.batch_value) == Decimal("1000000000000000.00000003")
    await change(items_url, UNMOVED, 'UPDATE stock_batches SET "costPerUnitUSD" = 2e-9 WHERE "itemId" = \'tenth-0\'')
    assert "conservation" in failed(await report_on(items_url))


async def test_what_is_no_amount_of_money_is_none_and_hides_nothing_else(migrated_url: str) -> None:
    await change(
        migrated_url,
        "UPDATE items SET \"costPerUnitUSD\" = 'NaN', \"freightCostUSD\" = '-Infinity' WHERE id = 'item-Arrived'",
    )
    report = await report_on(migrated_url)
    assert failed(report) == {}
    assert Decimal(proof(report)[ARRIVED].batch_value) == -2 * Decimal("4.25")
    await change(migrated_url, UNMOVED, opening("quantity", "11"))
    assert failed(await report_on(migrated_url))["conservation"] == ("0", "1")


async def test_a_batch_that_was_adopted_and_had_moved_before_has_no_baseline_and_the_others_have(
    items_url: str,
) -> None:
    await change(items_url, BATCHES, EQUAL + " WHERE id IN ('item-Ordered', 'item-Sold')")
    await change(items_url, "UPDATE stock_batches SET quantity = 3 WHERE \"itemId\" = 'item-Ordered'")
    await migrate(items_url)
    await change(items_url, "UPDATE stock_batches SET quantity = 10 WHERE \"itemId\" = 'item-Ordered'")
    assert (await migrate(items_url)).adopted == 1
    report = await report_on(items_url)
    assert failed(report) == {}
    assert ("acme", "acme-main", "Ordered") not in proof(report)
    assert proof(report)["acme", "acme-main", "Sold"].batch_units == 10


async def test_a_batch_that_came_while_its_item_was_copied_and_has_gone_since_adds_up_to_nothing(
    migrated_url: str,
) -> None:
    copied_now = "UPDATE stockshift.copy_ledger SET copied_at = clock_timestamp() WHERE item_id = 'item-Arrived'"
    await change(migrated_url, HERE, copied_now, "DELETE FROM stock_batches WHERE id = 'received'")
    assert failed(await report_on(migrated_url)) == {}


async def test_the_proof_of_a_company_is_of_its_own_items(migrated_url: str) -> None:
    """Also where these, and the other company's, have received batches and were written to."""
    both = "WHERE id IN ('item-Arrived', 'item-globex')"
    await change(
        migrated_url,
        HERE,
        HERE.replace("item-Arrived", "item-globex").replace("'received'", "'theirs'").replace("acme", "globex"),
        f"UPDATE items SET notes = 'x', \"quantityInStock\" = 6 {both}",
        UNMOVED,
        opening("quantity", "11"),
    )
    report = await report_on(migrated_url, "globex")
    assert set(failed(report)) == {"tables, keys and indexes"}
    (line,) = report.conservation
    assert place(line) == ("globex", "globex-main", "Arrived")
    assert (line.copied_units, line.moved_units, line.batch_units) == (7, 4, 11)
    assert "acme" not in str(report)
