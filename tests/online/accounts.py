"""What each writer committed, kept by itself as it goes, and what must therefore be in the database.

Writers that run at once never set the same thing: units are added and taken by anybody, which comes out the same in any
order; everything else about an item or a batch has one writer. So the accounts can be added up without knowing who
came first.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from db import tables

LEGACY_COLUMNS = list(tables.COMPARED_COLUMNS.values())

Row = dict[str, Any]
"""Values by column."""


@dataclass(frozen=True)
class UnitsAdded:
    """To an item's legacy quantity; taken when negative."""

    item_id: str
    units: int


@dataclass(frozen=True)
class ItemSet:
    item_id: str
    values: Row


@dataclass(frozen=True)
class ItemInserted:
    """With all its legacy columns."""

    item_id: str
    values: Row


@dataclass(frozen=True)
class ItemDeleted:
    """With all the batches that it had, opening batch included."""

    item_id: str
    batches: tuple[str, ...]


@dataclass(frozen=True)
class ItemRenamed:
    """With all the batches that it has, opening batch included."""

    old: str
    new: str
    batches: tuple[str, ...]


@dataclass(frozen=True)
class BatchInserted:
    batch_id: str
    item_id: str
    quantity: int
    status: str
    location: str | None


@dataclass(frozen=True)
class BatchUnitsAdded:
    batch_id: str
    units: int


@dataclass(frozen=True)
class BatchMoved:
    batch_id: str
    item_id: str


@dataclass(frozen=True)
class BatchDeleted:
    batch_id: str


Entry = (
    UnitsAdded
    | ItemSet
    | ItemInserted
    | ItemDeleted
    | ItemRenamed
    | BatchInserted
    | BatchUnitsAdded
    | BatchMoved
    | BatchDeleted
)


@dataclass
class Written:
    """A write of legacy columns that capture must have recorded. `before` and `after` as it records them."""

    item_id: str
    operation: str
    before: Row | None
    after: Row | None


@dataclass
class Account:
    """Of one writer, known to the database by its application name."""

    application: str
    entries: list[Entry] = field(default_factory=list)
    written: list[Written] = field(default_factory=list)

    def commit(self, entries: Iterable[Entry], written: Iterable[Written]) -> None:
        for entry in entries:
            self.entries.append(entry)
            if isinstance(entry, ItemRenamed):
                self._rename(entry.old, entry.new)
        self.written.extend(written)

    def _rename(self, old: str, new: str) -> None:
        """The records of an item go with it to its new id; those of one that had that id before, and is gone, do not
        get mixed with them."""
        for one in self.written:
            if one.item_id == new:
                one.item_id = f"{new} (deleted)"
            elif one.item_id == old:
                one.item_id = new


@dataclass
class Books:
    """What must be there: items by id with their legacy columns, batches by id, opening batches apart."""

    items: dict[str, Row]
    batches: dict[str, Row]

    @property
    def units(self) -> int:
        """In the legacy columns."""
        return sum(row["quantityInStock"] for row in self.items.values())

    @property
    def received(self) -> int:
        """In batches other than opening ones."""
        return sum(row["quantity"] for row in self.batches.values())


def closed(begin: Mapping[str, Row], accounts: Iterable[Account]) -> Books:
    """The books after everything that the accounts say, from the items there were when they began."""
    books = Books({item_id: dict(row) for item_id, row in begin.items()}, {})
    entries = [entry for account in accounts for entry in account.entries]
    for entry in entries:
        if isinstance(entry, BatchInserted):
            row = {"itemId": entry.item_id, "quantity": entry.quantity, "status": entry.status}
            books.batches[entry.batch_id] = {**row, "locationId": entry.location}
    gone: set[str] = set()
    for entry in entries:
        match entry:
            case UnitsAdded(item_id, units):
                books.items[item_id]["quantityInStock"] += units
            case ItemSet(item_id, values):
                books.items[item_id].update(values)
            case ItemInserted(item_id, values):
                books.items[item_id] = dict(values)
            case ItemDeleted(item_id, batches):
                del books.items[item_id]
                gone.update(batches)
            case ItemRenamed(old, new, batches):
                books.items[new] = books.items.pop(old)
                for batch_id in batches:
                    if batch_id in books.batches:
                        books.batches[batch_id]["itemId"] = new
            case BatchUnitsAdded(batch_id, units):
                books.batches[batch_id]["quantity"] += units
            case BatchMoved(batch_id, item_id):
                books.batches[batch_id]["itemId"] = item_id
            case BatchDeleted(batch_id):
                gone.add(batch_id)
    books.batches = {batch_id: row for batch_id, row in books.batches.items() if batch_id not in gone}
    return books


def as_json(row: Row | None) -> Row | None:
    """As the database writes it into JSON, times aside, which are compared as times."""
    if row is None:
        return None
    return {name: _time(value) if name in ("orderDate", "expectedArrival") else value for name, value in row.items()}


def _time(value: object) -> object:
    return datetime.fromisoformat(value) if isinstance(value, str) else value
