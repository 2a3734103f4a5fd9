"""How lists of items are answered: which (R3: filters see the values that the fields show), in what order, and sums."""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Select,
    Text,
    any_,
    cast,
    exists,
    func,
    literal_column,
    not_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY

from resolvers.connection import Order, Rows, connection
from resolvers.item import ITEM, ItemRow, quantity_by_location, quantity_by_status
from resolvers.scope import Scope
from resolvers.selection import Selected
from resolvers.sql import Fields, Json, Value, json_object


def filtered(scope: Scope, filter_: Mapping[str, Any] | None) -> tuple[ItemRow, list[ColumnElement[bool]]]:
    """Items, and what must hold of them; on resolved values (R3)."""
    item = ItemRow(scope, scope.items())
    return item, [FILTERS[name](item, value) for name, value in (filter_ or {}).items() if value is not None]


def _either(condition: ColumnElement[bool], wanted: bool) -> ColumnElement[bool]:
    return condition if wanted else not_(condition)


def _has_status(item: ItemRow, statuses: Any) -> ColumnElement[bool]:
    """Some line of the item has one of the statuses."""
    line = item.lines().subquery(item.scope.name("line"))
    wanted = any_(item.scope.bind_labels(statuses))
    return exists().select_from(line).where(line.c.status == wanted).correlate(item.table)


def _has_location(item: ItemRow, ids: Any) -> ColumnElement[bool]:
    """Some line of the item is at one of the locations, as far as the viewer may see them."""
    line = item.lines().subquery(item.scope.name("line"))
    known = item.scope.locations()
    joined = line.join(known, known.c.id == line.c.locationId)
    return (
        exists().select_from(joined).where(known.c.id == any_(item.scope.bind(ids, ARRAY(Text)))).correlate(item.table)
    )


FILTERS: Mapping[str, Callable[[ItemRow, Any], ColumnElement[bool]]] = {
    "search": lambda item, value: item.c.name.ilike(item.scope.bind(value, Text(), _containing), escape="/"),
    "statuses": lambda item, value: _has_status(item, value),
    "locationIds": lambda item, value: _has_location(item, value),
    "usingBatchSystem": lambda item, value: _either(item.using_batches, value),
    "lowStock": lambda item, value: _either(item.low, value),
    "companyId": lambda item, value: item.c.companyId == item.scope.bind(value, Text()),
}


def _containing(text: str) -> str:
    """The pattern of what contains a text, which has no wildcards of its own."""
    return "%" + text.replace("/", "//").replace("%", "/%").replace("_", "/_") + "%"


EVER: Value = literal_column("timestamp '-infinity'")
"""When an item came into being of which nobody wrote it down."""

SORT_KEYS: Mapping[str, Callable[[ItemRow], Value]] = {
    "NAME": lambda item: item.c.name,
    "CREATED_AT": lambda item: func.coalesce(item.c.createdAt, EVER, type_=item.c.createdAt.type),
    "TOTAL_QUANTITY": lambda item: item.total,
}


def items(scope: Scope, selected: Selected) -> Value | Json:
    """A page of items in the order that was asked for."""
    order_by = selected.arguments.get("orderBy") or {}
    field = _name(order_by.get("field"), "NAME")
    descending = _name(order_by.get("direction"), "ASC") == "DESC"

    def rows() -> Rows[ItemRow]:
        item, where = filtered(scope, selected.arguments.get("filter"))
        order = Order(f"{field}_{'DESC' if descending else 'ASC'}", SORT_KEYS[field](item), item.c.id, descending)
        return Rows(item.table, item, where, order)

    return connection(scope, selected, rows, lambda page: ItemRow(scope, page), ITEM)


def _name(value: Enum | str | None, default: str) -> str:
    return default if value is None else str(value.value if isinstance(value, Enum) else value)


def stock_summary(scope: Scope, selected: Selected) -> Value | Json:
    """Sums over the items that a filter leaves."""
    item, where = filtered(scope, selected.arguments.get("filter"))

    def over_lines(group: Callable[[Scope, FromClause, Selected], Select[Any]]) -> Callable[[None, Selected], Value]:
        def answer(_: None, child: Selected) -> Value:
            each, conditions = filtered(scope, selected.arguments.get("filter"))
            line = each.lines(placed=True).lateral(scope.name("line"))
            lines = select(line).select_from(each.source().join(line, true())).where(*conditions)
            return group(scope, lines.subquery(scope.name("line")), child).scalar_subquery()

        return answer

    fields: Fields[None] = {
        "items": lambda _, __: func.count(),
        "lowStockItems": lambda _, __: func.count().filter(item.low),
        "totalQuantity": lambda _, __: cast(func.coalesce(func.sum(item.total), 0), BigInteger),
        "stockValueUSD": lambda _, __: func.coalesce(func.sum(item.value), 0.0),
        "quantityByStatus": over_lines(quantity_by_status),
        "quantityByLocation": over_lines(quantity_by_location),
    }
    shown = json_object(None, fields, selected.children)
    if not any(selected.asks(name) for name in ("items", "lowStockItems", "totalQuantity", "stockValueUSD")):
        return shown  # the rest are sums of their own
    return select(shown.value).select_from(item.source()).where(*where).scalar_subquery()
