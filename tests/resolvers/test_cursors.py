"""What is passed as `first` and `after`: checked before the database sees it."""

import base64
import json
from typing import Any

import pytest

from tests.graphql_client import client_of
from tests.resolvers.shop import ids
from tests.support import insert_item, psql

ITEMS = (
    "query($first: Int, $after: String, $orderBy: ItemOrder) { items(first: $first, after: $after, orderBy: $orderBy)"
)
PAGE = (
    ITEMS
    + " { totalCount pageInfo { hasNextPage hasPreviousPage startCursor endCursor } edges { cursor node { id } } } }"
)
ORDERS: dict[str, dict[str, str]] = {
    name: {"field": name, "direction": "ASC"} for name in ("NAME", "CREATED_AT", "TOTAL_QUANTITY")
}


def forged(*content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


async def test_a_cursor_says_its_version_and_its_order(stock_url: str) -> None:
    async with client_of(stock_url) as client:
        cursors = {}
        for name, order in ORDERS.items():
            cursor = (await client.ask(PAGE, first=1, orderBy=order))["items"]["pageInfo"]["endCursor"]
            cursors[name] = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    assert cursors["NAME"] == [1, "NAME_ASC", "cup", "cup"]
    assert cursors["TOTAL_QUANTITY"] == [1, "TOTAL_QUANTITY_ASC", 2, "cup"]
    assert cursors["CREATED_AT"][:2] == [1, "CREATED_AT_ASC"]


async def test_a_cursor_of_another_order_is_refused(stock_url: str) -> None:
    async with client_of(stock_url) as client:
        cursor = (await client.ask(PAGE, first=1))["items"]["pageInfo"]["endCursor"]
        other_field = await client.answer(PAGE, after=cursor, orderBy=ORDERS["CREATED_AT"])
        other_way = await client.answer(PAGE, after=cursor, orderBy={"field": "NAME", "direction": "DESC"})
        batches = await client.answer(
            'query($after: String) { item(id: "mug") { batches(after: $after) { totalCount } } }', after=cursor
        )
    for answer, order in ((other_field, "CREATED_AT_ASC"), (other_way, "NAME_DESC"), (batches, "OLDEST")):
        assert answer.codes == ["BAD_REQUEST"]
        assert answer.message == f"after: the cursor belongs to another order than {order}; start again without one"


FORGED: list[tuple[str, str]] = [
    ("NAME", ""),
    ("NAME", "rubbish"),
    ("NAME", "é"),
    ("NAME", "\ud800"),
    ("NAME", "A" * 100_000),
    ("NAME", base64.urlsafe_b64encode(b"[" * 100_000).decode()),
    ("NAME", base64.urlsafe_b64encode(b"\xff\xfe").decode()),
    ("NAME", forged()),
    ("NAME", forged(2, "NAME_ASC", "a", "a")),
    ("NAME", forged(True, "NAME_DESC", "a", "a")),
    ("NAME", forged(1, ["NAME_ASC"], "a", "a")),
    ("NAME", forged(1, "NAME_ASC", "a")),
    ("NAME", forged(1, "NAME_ASC", "a", "a", "a")),
    ("NAME", forged(1, "NAME_ASC", None, "a")),
    ("NAME", forged(1, "NAME_ASC", 1, "a")),
    ("NAME", forged(1, "NAME_ASC", "a", {"a": 1})),
    ("NAME", forged(1, "NAME_ASC", "a\0", "a")),
    ("NAME", forged(1, "NAME_ASC", "a", "\ud800")),
    ("TOTAL_QUANTITY", forged(1, "TOTAL_QUANTITY_ASC", "12", "a")),
    ("TOTAL_QUANTITY", forged(1, "TOTAL_QUANTITY_ASC", 1.5, "a")),
    ("TOTAL_QUANTITY", forged(1, "TOTAL_QUANTITY_ASC", True, "a")),
    ("TOTAL_QUANTITY", forged(1, "TOTAL_QUANTITY_ASC", 2**63, "a")),
    ("TOTAL_QUANTITY", forged(1, "TOTAL_QUANTITY_ASC", -(10**4000), "a")),
    ("CREATED_AT", forged(1, "CREATED_AT_ASC", "yesterday", "a")),
    ("CREATED_AT", forged(1, "CREATED_AT_ASC", "now", "a")),
    ("CREATED_AT", forged(1, "CREATED_AT_ASC", "2026-02-30T00:00:00", "a")),
    ("CREATED_AT", forged(1, "CREATED_AT_ASC", "2026-01-01T25:00:00", "a")),
    ("CREATED_AT", forged(1, "CREATED_AT_ASC", "0000-01-01T00:00:00", "a")),
    ("CREATED_AT", forged(1, "CREATED_AT_ASC", "5000-01-01T00:00:00 BC", "a")),
    ("CREATED_AT", forged(1, "CREATED_AT_ASC", "999999-01-01T00:00:00", "a")),
    ("CREATED_AT", forged(1, "CREATED_AT_ASC", 20260101, "a")),
]


async def test_what_is_no_cursor_is_refused_in_a_short_line_and_never_a_fault(stock_url: str) -> None:
    async with client_of(stock_url) as client:
        for order, cursor in FORGED:
            answer = await client.answer(PAGE, after=cursor, orderBy=ORDERS[order])
            assert answer.codes == ["BAD_REQUEST"], cursor[:80]
            assert "after" in answer.message
            assert len(answer.message) < 250


async def test_a_forged_cursor_of_the_right_form_is_a_place_like_any_other(stock_url: str) -> None:
    async with client_of(stock_url) as client:
        for order, key, expected in (
            ("NAME", "n", ["pot", "vase"]),
            ("NAME", "'; --", ["cup", "mug", "pot", "vase"]),
            ("TOTAL_QUANTITY", 2**63 - 1, []),
            ("TOTAL_QUANTITY", -(2**63), ["cup", "pot", "vase", "mug"]),
            ("CREATED_AT", "infinity", []),
            ("CREATED_AT", "-infinity", ["cup", "mug", "pot", "vase"]),
            ("CREATED_AT", "0044-03-15T12:00:00.5 BC", ["cup", "mug", "pot", "vase"]),
            ("CREATED_AT", "294275-12-31T23:59:59.999999", []),
        ):
            page = await client.ask(PAGE, after=forged(1, f"{order}_ASC", key, "a"), orderBy=ORDERS[order])
            assert sorted(ids(page["items"])) == sorted(expected), key


async def test_a_page_has_as_many_rows_as_first_says(stock_url: str) -> None:
    async with client_of(stock_url) as client:
        for first, rows, more in ((None, 4, False), (0, 0, True), (1, 1, True), (4, 4, False), (1000, 4, False)):
            page = (await client.ask(PAGE, first=first))["items"]
            assert (len(page["edges"]), page["pageInfo"]["hasNextPage"], page["totalCount"]) == (rows, more, 4)
        nothing = (await client.ask(PAGE, first=0))["items"]["pageInfo"]
        assert (nothing["startCursor"], nothing["endCursor"], nothing["hasPreviousPage"]) == (None, None, False)


@pytest.mark.parametrize("first", [-1, 1001, 2**31 - 1, -(2**31)])
async def test_a_page_too_long_or_below_nothing_is_refused_with_the_limit(stock_url: str, first: int) -> None:
    async with client_of(stock_url) as client:
        items = await client.answer(PAGE, first=first)
        batches = await client.answer(f'{{ item(id: "mug") {{ batches(first: {first}) {{ totalCount }} }} }}')
    for answer in (items, batches):
        assert answer.codes == ["BAD_REQUEST"]
        assert answer.message == f"first: {first} rows are asked for; a page has 0 to 1000"


async def test_the_limit_of_a_page_is_the_readers(stock_url: str) -> None:
    async with client_of(stock_url, most_rows=2) as client:
        assert (await client.answer("{ items(first: 3) { totalCount } }")).codes == ["BAD_REQUEST"]
        assert len((await client.ask("{ items(first: 2) { edges { cursor } } }"))["items"]["edges"]) == 2


async def test_a_cursor_of_a_long_and_unusual_name_works(shop_url: str) -> None:
    names = ["a" * 3000 + "漢字🍵", "a" * 3000 + "漢字🍵b", 'quote " back\\slash \t tab', "ÿ¾?>"]
    async with psql(shop_url) as connection:
        for number, name in enumerate(names):
            await insert_item(connection, f"i{number}", name=name)
    seen: list[str] = []
    after = None
    async with client_of(shop_url) as client:
        for _ in names:
            page = (await client.ask(PAGE, first=1, after=after))["items"]
            after = page["pageInfo"]["endCursor"]
            assert set(after) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
            seen += ids(page)
    assert sorted(seen) == ["i0", "i1", "i2", "i3"]


async def test_the_total_is_counted_only_when_it_is_asked_for(stock_url: str) -> None:
    async with client_of(stock_url) as client:
        await client.ask("{ items { totalCount } }")
        with_total = await client.sent("{ items { totalCount edges { node { id } } } }")
        without = await client.sent("{ items { edges { node { id } } pageInfo { startCursor } } }")
        only_total = await client.sent("{ items { totalCount } }")
    assert "count(*)" in with_total[0]
    assert "count(*)" not in without[0]
    assert "LIMIT" not in only_total[0]
