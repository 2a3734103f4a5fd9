"""What a reader sees of a verification's costs; and that what is measured does what it says."""

import pytest

from bench.errors import BenchError
from bench.verifying import RECIPE, WEEKS, Shop, Taken, Verifying, Way, run
from bench.verifying_report import render_verifying
from tests.bench.test_report import line
from tests.migration.support import engine_on, migrate
from tests.support import insert_item, psql

GOAL = "all checks, against the recipe's query: as it was copied"


def reported(*seconds: float, planned: float = 2.0) -> str:
    taken = [
        (shop, way, Taken(number, number / 2))
        for shop in Shop
        for way, numbers in {Way.PLANNED: [planned] * 3, Way.HASHED: [2.5, 1.5, 2.5], Way.VERIFY: seconds}.items()
        for number in numbers
    ]
    return render_verifying(Verifying(1_000, taken, {"machine": "a machine"}))


def test_all_checks_are_held_against_the_faster_plan_of_the_recipes_query() -> None:
    assert line(reported(5.0, 6.0, 9.0), "Goals", GOAL).endswith("| at most 3.0 | 3.00 | met |")
    assert line(reported(6.1, 6.1, 6.1), "Goals", GOAL).endswith("| 3.05 | missed |")
    assert line(reported(6.0, 6.0, 6.0, planned=4.0), "Goals", GOAL).endswith("| 2.40 | met |")


def test_seconds_and_cpu_are_medians_of_the_rounds_by_shop() -> None:
    report = reported(5.0, 6.0, 9.0)
    assert line(report, "Verifying 1,000 items", "all checks: s") == "| all checks: s | 6.00 | 6.00 |"
    assert line(report, "Verifying 1,000 items", "all checks: CPU of PostgreSQL, s").endswith("| 3.00 | 3.00 |")
    assert line(report, "Verifying 1,000 items", "all checks against the faster: s").endswith("| 3.00 | 3.00 |")
    assert "- machine: a machine" in report


async def test_the_recipe_and_all_checks_agree_on_a_shop_as_it_was_copied_and_weeks_later(shop_url: str) -> None:
    async with psql(shop_url) as connection:
        for number in range(60):
            await insert_item(connection, f"item-{number}", quantityInStock=number)
    await migrate(shop_url)
    async with engine_on(shop_url) as engine, psql(shop_url) as connection:
        assert [tuple(row) for row in await connection.fetch(RECIPE)] == [("MATCH", 60, 0)]
        for way in Way:
            await run(engine, way)
        for statement in WEEKS:
            await connection.execute(statement)
        received = await connection.fetchval("SELECT count(*) FROM stock_batches") - 60
        assert received > 0
        assert await connection.fetchval("SELECT count(*) FROM stockshift.legacy_write") > 0
        rows = {row["result"]: (row["items"], row["difference"]) for row in await connection.fetch(RECIPE)}
        assert rows["MISMATCH"] == (received, 5 * received), "it knows no reasons"
        for way in Way:
            await run(engine, way)
        await connection.execute("UPDATE stock_batches SET quantity = 999 WHERE \"itemId\" = 'item-1'")
        with pytest.raises(BenchError, match=r"did not pass: .*items match"):
            await run(engine, Way.VERIFY)
