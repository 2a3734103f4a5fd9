"""How an item is answered (R1, R2): out of its *stock lines*.

An item's lines are its batches when it is on the batch system, and one line made of its legacy columns when it is
not. That is said once, in `ItemRow.lines`; every quantity, status, location and value is a sum or a set over the lines.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import orjson
from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Double,
    FromClause,
    Select,
    case,
    cast,
    exists,
    false,
    func,
    literal_column,
    not_,
    null,
    or_,
    select,
    true,
)
from sqlalchemy.types import TypeEngine

from resolvers import batch, place
from resolvers.connection import connection
from resolvers.dual_read import noted
from resolvers.row import Row
from resolvers.scope import Scope
from resolvers.selection import Selected
from resolvers.sql import JSON_TEXT, Fields, Json, Value, column, constant, json_items, json_list, json_object, moment

PLACE = ("id", "name")


class ItemRow(Row):
    """One item in a statement under construction; what its fields need is joined to it once, and only if asked for."""

    def __init__(self, scope: Scope, table: FromClause) -> None:
        super().__init__(scope, table)
        self._stock = scope.name("stock")
        self._sums: dict[str, Callable[[FromClause], Value]] = {}
        self._placed = False

    @property
    def may_use_batches(self) -> bool:
        shape = self.scope.shape
        return shape.read_source == "AUTO" and shape.batches_known

    @cached_property
    def using_batches(self) -> ColumnElement[bool]:
        """R1, and R4: the item has a batch, or was ever copied."""
        if not self.may_use_batches:
            return false()
        own, mine = self.scope.batches_of(self.c.id)
        has_batch = exists().select_from(own).where(mine).correlate_except(own)
        return or_(has_batch, self.scope.copied(self.c.id))

    def lines(self, *, placed: bool = False, of_all: bool = False) -> Select[Any]:
        """`status`, `quantity`, `locationId` and `value` (USD, freight included) of each stock line.

        Its batches; where there is none and the item was never copied, one line of the legacy columns. In one pass over
        the batches, which is what a page of items is made of. `placed` adds `id` and `name` of the line's location, if
        there is one that may be seen. `of_all` items they are joined, not of the one that the SELECT stands beside.
        """
        legacy = self.legacy_line()
        if placed:
            legacy |= {name: self._place(name) for name in PLACE}
        beside: FromClause = self.table if of_all else select(literal_column("1")).subquery(self.scope.name("once"))
        if not self.may_use_batches:
            lines = select(*[value.label(name) for name, value in legacy.items()]).select_from(beside)
            return lines if of_all else lines.correlate(self.table)
        own, mine = self.scope.batches_of(self.c.id)
        batch_values = batch_line(own)
        batches = own
        if placed:
            known = self.scope.locations()
            batches = own.outerjoin(known, known.c.id == own.c.locationId)
            batch_values |= {name: known.c[name] for name in PLACE}
        none = own.c.id.is_(null())
        lines = (
            select(*[case((none, legacy[name]), else_=batch_values[name]).label(name) for name in legacy])
            .select_from(beside.outerjoin(batches, mine))
            .where(or_(not_(none), not_(self.scope.copied(self.c.id))))
        )
        return lines if of_all else lines.correlate(self.table)

    def legacy_line(self) -> dict[str, Value]:
        """The line that an item's own columns make."""
        return {
            "status": self.scope.known_status(self.c.status),
            "quantity": func.coalesce(self.c.quantityInStock, 0),
            "locationId": self.c.locationId,
            "value": _value(self.c.quantityInStock, self.c.costPerUnitUSD, self.c.freightCostUSD),
        }

    def _place(self, name: str) -> Value:
        """Of the legacy location. Looked up in the CASE of the items that still answer from it, and for no other."""
        known = self.scope.locations()
        return select(known.c[name]).where(known.c.id == self.c.locationId).correlate(self.table).scalar_subquery()

    def source(self) -> FromClause:
        """The item's relation, joined with the sums over its lines that were asked for."""
        if not self._sums:
            return self.table
        # OFFSET keeps the lines a table of their own: else each sum would work out each of its columns anew.
        line = self.lines(placed=self._placed).offset(literal_column("0")).subquery(self.scope.name("line"))
        sums = select(*[value(line).label(name) for name, value in self._sums.items()])
        return self.table.outerjoin(sums.correlate(self.table).lateral(self._stock), true())

    def _sum(self, name: str, value: Callable[[FromClause], Value], type_: TypeEngine[Any]) -> Value:
        self._sums[name] = value
        return literal_column(f"{self._stock}.{name}", type_)

    @property
    def total(self) -> Value:
        return self._sum("total", lambda line: func.coalesce(_units(line), 0), BigInteger())

    @property
    def value(self) -> Value:
        def arrived(line: FromClause) -> Value:
            there = or_(false(), *[line.c.status == label for label in self.scope.labels(["Arrived"])])
            return func.coalesce(func.sum(line.c.value).filter(there), 0.0)

        return self._sum("value", arrived, Double())

    @property
    def statuses(self) -> Value:
        """The lines' distinct statuses in the order of the enum: looked for one by one, which sorts nothing."""

        def found(line: FromClause) -> Value:
            labels = self.scope.shape.status_labels
            some = [
                case((func.bool_or(line.c.status == status), constant(orjson.dumps(label).decode())))
                for label, status in zip(labels, self.scope.labels(labels), strict=True)
            ]
            return Json(("[", json_items(some), "]")).value

        return self._sum("statuses", found, JSON_TEXT)

    @property
    def low(self) -> ColumnElement[bool]:
        """At or below its minimum level; without one an item is never low."""
        return func.coalesce(self.total <= self.c.minStockLevel, false(), type_=Boolean)

    def locations(self, selected: Selected) -> Value:
        """The lines' distinct locations, by name then id."""
        self._placed = True
        name = self.scope.name("locations")
        return self._sum(name, lambda line: place.location_set(line, selected).value, JSON_TEXT)

    def grouped(
        self, group: Callable[[Scope, FromClause, Selected], Select[Any]], selected: Selected, *, placed: bool = False
    ) -> Value:
        line = self.lines(placed=placed).subquery(self.scope.name("line"))
        return group(self.scope, line, selected).scalar_subquery()

    def legacy(self, selected: Selected) -> Value | Json:
        """The legacy columns as they stand; NULL once they are dropped."""
        return json_object(self, LEGACY, selected.children) if self.scope.shape.has_legacy_columns else null()

    def batches(self, selected: Selected) -> Value | Json:
        """A page of the item's batches, oldest first."""
        status = selected.arguments.get("status")
        return connection(
            self.scope,
            selected,
            lambda: batch.batches_of(self.scope, self.table, status),
            lambda page: Row(self.scope, page),
            batch.BATCH,
        )


