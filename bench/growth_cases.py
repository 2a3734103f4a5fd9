"""Part two, what is asked: a page of 50 at the start, in the middle and at the end of each order, and filtered ones."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

PAGE = 50
ORDERS = ("NAME", "CREATED_AT", "TOTAL_QUANTITY")

DOCUMENT = (
    "query Growth($first: Int!, $after: String, $filter: ItemFilter, $orderBy: ItemOrder)"
    " { items(first: $first, after: $after, filter: $filter, orderBy: $orderBy)"
    " { edges { node { id name totalQuantity statuses locations { id name } } } pageInfo { hasNextPage endCursor } } }"
)


class At(Enum):
    FIRST = "first page"
    MIDDLE = "in the middle"
    LAST = "last page"


@dataclass(frozen=True)
class Case:
    title: str
    at: At
    order: str = "NAME"
    descending: bool = False
    filter: Mapping[str, object] = field(default_factory=dict, compare=False)  # the title says it

    @property
    def order_by(self) -> dict[str, str]:
        return {"field": self.order, "direction": "DESC" if self.descending else "ASC"}

    def position(self, items: int) -> int | None:
        """Where the row that the page begins behind is in the ascending order; None for the first page."""
        if self.at is At.FIRST:
            return None
        behind = items // 2 if self.at is At.MIDDLE else items - PAGE - 1
        return items - 1 - behind if self.descending else behind


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
                yield Case(f"{order} {'DESC' if descending else 'ASC'}", at, order, descending)
    for title, chosen in FILTERS.items():
        for at in (At.FIRST, At.MIDDLE):
            yield Case(title, at, filter=chosen)
