"""What the shop holds, as dictionaries, and what the service must answer of it. It knows nothing of SQL."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

STATUSES = ["ToOrder", "Ordered", "Arrived", "Sold"]
LOCATIONS = {
    "acme-harbour": "Harbour",
    "acme-main": "Main",
    "globex-harbour": "Harbour",
    "globex-main": "Main",
}


@dataclass(frozen=True)
class Line:
    """Stock of one sort: an item's legacy columns, or a batch."""

    quantity: int | None
    status: str | None
    cost: float | None
    freight: float | None
    location: str | None
    order_number: str | None

    def as_batch(self) -> "Line":
        """What an opening batch takes of it."""
        return Line(**{**asdict(self), "quantity": self.quantity or 0, "freight": self.freight or 0.0})

    def following(self, before: "Line", opening: "Line") -> "Line":
        """What becomes of an opening batch when the legacy columns were `before` and are this.

        A batch must have a status and a cost: where there is none any more it keeps its own.
        """
        status = opening.status if self.status in (None, before.status) else self.status
        cost = opening.cost if self.cost in (None, before.cost) else self.cost
        return replace(self.as_batch(), status=status, cost=cost)

    @property
    def value(self) -> float:
        if self.status != "Arrived":
            return 0.0
        return (self.quantity or 0) * (self.cost or 0.0) + (self.freight or 0.0)


OPENING = "opening"


@dataclass
class Item:
    """`batches` by id, the opening batch under OPENING."""

    company: str
    legacy: Line
    batches: dict[str, Line] = field(default_factory=dict)

    @property
    def wanted(self) -> bool:
        return (self.legacy.quantity or 0) > 0 or self.legacy.status is not None

    @property
    def copyable(self) -> bool:
        return self.legacy.cost is not None and self.legacy.status is not None and not self.batches


@dataclass
class Shop:
    """`ledger` has every id that was ever copied; `keys` the request and the batch of each idempotency key.

    `written` are the items inserted or written since the last run began.
    """

    items: dict[str, Item] = field(default_factory=dict)
    ledger: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)
    keys: dict[tuple[str, str], tuple[dict[str, Any], str]] = field(default_factory=dict)
    expanded: bool = False
    source: str = "AUTO"

    def uses_batches(self, item_id: str) -> bool:
        return self.source == "AUTO" and bool(self.items[item_id].batches or item_id in self.ledger)

    def lines(self, item_id: str) -> list[Line]:
        item = self.items[item_id]
        return list(item.batches.values()) if self.uses_batches(item_id) else [item.legacy]

    def write(self, item_id: str, company: str, legacy: Line) -> None:
        """The legacy application inserts or updates an item; its opening batch follows, or comes again."""
        item = self.items.get(item_id)
        if item is not None and item.legacy == legacy:
            return
        self.written.add(item_id)
        if item is None:
            item = self.items[item_id] = Item(company, legacy)
            if item_id in self.ledger and item.copyable:
                item.batches[OPENING] = legacy.as_batch()
            return
        if OPENING in item.batches:
            item.batches[OPENING] = legacy.following(item.legacy, item.batches[OPENING])
        item.legacy = legacy

    def migrate(self) -> tuple[int, int]:
        """How many items a run copies, and how many it holds back. Without anything to do there is no run."""
        copied = [item_id for item_id in self.to_copy() if self.copy(item_id)]
        if copied or not self.expanded:
            self.written.clear()
        self.expanded = True
        return len(copied), len(self.held_back())

    def copy(self, item_id: str) -> bool:
        """Copies an item unless it was copied; False when it cannot be."""
        item = self.items[item_id]
        if item_id in self.ledger:
            return True
        if not item.copyable:
            return False
        self.ledger.add(item_id)
        item.batches[OPENING] = item.legacy.as_batch()
        return True

    def to_copy(self) -> list[str]:
        return [item_id for item_id, item in self.items.items() if item.wanted and item_id not in self.ledger]

    def held_back(self) -> list[str]:
        return [item_id for item_id in self.to_copy() if not self.items[item_id].copyable]

    def phase(self) -> str:
        return "DUAL_RUN" if self.ledger else "EXPANDED" if self.expanded else "NOT_STARTED"

    def mismatches(self) -> set[str]:
        """The items that a verification must find."""
        found = set()
        for item_id, item in self.items.items():
            if item_id in self.ledger:
                opening = item.batches.get(OPENING)
                if opening is None or opening != item.legacy.as_batch():
                    found.add(item_id)
            elif item.batches or (item.wanted and item.copyable and item_id not in self.written):
                found.add(item_id)
        return found

    def apart(self) -> set[str]:
        """The items that are no match, and of which it is known why."""
        return set(self.to_copy()) - self.mismatches()

    def answer(self) -> dict[str, Any]:
        """The answer to QUESTION."""
        ids = sorted(self.items)
        total = {item_id: units(self.lines(item_id)) for item_id in ids}
        arrived = [item_id for item_id in ids if any(line.status == "Arrived" for line in self.lines(item_id))]
        every = [line for item_id in ids for line in self.lines(item_id)]
        return {
            "items": {"totalCount": len(ids), "edges": [{"node": self.item(item_id)} for item_id in ids]},
            "arrived": {"totalCount": len(arrived), "edges": nodes(arrived)},
            "elsewhere": {"edges": nodes(item_id for item_id in ids if self._in_harbour(item_id))},
            "mostFirst": {"edges": nodes(sorted(ids, key=lambda item_id: (total[item_id], item_id), reverse=True))},
            "stockSummary": {"items": len(ids), "totalQuantity": units(every), **grouped(every)},
            "migration": {
                "phase": self.phase(),
                "readSource": self.source,
                "items": len(ids),
                "copied": len(self.ledger & set(ids)),
                "heldBack": len(self.held_back()),
            },
        }

    def item(self, item_id: str) -> dict[str, Any]:
        item, lines = self.items[item_id], self.lines(item_id)
        return {
            "id": item_id,
            "totalQuantity": units(lines),
            "usingBatchSystem": self.uses_batches(item_id),
            "statuses": [status for status in STATUSES if any(line.status == status for line in lines)],
            "locations": [location for location in places() if any(line.location == location["id"] for line in lines)],
            **grouped(lines),
            "legacy": {
                "quantityInStock": item.legacy.quantity,
                "status": item.legacy.status,
                "costPerUnitUSD": item.legacy.cost,
                "freightCostUSD": item.legacy.freight,
                "location": item.legacy.location and {"id": item.legacy.location},
            },
            "batches": {
                "totalCount": len(item.batches),
                "edges": by_id({"node": batch(batch_id, line)} for batch_id, line in item.batches.items()),
            },
        }

    def _in_harbour(self, item_id: str) -> bool:
        return self.uses_batches(item_id) and any(line.location == "acme-harbour" for line in self.lines(item_id))

    def short_answer(self) -> dict[str, Any]:
        """The answer to SHORT_QUESTION."""
        names = ("id", "totalQuantity", "statuses", "usingBatchSystem")
        shown = [self.item(item_id) for item_id in sorted(self.items)]
        return {"items": {"edges": [{"node": {name: item[name] for name in names}} for item in shown]}}


