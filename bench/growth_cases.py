"""Part two, what is asked: a page of 50 at the start, in the middle and at the end of each order, filtered ones, an
item, and what is summed over all items."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from bench.operations import ITEM

PAGE = 50
STEADY = ("NAME", "CREATED_AT")
ORDERS = (*STEADY, "TOTAL_QUANTITY")

DOCUMENT = (
    "query Growth($first: Int!, $after: String, $filter: ItemFilter, $orderBy: ItemOrder)"
    " { items(first: $first, after: $after, filter: $filter, orderBy: $orderBy)"
    " { edges { node { id name totalQuantity statuses locations { id name } } } pageInfo { hasNextPage endCursor } } }"
)
COUNT = "query Count { items(first: 1) { totalCount } }"
SUMMARY = (
    "query Summary($filter: ItemFilter) { stockSummary(filter: $filter) { items lowStockItems totalQuantity"
    " stockValueUSD quantityByStatus { status quantity } quantityByLocation { location { name } quantity } } }"
)


class At(Enum):
    FIRST = "first"
    MIDDLE = "in the middle"
    LAST = "last"


@dataclass(frozen=True)
class Case:
    """What is asked. `steady`: its cost must not grow with the number of items.

    `at` is where in `order` the page is; None for what is no page.
    """

    title: str
    document: str = DOCUMENT
    at: At | None = None
    order: str = "NAME"
    descending: bool = False
    filter: Mapping[str, object] = field(default_factory=dict, compare=False)  # the title says it
    steady: bool = False

    @property
    def order_by(self) -> dict[str, str]:
        return {"field": self.order, "direction": "DESC" if self.descending else "ASC"}

    def position(self, items: int) -> int | None:
        """Where the row that the page begins behind is in the ascending order; None when there is no such row."""
        if self.at in (None, At.FIRST):
            return None
        behind = items // 2 if self.at is At.MIDDLE else items - PAGE - 1
        return items - 1 - behind if self.descending else behind

    def variables(self, start: str | None) -> dict[str, object]:
        """`start` is the cursor that the page begins behind, or the item's id."""
        if self.document == DOCUMENT:
            return {"first": PAGE, "after": start, "filter": self.filter or None, "orderBy": self.order_by}
        return {"id": start} if self.document == ITEM else {"filter": self.filter or None}


FILTERS: Mapping[str, Mapping[str, object]] = {
    "search: fan": {"search": "fan"},
    "search: no such name": {"search": "no such name"},
    "statuses: Arrived": {"statuses": ["Arrived"]},
    "locationIds: one": {"locationIds": ["demo-location-3"]},
    "usingBatchSystem: false (1%)": {"usingBatchSystem": False},
    "lowStock": {"lowStock": True},
}


def cases() -> Iterator[Case]:
    for order in ORDERS:
        for descending in (False, True):
            for at in At:
                title = f"page by {order} {'DESC' if descending else 'ASC'}"
                yield Case(title, at=at, order=order, descending=descending, steady=order in STEADY)
    yield Case("one item + its three batches", ITEM, steady=True)
    for title, chosen in FILTERS.items():
        for at in (At.FIRST, At.MIDDLE):
            yield Case(f"page, {title}", at=at, filter=chosen)
    yield Case("totalCount", COUNT)
    yield Case("stockSummary", SUMMARY)
    yield Case("stockSummary, statuses: Arrived", SUMMARY, filter={"statuses": ["Arrived"]})
