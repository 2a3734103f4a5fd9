"""Which items: every filter as a condition on an item, and where an index may know the few that a filter leaves.

Filters see the values that the fields show (R3), so most are about an item's batches, and about its legacy columns when
it is not on the batch system. A page is found by walking the index of its order and asking each item, until the page
is full: as many items as the filter leaves one in, times the page. That is the wrong way when the filter leaves next to
none. So a filter by status or location first asks the index of the batches for a few more than FEW of what it wants:
when there are no more than FEW, the page is made of these. The statement decides when it runs (`ways`); costs are in
docs/decisions/0011.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    FromClause,
    Select,
    Text,
    and_,
    any_,
    cast,
    func,
    literal_column,
    not_,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY

from resolvers.connection import asked_in_order
from resolvers.item import ItemRow
from resolvers.reckoned import ReckonedItem
from resolvers.scope import Scope
from resolvers.sql import some_row

FEW = 1_000
"""So many are found, read and sorted in the time of some ten plain pages; finding that there are more takes one."""

Filter = Mapping[str, Any]


def conditions(item: ItemRow, filter_: Filter) -> list[ColumnElement[bool]]:
    """What must hold of an item."""
    return [FILTERS[name](item, value) for name, value in filter_.items() if value is not None]


def ways(scope: Scope, filter_: Filter) -> Iterator[tuple[ItemRow, list[ColumnElement[bool]]]]:
    """Items and what must hold of them, in each way to find a page of them; the statement takes one when it runs."""
    many: list[ColumnElement[bool]] = []
    if scope.shape.expanded:  # there are no indexes before
        for name, (column, wanted) in BY_LINE.items():
            if filter_.get(name) is not None:
                few = _Few.of(scope, column, wanted(scope, filter_[name]))
                item = ItemRow(scope, scope.items())
                yield item, [*many, few.are_all, item.c.id == any_(few.ids), *_conditions_in_order(item, filter_)]
                many.append(not_(few.are_all))
    item = ItemRow(scope, scope.items())
    yield item, [*many, *_conditions_in_order(item, filter_)]


def _conditions_in_order(item: ItemRow, filter_: Filter) -> list[ColumnElement[bool]]:
    by_index = conditions(item, {name: value for name, value in filter_.items() if name in INDEXED})
    others = conditions(item, {name: value for name, value in filter_.items() if name not in INDEXED})
    return [*by_index, *asked_in_order(*others)]


@dataclass(frozen=True)
class _Few:
    """The ids of all items that may have a line of what is wanted; or of some, more than FEW."""

    found: CTE

    @classmethod
    def of(cls, scope: Scope, column: str, wanted: ColumnElement[Any]) -> "_Few":
        item = ItemRow(scope, scope.items())
        # In the order of an index, which keeps PostgreSQL from reading the table in the hope of finding enough soon.
        legacy = select(item.c.id).where(_legacy(item, column) == any_(wanted)).order_by(item.c[column])
        most: ColumnElement[int] = literal_column(str(FEW + 1))
        if not item.may_use_batches:
            return cls(_kept(scope, _array(legacy.limit(most))))
        batch = scope.any_batch()
        batches = select(batch.c.itemId).where(batch.c[column] == any_(wanted))
        batches = batches.order_by(batch.c[column], batch.c.itemId)
        some = _kept(scope, _array(batches.limit(most)))
        others = legacy.where(_is_few(some.c.ids), not_(some_row(scope.ledger_entry(item.c.id)))).correlate(some)
        return cls(_kept(scope, func.array_cat(some.c.ids, _array(others.limit(most)))))

    @property
    def ids(self) -> ColumnElement[Any]:
        return cast(select(self.found.c.ids).scalar_subquery(), ARRAY(Text))

    @property
    def are_all(self) -> ColumnElement[bool]:
        return select(_is_few(self.found.c.ids)).scalar_subquery()


def _kept(scope: Scope, ids: ColumnElement[Any]) -> CTE:
    return select(ids.label("ids")).cte(scope.name("few")).prefix_with("MATERIALIZED")


def _array(ids: Select[str]) -> ColumnElement[Any]:
    return func.array(ids.scalar_subquery(), type_=ARRAY(Text))


def _is_few(ids: ColumnElement[Any]) -> ColumnElement[bool]:
    return func.cardinality(ids) <= literal_column(str(FEW))


def _legacy(item: ItemRow, column: str) -> ColumnElement[Any]:
    """The value of an item's legacy line, as it stands in the index."""
    known = column != "status" or item.scope.shape.status_is_enum
    return item.c[column] if known else item.legacy_line()[column]


def _own(item: ItemRow, *conditions: Callable[[FromClause], ColumnElement[bool]]) -> ColumnElement[bool]:
    """The item has a batch of which all this holds."""
    own, mine = item.scope.batches_of(item.c.id)
    query: Select[int] = (
        select(literal_column("1")).select_from(own).where(mine, *[condition(own) for condition in conditions])
    )
    return some_row(query.correlate(item.table))


def _using_batches(item: ItemRow) -> ColumnElement[bool]:
    if isinstance(item, ReckonedItem) or not item.may_use_batches:
        return item.using_batches
    return or_(some_row(item.scope.ledger_entry(item.c.id)), _own(item))


def _has_line(item: ItemRow, column: str, wanted: ColumnElement[Any]) -> ColumnElement[bool]:
    """Some line of the item has one of these values."""
    if isinstance(item, ReckonedItem):
        return item.some_line(f"some_{column.lower()}", lambda line: line.c[column] == any_(wanted))
    legacy = _legacy(item, column) == any_(wanted)
    if not item.may_use_batches:
        return legacy
    return or_(_own(item, lambda own: own.c[column] == any_(wanted)), and_(legacy, not_(_using_batches(item))))


def _statuses(scope: Scope, statuses: Any) -> ColumnElement[Any]:
    return scope.bind_labels(statuses)


def _places(scope: Scope, ids: Any) -> ColumnElement[Any]:
    """Of these the locations that the viewer may see."""
    known = scope.locations()
    return _array(select(known.c.id).where(known.c.id == any_(scope.bind(ids, ARRAY(Text)))))


BY_LINE: Mapping[str, tuple[str, Callable[[Scope, Any], ColumnElement[Any]]]] = {
    "statuses": ("status", _statuses),
    "locationIds": ("locationId", _places),
}
"""The filters by a value of a line: its column, and what is wanted of it as an array."""


def _by_line(name: str) -> Callable[[ItemRow, Any], ColumnElement[bool]]:
    column, wanted = BY_LINE[name]
    return lambda item, value: _has_line(item, column, wanted(item.scope, value))


def _either(condition: ColumnElement[bool], wanted: bool) -> ColumnElement[bool]:
    return condition if wanted else not_(condition)


def _containing(text: str) -> str:
    """The pattern of what contains a text, which has no wildcards of its own."""
    return "%" + text.replace("/", "//").replace("%", "/%").replace("_", "/_") + "%"


FILTERS: Mapping[str, Callable[[ItemRow, Any], ColumnElement[bool]]] = {
    "search": lambda item, value: item.c.name.ilike(item.scope.bind(value, Text(), _containing), escape="/"),
    "statuses": _by_line("statuses"),
    "locationIds": _by_line("locationIds"),
    "usingBatchSystem": lambda item, value: _either(_using_batches(item), value),
    "lowStock": lambda item, value: _either(item.low, value),
    "companyId": lambda item, value: item.c.companyId == item.scope.bind(value, Text()),
}
INDEXED = {"companyId"}
"""The filters by what the indexes of the orders begin with."""