def batch_line(own: FromClause) -> dict[str, Value]:
    """The line that a batch is."""
    return {
        "status": own.c.status,
        "quantity": own.c.quantity,
        "locationId": own.c.locationId,
        "value": _value(own.c.quantity, own.c.costPerUnitUSD, own.c.freightCostUSD),
    }


def _value(quantity: Value, cost: Value, freight: Value) -> Value:
    """Units at cost, and the freight of the whole line once."""
    return func.coalesce(quantity * cost, 0.0) + func.coalesce(freight, 0.0)


def quantity_by_status(scope: Scope, line: FromClause, selected: Selected) -> Select[Any]:
    """Units of each status, in the enum's order; a line without a status is of none."""
    group = (
        select(line.c.status, _units(line).label("quantity"))
        .where(line.c.status.is_not(null()))
        .group_by(line.c.status)
        .subquery(scope.name("group"))
    )
    shown = json_object(group, {"status": _of_group("status"), "quantity": _of_group("quantity")}, selected.children)
    return select(json_list(shown, group.c.status).value)


def quantity_by_location(scope: Scope, line: FromClause, selected: Selected) -> Select[Any]:
    """Units at each location, by name then id; those without one (or one that may not be seen) last, under null."""
    group = (
        select(line.c.id, line.c.name, _units(line).label("quantity"))
        .group_by(line.c.id, line.c.name)
        .subquery(scope.name("group"))
    )

    def location(row: FromClause, of: Selected) -> Value:
        return case((row.c.id.is_not(null()), json_object(Row(scope, row), place.LOCATION, of.children).value))

    fields: Fields[FromClause] = {"location": location, "quantity": _of_group("quantity")}
    return select(json_list(json_object(group, fields, selected.children), *place.in_order(group)).value)


def _of_group(name: str) -> Callable[[FromClause, Selected], Value]:
    return lambda row, _: row.c[name]


def _units(line: FromClause) -> Value:
    return cast(func.sum(line.c.quantity), BigInteger)


ITEM: Fields[ItemRow] = {
    "id": column("id"),
    "name": column("name"),
    "totalQuantity": lambda item, _: item.total,
    "locations": lambda item, selected: item.locations(selected),
    "statuses": lambda item, _: item.statuses,
    "usingBatchSystem": lambda item, _: item.using_batches,
    "quantityByStatus": lambda item, selected: item.grouped(quantity_by_status, selected),
    "quantityByLocation": lambda item, selected: item.grouped(quantity_by_location, selected, placed=True),
    "stockValueUSD": lambda item, _: item.value,
    "batches": lambda item, selected: item.batches(selected),
    "legacy": lambda item, selected: item.legacy(selected),
    "minStockLevel": column("minStockLevel"),
    "sellingPriceSRD": column("sellingPriceSRD"),
    "createdAt": moment("createdAt"),
    "updatedAt": moment("updatedAt"),
}

LEGACY: Fields[ItemRow] = {
    "quantityInStock": column("quantityInStock"),
    "status": lambda item, _: item.scope.known_status(item.c.status),
    "location": lambda item, selected: place.location(item.scope, item.c.locationId, selected),
    "costPerUnitUSD": column("costPerUnitUSD"),
    "freightCostUSD": column("freightCostUSD"),
}


def one_item(scope: Scope, id_: Value, selected: Selected, *, compared: bool = False) -> Value:
    """The item with an id as an object; NULL when there is none that the viewer may see."""
    row = ItemRow(scope, scope.items())
    shown = json_object(row, ITEM, selected.children)
    if compared:
        shown = noted(row, shown)
    return select(shown.value).select_from(row.source()).where(row.c.id == id_).scalar_subquery()
