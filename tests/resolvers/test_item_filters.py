"""Whichever way a page is found, by an index or by asking item after item, it is the same page."""

import pytest

from db.indexes import BATCH_INDEXES, ITEM_INDEXES
from migration.read_source import set_read_source
from resolvers import item_filters
from tests.graphql_client import Client, client_of
from tests.resolvers.shop import ids, insert_batch
from tests.resolvers.test_filters import FILTERS, found
from tests.support import insert_item, psql

PAGES = """
    query($filter: ItemFilter, $after: String) {
        items(filter: $filter, after: $after, first: 1) {
            pageInfo { hasNextPage hasPreviousPage startCursor endCursor } edges { cursor node { id } }
        }
    }
"""


async def page_by_page(client: Client, filter_: object) -> list[str]:
    seen: list[str] = []
    after = None
    while True:
        page = (await client.ask(PAGES, filter=filter_, after=after))["items"]
        info = page["pageInfo"]
        assert info["hasPreviousPage"] is (after is not None)
        assert [info["startCursor"], info["endCursor"]] == [edge["cursor"] for edge in page["edges"]] * 2 or not ids(
            page
        )
        seen += ids(page)
        if not info["hasNextPage"]:
            return seen
        after = info["endCursor"]


@pytest.mark.parametrize("few", [0, 1, 2, 3, 4, 1_000])
async def test_few_or_many_items_are_the_same_items(
    batches_url: str, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    """As many as these make a page of what an index found; one more, and each item is asked."""
    monkeypatch.setattr(item_filters, "FEW", few)
    async with client_of(batches_url) as client:
        for filter_, _, expected in FILTERS:
            assert await found(client, **filter_) == expected, filter_
            assert await page_by_page(client, filter_) == expected, filter_


async def test_without_any_index_the_answers_are_the_same(batches_url: str) -> None:
    async with psql(batches_url) as connection:
        for index in (*BATCH_INDEXES.values(), *ITEM_INDEXES.values()):
            await connection.execute(f'DROP INDEX "{index.name}"')
    async with client_of(batches_url) as client:
        for filter_, _, expected in FILTERS:
            assert await page_by_page(client, filter_) == expected, filter_


@pytest.mark.parametrize("few", [0, 1_000])
async def test_a_shop_that_keeps_the_status_as_text_has_the_same_pages(
    batches_url: str, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    """Under a running service, which may have taken it for an enum."""
    monkeypatch.setattr(item_filters, "FEW", few)
    async with client_of(batches_url) as client:
        assert await found(client, statuses=["Arrived"]) == ["cup", "mug", "rug"]
        async with psql(batches_url) as connection:
            await connection.execute("ALTER TABLE items ALTER status DROP DEFAULT, ALTER status TYPE text")
            await insert_item(connection, "odd", status="Mislaid")
        for filter_, _, expected in FILTERS:
            if filter_.get("statuses"):
                assert await page_by_page(client, filter_) == expected, filter_


@pytest.mark.parametrize("few", [0, 1_000])
async def test_under_the_legacy_read_source_a_rare_status_is_that_of_the_legacy_columns(
    batches_url: str, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(item_filters, "FEW", few)
    async with psql(batches_url) as connection:
        await insert_item(connection, "sold", status="Sold")
        await insert_batch(connection, "sold-1", "sold", status="Ordered")
    async with client_of(batches_url) as client:
        assert await page_by_page(client, {"statuses": ["Sold"]}) == ["bed"]
        async with client.engine.begin() as connection:
            await set_read_source(connection, "LEGACY", "test")
        assert await page_by_page(client, {"statuses": ["Sold"]}) == ["sold"]
