"""A copied value equals its original bit for bit, whatever it is (R17)."""

import asyncio
import math
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.conftest import CopyTemplate
from tests.migration.support import legacy_rows, migrate, verified
from tests.support import insert_item, psql

TEXTS = st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
MILLISECONDS = st.datetimes().map(lambda time: time.replace(microsecond=time.microsecond // 1000 * 1000))
ROWS = st.fixed_dictionaries(
    {
        "status": st.sampled_from(["ToOrder", "Ordered", "Arrived", "Sold"]),
        "quantityInStock": st.integers(-(2**31), 2**31 - 1),
        "costPerUnitUSD": st.floats(),
        "freightCostUSD": st.floats(),
        "orderDate": st.none() | MILLISECONDS,
        "expectedArrival": st.none() | MILLISECONDS,
        "createdAt": MILLISECONDS,
        "orderNumber": TEXTS,
        "notes": TEXTS,
        "locationId": st.sampled_from([None, "acme-main", "acme-harbour"]),
        "assignedUserId": st.sampled_from([None, "acme-user"]),
    }
)

BATCHES = """
SELECT ROW(quantity, status, float8send("costPerUnitUSD"), float8send("freightCostUSD"), "orderDate",
    "expectedArrival", "orderNumber", notes, "createdAt", "updatedAt", "locationId", "assignedUserId")::text
FROM stock_batches ORDER BY "itemId"
"""
ITEMS = """
SELECT ROW("quantityInStock", status, float8send("costPerUnitUSD"), float8send("freightCostUSD"), "orderDate",
    "expectedArrival", "orderNumber", notes, "createdAt", "updatedAt", "locationId", "assignedUserId")::text
FROM items ORDER BY id
"""
KEPT = """
SELECT (json_populate_record(NULL::old_items, original))::text FROM stockshift.copy_ledger ORDER BY item_id
"""


async def copy_and_compare(url: str, rows: list[dict[str, Any]]) -> None:
    async with psql(url) as connection:
        for number, row in enumerate(rows):
            await insert_item(connection, f"item-{number}", **row)
        await connection.execute("CREATE TABLE old_items AS SELECT * FROM items ORDER BY id")
        before = await legacy_rows(connection)
        originals = [found[0] for found in await connection.fetch(ITEMS)]
        assert (await migrate(url)).copied == len(rows)
        assert [found[0] for found in await connection.fetch(BATCHES)] == originals
        # Not bit for bit: all NaNs are one to JSON.
        assert [found[0] for found in await connection.fetch(KEPT)] == before
        assert await legacy_rows(connection) == before
        assert (await verified(url)).passed


@given(rows=st.lists(ROWS, min_size=1, max_size=40))
@example(
    rows=[
        {"costPerUnitUSD": cost, "freightCostUSD": -0.0, "notes": notes}
        for cost, notes in [
            (0.1 + 0.2, "💡 émile\\n 'quoted' \"twice\" %s :name $1"),
            (math.nan, ""),
            (math.inf, " "),
            (-math.inf, "\r\n\t\x01\x7f"),
            (5e-324, "\u200f\ufeff\U0010ffff"),
            (1.7976931348623157e308, "x" * 20_000),
        ]
    ]
)
# The fixture is a factory, so each example has a database of its own.
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_value_is_copied_bit_for_bit_and_can_be_had_back_from_the_ledger(
    copy_template: CopyTemplate, shop_template: str, rows: list[dict[str, Any]]
) -> None:
    asyncio.run(copy_and_compare(copy_template(shop_template), rows))
