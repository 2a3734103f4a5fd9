"""R3: filters and orders see the values that the fields answer."""

from typing import Any

import pytest

from migration.read_source import set_read_source
from resolvers.viewer import Role, Viewer
from tests.graphql_client import ADMIN, Client, client_of
from tests.resolvers.shop import ids
from tests.support import insert_item, psql

ITEMS = """
    query($filter: ItemFilter, $orderBy: ItemOrder) {
        items(filter: $filter, orderBy: $orderBy) { totalCount edges { node { id } } }
        stockSummary(filter: $filter) { items }
    }
"""


async def found(client: Client, viewer: Viewer = ADMIN, **filters: Any) -> list[str]:
    """The ids that a filter leaves, which the count and the summary must agree with."""
    answer = await client.ask(ITEMS, viewer, filter=filters)
    items = ids(answer["items"])
    assert answer["items"]["totalCount"] == answer["stockSummary"]["items"] == len(items)
    return items


FILTERS: list[tuple[dict[str, Any], list[str], list[str]]] = [
    ({}, ["cup", "mug", "pot", "vase"], ["bed", "cup", "mug", "pot", "rug", "vase"]),
    ({"statuses": ["Arrived"]}, ["cup", "mug", "vase"], ["cup", "mug", "rug"]),
    ({"statuses": ["ToOrder"]}, [], ["mug"]),
    ({"statuses": ["Sold", "Ordered"]}, ["pot"], ["bed", "pot"]),
    ({"statuses": []}, [], []),
    ({"locationIds": ["acme-main"]}, ["mug", "vase"], ["bed", "mug", "rug"]),
    ({"locationIds": ["acme-harbour", "globex-main"]}, ["cup"], ["cup", "mug"]),
    ({"locationIds": ["no such"]}, [], []),
    ({"locationIds": []}, [], []),
    ({"usingBatchSystem": True}, [], ["bed", "cup", "mug", "pot", "vase"]),
    ({"usingBatchSystem": False}, ["cup", "mug", "pot", "vase"], ["rug"]),
    ({"lowStock": True}, ["mug"], ["mug"]),
    ({"lowStock": False}, ["cup", "pot", "vase"], ["bed", "cup", "pot", "rug", "vase"]),
    ({"search": "U"}, ["cup", "mug"], ["cup", "mug", "rug"]),
    ({"companyId": "globex"}, ["cup"], ["cup"]),
    ({"companyId": "no such"}, [], []),
    ({"search": "u", "statuses": ["Arrived"], "usingBatchSystem": True}, [], ["cup", "mug"]),
    ({"lowStock": True, "locationIds": ["acme-harbour"], "companyId": "acme"}, [], ["mug"]),
    ({"lowStock": True, "locationIds": ["acme-harbour"], "companyId": "globex"}, [], []),
    (dict.fromkeys(["search", "statuses", "locationIds", "usingBatchSystem", "lowStock", "companyId"]),
     ["cup", "mug", "pot", "vase"], ["bed", "cup", "mug", "pot", "rug", "vase"]),
]  # fmt: skip


async def test_every_filter_sees_legacy_values_before_and_the_batches_values_after(
    stock_url: str, batches_url: str
) -> None:
    async with client_of(stock_url) as before, client_of(batches_url) as after:
        for filter_, legacy, batches in FILTERS:
            assert (await found(before, **filter_), await found(after, **filter_)) == (legacy, batches), filter_


async def test_under_the_legacy_read_source_filters_see_the_legacy_columns(batches_url: str) -> None:
    async with client_of(batches_url) as client:
        async with client.engine.begin() as connection:
            await set_read_source(connection, "LEGACY", "test")
        assert await found(client, statuses=["ToOrder", "Sold"]) == []
        assert await found(client, usingBatchSystem=True) == []
        assert await found(client, locationIds=["acme-harbour"]) == []
        assert await found(client, lowStock=True) == ["mug"]
        by_quantity = await client.ask(ITEMS, orderBy={"field": "TOTAL_QUANTITY", "direction": "DESC"})
    assert ids(by_quantity["items"]) == ["mug", "bed", "vase", "rug", "pot", "cup"]


