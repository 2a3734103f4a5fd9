"""Going through all pages, of any shop, in any order, with any filter, gives the whole list; each item once."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import CopyTemplate
from tests.graphql_client import Client, client_of
from tests.resolvers.shop import ids, insert_batch
from tests.support import Connection, insert_item, psql

STATUSES = ["ToOrder", "Ordered", "Arrived", "Sold"]
LOCATIONS = [None, "acme-main", "acme-harbour"]
DAY_ONE = datetime(2026, 1, 1)  # noqa: DTZ001 - the shop stores UTC without a zone
FEW = st.integers(min_value=-2, max_value=3)

Line = tuple[int, str, str | None]


@dataclass(frozen=True)
class ModelItem:
    """An item as a plain value; `copied` is whether the ledger has it."""

    name: str
    days: int
    legacy: Line
    level: int | None
    copied: bool
    batches: list[Line] = field(default_factory=list)

    @property
    def on_batches(self) -> bool:
        return self.copied or bool(self.batches)

    @property
    def lines(self) -> list[Line]:
        return self.batches if self.on_batches else [self.legacy]

    @property
    def total(self) -> int:
        return sum(line[0] for line in self.lines)

    def passes(self, filter_: dict[str, Any]) -> bool:
        checks: dict[str, Callable[[Any], bool]] = {
            "search": lambda text: text in self.name,
            "statuses": lambda wanted: any(line[1] in wanted for line in self.lines),
            "locationIds": lambda wanted: any(line[2] in wanted for line in self.lines),
            "usingBatchSystem": lambda wanted: self.on_batches == wanted,
            "lowStock": lambda wanted: (self.level is not None and self.total <= self.level) == wanted,
        }
        return all(checks[name](value) for name, value in filter_.items())

    def key(self, order: str) -> Any:
        return {"NAME": self.name, "CREATED_AT": self.days, "TOTAL_QUANTITY": self.total}[order]


LINES = st.tuples(FEW, st.sampled_from(STATUSES), st.sampled_from(LOCATIONS))
ITEMS = st.builds(
    ModelItem,
    name=st.sampled_from("abc"),
    days=FEW,
    legacy=LINES,
    level=st.none() | FEW,
    copied=st.booleans(),
    batches=st.lists(LINES, max_size=3),
)
FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "search": st.sampled_from(["a", "b", ""]),
        "statuses": st.lists(st.sampled_from(STATUSES), max_size=2),
        "locationIds": st.lists(st.sampled_from(["acme-main", "acme-harbour"]), max_size=2),
        "usingBatchSystem": st.booleans(),
        "lowStock": st.booleans(),
    },
)


async def store(connection: Connection, item_id: str, item: ModelItem) -> None:
    quantity, status, location = item.legacy
    await insert_item(
        connection,
        item_id,
        name=item.name,
        createdAt=DAY_ONE + timedelta(days=item.days),
        quantityInStock=quantity,
        status=status,
        locationId=location,
        minStockLevel=item.level,
    )
    if item.copied:
        await connection.execute(
            "INSERT INTO stockshift.copy_ledger (item_id, batch_id, original) VALUES ($1, 'opening-' || $1, '{}')",
            item_id,
        )
    for number, (quantity, status, location) in enumerate(item.batches):
        await insert_batch(
            connection, f"{item_id}-{number}", item_id, quantity=quantity, status=status, locationId=location
        )


QUERY = """
    query($first: Int, $after: String, $filter: ItemFilter, $orderBy: ItemOrder) {
        items(first: $first, after: $after, filter: $filter, orderBy: $orderBy) {
            totalCount pageInfo { hasNextPage startCursor endCursor } edges { cursor node { id } }
        }
    }
