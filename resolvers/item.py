"""How an item is answered (R1, R2): out of its *stock lines*.

An item's lines are its batches when it is on the batch system, and one line made of its legacy columns when it is
not. That is said once, in `ItemRow.lines`; every quantity, status, location and value is a sum or a set over the lines.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Double,
    FromClause,
    Select,
    Text,
    any_,
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
from sqlalchemy.dialects.postgresql import ARRAY, JSON
from sqlalchemy.types import TypeEngine

from resolvers import batch, place
from resolvers.connection import connection
from resolvers.row import Row
from resolvers.scope import Scope
from resolvers.selection import Selected
from resolvers.sql import Fields, Value, column, json_list, json_object, moment


class ItemRow(Row):
    """One item in a statement under construction; what its fields need is joined to it once, and only if asked for."""

    def __init__(self, scope: Scope, table: FromClause) -> None:
        super().__init__(scope, table)
        self._stock = scope.name("stock")
        self._sums: dict[str, Value] = {}

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

    def lines(self) -> Select[Any]:
        """`status`, `quantity`, `locationId` and `value` (USD, freight included) of each stock line.

        Its batches; where there is none and the item was never copied, one line of the legacy columns. In one pass over
        the batches, which is what a page of items is made of.
        """
        legacy: dict[str, Value] = {
            "status": self.scope.known_status(self.c.status),
            "quantity": func.coalesce(self.c.quantityInStock, 0),
            "locationId": self.c.locationId,
            "value": _value(self.c.quantityInStock, self.c.costPerUnitUSD, self.c.freightCostUSD),
        }
        if not self.may_use_batches:
            return select(*[value.label(name) for name, value in legacy.items()]).correlate(self.table)
        own, mine = self.scope.batches_of(self.c.id)
        batch_values: dict[str, Value] = {
            "status": own.c.status,
            "quantity": own.c.quantity,
            "locationId": own.c.locationId,
            "value": _value(own.c.quantity, own.c.costPerUnitUSD, own.c.freightCostUSD),
        }
        once = select(literal_column("1")).subquery(self.scope.name("once"))
        none = own.c.id.is_(null())
        return (
            select(*[case((none, legacy[name]), else_=batch_values[name]).label(name) for name in legacy])
            .select_from(once.outerjoin(own, mine))
            .where(or_(not_(none), not_(self.scope.copied(self.c.id))))
            .correlate(self.table)
        )

    def source(self) -> FromClause:
        """The item's relation, joined with the sums over its lines that were asked for."""
        if not self._sums:
            return self.table
        sums = select(*[value.label(name) for name, value in self._sums.items()])
        return self.table.outerjoin(sums.correlate(self.table).lateral(self._stock), true())

    @cached_property
    def _line(self) -> FromClause:
        return self.lines().subquery(self.scope.name("line"))

    def _sum(self, name: str, value: Value, type_: TypeEngine[Any]) -> Value:
        self._sums[name] = value
        return literal_column(f"{self._stock}.{name}", type_)

    @property
    def total(self) -> Value:
        return self._sum("total", cast(func.coalesce(func.sum(self._line.c.quantity), 0), BigInteger), BigInteger())

    @property
    def value(self) -> Value:
        arrived = func.sum(self._line.c.value).filter(self._line.c.status.in_(self.scope.labels(["Arrived"])))
        return self._sum("value", func.coalesce(arrived, 0.0), Double())

    @property
    def statuses(self) -> Value:
        found = func.array_agg(self._line.c.status.distinct()).filter(self._line.c.status.is_not(null()))
        return self._sum("statuses", func.coalesce(func.to_json(found), func.json_build_array()), JSON())

    @property
    def low(self) -> ColumnElement[bool]:
        """At or below its minimum level; without one an item is never low."""
        return func.coalesce(self.total <= self.c.minStockLevel, false(), type_=Boolean)

    def locations(self, selected: Selected) -> Value:
        """The lines' distinct locations, by name then id."""
        ids = self._sum("places", func.array_agg(self._line.c.locationId), ARRAY(Text))
        return place.locations(self.scope, selected, lambda location: location.c.id == any_(ids))

    def grouped(self, group: Callable[[Scope, FromClause, Selected], Select[Any]], selected: Selected) -> Value:
        return group(self.scope, self.lines().subquery(self.scope.name("line")), selected).scalar_subquery()

    def legacy(self, selected: Selected) -> Value:
        """The legacy columns as they stand; NULL once they are dropped."""
        return json_object(self, LEGACY, selected.children) if self.scope.shape.has_legacy_columns else null()

    def batches(self, selected: Selected) -> Value:
        """A page of the item's batches, oldest first."""
        status = selected.arguments.get("status")
        return connection(
            self.scope,
            selected,
            lambda: batch.batches_of(self.scope, self.table, status),
            lambda page: Row(self.scope, page),
            batch.BATCH,
        )


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
    return select(json_list(shown, group.c.status))


def quantity_by_location(scope: Scope, line: FromClause, selected: Selected) -> Select[Any]:
    """Units at each location, by name then id; those without one (or one that may not be seen) last, under null."""
    known = scope.locations()
    group = (
        select(known.c.id, known.c.name, _units(line).label("quantity"))
        .select_from(line.outerjoin(known, known.c.id == line.c.locationId))
        .group_by(known.c.id, known.c.name)
        .subquery(scope.name("group"))
    )
    fields: Fields[FromClause] = {
        "location": lambda row, location: case(
            (row.c.id.is_not(null()), json_object(Row(scope, row), place.LOCATION, location.children))
        ),
        "quantity": _of_group("quantity"),
    }
    return select(json_list(json_object(group, fields, selected.children), group.c.name, group.c.id))


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
    "quantityByLocation": lambda item, selected: item.grouped(quantity_by_location, selected),
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


def one_item(scope: Scope, id_: Value, selected: Selected) -> Value:
    """The item with an id as an object; NULL when there is none that the viewer may see."""
    row = ItemRow(scope, scope.items())
    shown = json_object(row, ITEM, selected.children)
    return select(shown).select_from(row.source()).where(row.c.id == id_).scalar_subquery()