QUESTION = """
{
  items(first: 50) {
    totalCount
    edges {
      node {
        id totalQuantity usingBatchSystem statuses locations { id name }
        quantityByStatus { status quantity } quantityByLocation { location { id } quantity } stockValueUSD
        legacy { quantityInStock status costPerUnitUSD freightCostUSD location { id } }
        batches {
          totalCount
          edges {
            node { id openingBatch quantity status costPerUnitUSD freightCostUSD orderNumber location { id } }
          }
        }
      }
    }
  }
  arrived: items(filter: {statuses: [Arrived]}) { totalCount edges { node { id } } }
  elsewhere: items(filter: {locationIds: ["acme-harbour"], usingBatchSystem: true}) { edges { node { id } } }
  mostFirst: items(orderBy: {field: TOTAL_QUANTITY, direction: DESC}) { edges { node { id } } }
  stockSummary {
    items totalQuantity quantityByStatus { status quantity } quantityByLocation { location { id } quantity }
    stockValueUSD
  }
  migration { phase readSource items copied heldBack }
}
"""


SHORT_QUESTION = "{ items { edges { node { id totalQuantity statuses usingBatchSystem } } } }"


def nodes(item_ids: Iterable[str]) -> list[dict[str, Any]]:
    return [{"node": {"id": item_id}} for item_id in item_ids]


def places() -> list[dict[str, str]]:
    """By name then id."""
    return [{"id": id_, "name": name} for id_, name in sorted(LOCATIONS.items(), key=lambda place: place[::-1])]


def units(lines: Iterable[Line]) -> int:
    return sum(line.quantity or 0 for line in lines)


def grouped(lines: list[Line]) -> dict[str, Any]:
    groups: list[tuple[str | None, dict[str, str] | None]] = [(place["id"], {"id": place["id"]}) for place in places()]
    return {
        "stockValueUSD": sum(line.value for line in lines),
        "quantityByStatus": [
            {"status": status, "quantity": units(line for line in lines if line.status == status)}
            for status in STATUSES
            if any(line.status == status for line in lines)
        ],
        "quantityByLocation": [
            {"location": location, "quantity": units(line for line in lines if line.location == location_id)}
            for location_id, location in [*groups, (None, None)]
            if any(line.location == location_id for line in lines)
        ],
    }


def batch(batch_id: str, line: Line) -> dict[str, Any]:
    return {
        "id": batch_id,
        "openingBatch": batch_id == OPENING,
        "quantity": line.quantity,
        "status": line.status,
        "costPerUnitUSD": line.cost,
        "freightCostUSD": line.freight,
        "orderNumber": line.order_number,
        "location": line.location and {"id": line.location},
    }


def by_id(edges: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(edges, key=lambda edge: str(edge["node"]["id"]))


def comparable(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer as the model gives it: opening batches under one name, an item's batches by id."""
    for edge in answer["items"]["edges"]:
        for own in edge["node"]["batches"]["edges"]:
            if own["node"]["openingBatch"]:
                own["node"]["id"] = OPENING
        edge["node"]["batches"]["edges"] = by_id(edge["node"]["batches"]["edges"])
    return answer