"""


@pytest.fixture
def paging_url(copy_template: CopyTemplate, expanded_template: str) -> str:
    """One database for all examples of a test; each empties it first."""
    return copy_template(expanded_template)


MANY = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
ORDER = st.tuples(st.sampled_from(["NAME", "CREATED_AT", "TOTAL_QUANTITY"]), st.sampled_from(["ASC", "DESC"]))


async def empty(connection: Connection) -> None:
    await connection.execute("DELETE FROM items; DELETE FROM stockshift.copy_ledger")


@MANY
@given(items=st.lists(ITEMS, max_size=9), first=st.integers(1, 5), filter_=FILTERS, order=ORDER)
def test_all_pages_together_are_the_list(
    paging_url: str, items: list[ModelItem], first: int, filter_: dict[str, Any], order: tuple[str, str]
) -> None:
    shop = {f"item-{number}": item for number, item in enumerate(items)}
    field_, direction = order
    expected = sorted(
        (id_ for id_, item in shop.items() if item.passes(filter_)),
        key=lambda id_: (shop[id_].key(field_), id_),
        reverse=direction == "DESC",
    )

    async def run() -> None:
        async with psql(paging_url) as connection, client_of(paging_url) as client:
            await empty(connection)
            for id_, item in shop.items():
                await store(connection, id_, item)
            seen: list[str] = []
            after = None
            for _ in range(20):  # pages; more than there are rows
                page = await one_page(client, first, after, filter_, order)
                assert page["totalCount"] == len(expected)
                assert page["pageInfo"]["startCursor"] == (page["edges"][0]["cursor"] if page["edges"] else None)
                assert page["pageInfo"]["endCursor"] == (page["edges"][-1]["cursor"] if page["edges"] else None)
                seen += ids(page)
                if not page["pageInfo"]["hasNextPage"]:
                    break
                assert len(page["edges"]) == first
                after = page["pageInfo"]["endCursor"]
            assert seen == expected

    asyncio.run(run())


@MANY
@given(
    items=st.lists(ITEMS, min_size=1, max_size=9),
    late=st.lists(ITEMS, max_size=4),
    gone=st.sets(st.integers(0, 8), max_size=4),
    first=st.integers(1, 3),
    order=ORDER,
)
def test_rows_that_come_and_go_between_the_pages_move_no_other(
    paging_url: str, items: list[ModelItem], late: list[ModelItem], gone: set[int], first: int, order: tuple[str, str]
) -> None:
    """Also when the very row goes whose cursor is in hand."""
    shop = {f"item-{number * 2}": item for number, item in enumerate(items)}
    field_, direction = order

    async def run() -> None:
        to_come = {f"item-{number * 2 + 1}": item for number, item in enumerate(late)}
        to_go = [f"item-{number * 2}" for number in gone]
        stays = [id_ for id_ in shop if id_ not in to_go]
        async with psql(paging_url) as connection, client_of(paging_url) as client:
            await empty(connection)
            for id_, item in shop.items():
                await store(connection, id_, item)
            seen: list[str] = []
            after = None
            for _ in range(20):  # pages; more than there are rows
                page = await one_page(client, first, after, {}, order)
                seen += ids(page)
                if not page["pageInfo"]["hasNextPage"]:
                    break
                after = page["pageInfo"]["endCursor"]
                if to_come:
                    await store(connection, *to_come.popitem())
                if to_go:
                    await connection.execute("DELETE FROM items WHERE id = $1", to_go.pop())
        known = shop | {f"item-{number * 2 + 1}": item for number, item in enumerate(late)}
        assert len(seen) == len(set(seen))
        assert set(stays) <= set(seen)
        assert seen == sorted(seen, key=lambda id_: (known[id_].key(field_), id_), reverse=direction == "DESC")

    asyncio.run(run())


async def one_page(
    client: Client, first: int, after: str | None, filter_: dict[str, Any], order: tuple[str, str]
) -> Any:
    order_by = {"field": order[0], "direction": order[1]}
    return (await client.ask(QUERY, first=first, after=after, filter=filter_, orderBy=order_by))["items"]
