"""What explains a difference is summed up by kind, with examples that say who, when, by what, and both values (R21)."""

from typing import Any

from migration.explanations import Explanation
from migration.report import VerificationReport
from tests.migration.support import migrate
from tests.migration.test_defects import CUT_OVER, OPENING, RECEIVED
from tests.migration.test_plan import change
from tests.migration.test_verify import failed, report_on
from tests.support import insert_item, psql

HERE = RECEIVED.format("item-Arrived", "'acme-main'")
THERE = RECEIVED.format("item-Sold", "NULL").replace("'received', 5", "'more', 7")


def explained(report: VerificationReport) -> dict[str, Explanation]:
    return {one.kind: one for one in report.explanations}


def sums(report: VerificationReport) -> dict[str, tuple[int, int]]:
    return {kind: (one.items, one.units) for kind, one in explained(report).items()}


def only_example(one: Explanation) -> dict[str, Any]:
    (example,) = one.examples
    assert example.pop("when").endswith("Z")
    assert isinstance(example, dict)
    return example


async def test_a_copy_alone_needs_no_explanation(migrated_url: str) -> None:
    assert (await report_on(migrated_url)).explanations == []


async def test_a_write_of_the_shop_is_explained_with_who_made_it_and_both_values(migrated_url: str) -> None:
    async with psql(migrated_url, application_name="old till") as till:
        await till.execute("UPDATE items SET notes = 'sale', \"quantityInStock\" = 7 WHERE id = 'item-Arrived'")
        role, opening = await till.fetchval("SELECT session_user"), await till.fetchval(f"SELECT {OPENING}")
    report = await report_on(migrated_url)
    assert failed(report) == {}
    assert sums(report) == {"LEGACY_WRITE": (1, -3)}
    assert only_example(explained(report)["LEGACY_WRITE"]) == {
        "item": "item-Arrived",
        "batch": opening,
        "units": -3,
        "who": role,
        "application": "old till",
        "old": {"notes": None, "quantityInStock": 10},
        "new": {"notes": "sale", "quantityInStock": 7},
    }


async def test_each_kind_is_summed_over_its_items_and_has_its_first_and_latest(migrated_url: str) -> None:
    """One who says what it does, with a name; and an unknown program."""
    async with psql(migrated_url, application_name="stockshift") as ours:
        await ours.execute("SET stockshift.reason = 'RECEIVED'; SET stockshift.actor = 'anna'")
        await ours.execute(HERE + THERE)
        await ours.execute(HERE.replace("'received', 5", "'third', 1"))
    await change(migrated_url, "UPDATE stock_batches SET quantity = quantity - 2 WHERE id IN ('more', 'third')")
    await change(migrated_url, "DELETE FROM stock_batches WHERE id = 'received'")
    report = await report_on(migrated_url)
    assert failed(report) == {}
    assert sums(report) == {"RECEIVED": (2, 13), "DIRECT": (2, -4), "DELETED": (1, -5)}
    assert sum(one.units for one in report.explanations) == report.explained_difference
    examples = explained(report)["RECEIVED"].examples
    assert [(one["item"], one["batch"], one["units"], one["who"], one["application"]) for one in examples] == [
        ("item-Arrived", "received", 5, "anna", "stockshift"),
        ("item-Arrived", "third", 1, "anna", "stockshift"),
    ]
    assert explained(report)["DIRECT"].examples[0]["application"] == "psql"


async def test_items_that_are_not_on_batches_are_explained_by_kind(migrated_url: str) -> None:
    async with psql(migrated_url, application_name="till") as till:
        await till.execute('ALTER TABLE items ALTER "costPerUnitUSD" DROP NOT NULL, ALTER status DROP NOT NULL')
        for number in range(3):
            await insert_item(till, f"new-{number}", quantityInStock=number + 1)
        await insert_item(till, "no-cost", quantityInStock=4, costPerUnitUSD=None)
        await insert_item(till, "nothing", quantityInStock=0, status=None)
        role = await till.fetchval("SELECT session_user")
    report = await report_on(migrated_url)
    assert failed(report) == {}
    assert sums(report) == {"NOT_YET_COPIED": (3, -6), "HELD_BACK": (1, -4), "NOTHING_TO_COPY": (1, 0)}
    assert [one["item"] for one in explained(report)["NOT_YET_COPIED"].examples] == ["new-0", "new-2"]
    assert only_example(explained(report)["HELD_BACK"]) == {
        "item": "no-cost",
        "batch": None,
        "units": -4,
        "who": role,
        "application": "till",
        "old": {"quantity": 4},
        "new": {"quantity": None},
    }


async def test_an_item_that_is_cut_over_explains_what_its_batches_have_more(migrated_url: str) -> None:
    await change(migrated_url, CUT_OVER, HERE)
    report = await report_on(migrated_url)
    assert failed(report) == {}
    assert sums(report) == {"CUT_OVER": (1, 5), "DIRECT": (1, 5)}
    example = only_example(explained(report)["CUT_OVER"])
    assert (example["item"], example["old"], example["new"]) == ("item-Arrived", {"quantity": 10}, {"quantity": 15})


async def test_what_moved_before_the_copy_explains_nothing(items_url: str) -> None:
    """An item that was copied later: its batch had come and gone by then."""
    await change(items_url, "INSERT INTO items SELECT (jsonb_populate_record(i, '{\"id\": \"late\"}')).* FROM items i"
                 " WHERE id = 'item-Sold'", "DELETE FROM items WHERE id = 'item-Arrived'")  # fmt: skip
    await migrate(items_url)
    async with psql(items_url) as connection:
        await insert_item(connection, "later")
    await change(items_url, HERE.replace("item-Arrived", "later"), "DELETE FROM stock_batches WHERE id = 'received'")
    await migrate(items_url)
    assert (await report_on(items_url)).explanations == []


async def test_a_companys_explanations_are_of_its_own_items(migrated_url: str) -> None:
    await change(migrated_url, HERE, THERE.replace("item-Sold", "item-globex"), CUT_OVER)
    async with psql(migrated_url) as connection:
        await insert_item(connection, "item-new")
    report = await report_on(migrated_url, "globex")
    assert sums(report) == {"DIRECT": (1, 7)}
    assert "acme" not in str(report)
    assert "item-Arrived" not in str(report)
    assert set(sums(await report_on(migrated_url))) == {"CUT_OVER", "DIRECT", "NOT_YET_COPIED"}