async def test_low_stock_is_at_or_below_the_level_and_an_item_without_a_level_is_never_low(shop_url: str) -> None:
    async with psql(shop_url) as connection:
        for name, quantity, level in (("below", 4, 5), ("at", 5, 5), ("above", 6, 5), ("none", -1, None)):
            await insert_item(connection, name, quantityInStock=quantity, minStockLevel=level)
    async with client_of(shop_url) as client:
        assert await found(client, lowStock=True) == ["at", "below"]
        assert await found(client, lowStock=False) == ["above", "none"]


async def test_search_takes_every_character_for_itself(shop_url: str) -> None:
    names = [
        "100% wool",
        "a_b",
        "back\\slash",
        "sl/ash",
        'dou"ble',
        "o'clock",
        "Crème brûlée",
        "漆器 🍵",
        "axb",
        "1000",
    ]
    async with psql(shop_url) as connection:
        for name in names:
            await insert_item(connection, name)
    async with client_of(shop_url) as client:
        for text, name in (
            ("0%", "100% wool"),
            ("A_B", "a_b"),
            ("k\\s", "back\\slash"),
            ("l/a", "sl/ash"),
            ('"', 'dou"ble'),
            ("'", "o'clock"),
            ("ème BR", "Crème brûlée"),
            ("器 🍵", "漆器 🍵"),
        ):
            assert await found(client, search=text) == [name]
        assert len(await found(client, search="")) == len(names)
        assert await found(client, search="'; DROP TABLE items; --") == []


async def test_a_filter_by_another_company_finds_nothing_with_a_token_of_one(batches_url: str) -> None:
    acme = Viewer("a", Role.STAFF, "acme")
    async with client_of(batches_url) as client:
        assert await found(client, acme, companyId="globex") == []
        assert "cup" not in await found(client, acme)


@pytest.mark.parametrize("expanded", [False, True])
@pytest.mark.parametrize(
    ("field", "direction", "expected"),
    [
        ("NAME", "ASC", ["vase", "cup", "mug", "pot"]),
        ("NAME", "DESC", ["pot", "mug", "cup", "vase"]),
        ("CREATED_AT", "ASC", ["mug", "cup", "pot", "vase"]),
        ("CREATED_AT", "DESC", ["vase", "pot", "cup", "mug"]),
        ("TOTAL_QUANTITY", "ASC", ["cup", "pot", "mug", "vase"]),
        ("TOTAL_QUANTITY", "DESC", ["vase", "mug", "pot", "cup"]),
    ],
)
async def test_an_order_goes_both_ways_and_ties_go_by_id_with_it(
    stock_url: str, batches_url: str, expanded: bool, field: str, direction: str, expected: list[str]
) -> None:
    """An item whose time is not known came first of all."""
    url = batches_url if expanded else stock_url
    async with psql(url) as connection:
        await connection.execute("DELETE FROM items WHERE id IN ('rug', 'bed')")
        await connection.execute(
            """
            ALTER TABLE items ALTER "createdAt" DROP NOT NULL;
            UPDATE items SET name = CASE id WHEN 'vase' THEN 'A' ELSE 'B' END,
                "createdAt" = CASE id WHEN 'mug' THEN NULL WHEN 'vase' THEN '2026-03-01'::timestamp
                ELSE '2026-02-01' END
            """
        )
        if expanded:  # mug 22 and vase 22, pot 3, cup 2
            await connection.execute("""UPDATE stock_batches SET "itemId" = 'vase' WHERE id = 'mug-3'""")
            await connection.execute("UPDATE stock_batches SET quantity = quantity + 15 WHERE id = 'mug-3'")
            await connection.execute("UPDATE stock_batches SET quantity = quantity + 7 WHERE id = 'mug-2'")
        else:
            await connection.execute("""UPDATE items SET "quantityInStock" = 10 WHERE id = 'vase'""")
    query = """
        query($orderBy: ItemOrder, $after: String) {
            items(first: 1, orderBy: $orderBy, after: $after) {
                pageInfo { endCursor hasNextPage } edges { node { id } }
            }
        }
    """
    order = {"field": field, "direction": direction}
    seen: list[str] = []
    after = None
    async with client_of(url) as client:
        for _ in expected:
            page = (await client.ask(query, orderBy=order, after=after))["items"]
            seen += ids(page)
            after = page["pageInfo"]["endCursor"]
            if not page["pageInfo"]["hasNextPage"]:
                break
    assert seen == expected
