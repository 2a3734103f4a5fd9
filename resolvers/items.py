"""How lists of items are answered: which (R3: filters see the values that the fields show), in what order, and sums."""

from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, FromClause, Select, cast, func, select

from db.indexes import by_creation, by_name
from resolvers.connection import Order, Rows, connection
from resolvers.dual_read import noted
from resolvers.item import ITEM, ItemRow, quantity_by_location, quantity_by_status
from resolvers.item_filters import conditions, ways
from resolvers.reckoned import ReckonedItem
from resolvers.scope import Scope
from resolvers.selection import Selected
from resolvers.sql import Fields, Json, Value, json_object

SORT_KEYS: Mapping[str, Callable[[ItemRow], Value]] = {
    "NAME": lambda item: by_name(item.table),
    "CREATED_AT": lambda item: by_creation(item.table),
    "TOTAL_QUANTITY": lambda item: item.total,
}
INDEXED = {"NAME", "CREATED_AT"}


def items(scope: Scope, selected: Selected) -> Value | Json:
    """A page of items in the order that was asked for."""
    order_by = selected.arguments.get("orderBy") or {}
    filter_ = selected.arguments.get("filter") or {}
    field = _name(order_by.get("field"), "NAME")
    descending = _name(order_by.get("direction"), "ASC") == "DESC"

    def ordered(
        item: ItemRow, where: list[ColumnElement[bool]], or_else: Sequence[Rows[ItemRow]] = ()
    ) -> Rows[ItemRow]:
        order = Order(f"{field}_{'DESC' if descending else 'ASC'}", SORT_KEYS[field](item), item.c.id, descending)
        return Rows(item.table, item, where, order, or_else=or_else)

    def all_rows() -> Rows[ItemRow]:
        item = ReckonedItem(scope, scope.items())
        return ordered(item, conditions(item, filter_))

    def rows() -> Rows[ItemRow]:
        if field not in INDEXED:
            return all_rows()
        first, *others = ways(scope, filter_)
        return ordered(*first, or_else=[ordered(*other) for other in others])

    def show(page: FromClause) -> ItemRow:
        return ItemRow(scope, page)

    if scope.compares:
        return connection(scope, selected, rows, show, ITEM, counted=all_rows, noted=noted)
    return connection(scope, selected, rows, show, ITEM, counted=all_rows)


def _name(value: Enum | str | None, default: str) -> str:
    return default if value is None else str(value.value if isinstance(value, Enum) else value)


def stock_summary(scope: Scope, selected: Selected) -> Value | Json:
    """Sums over the items that a filter leaves."""
    filter_ = selected.arguments.get("filter") or {}
    item = ReckonedItem(scope, scope.items())
    where = conditions(item, filter_)

    def over_lines(group: Callable[[Scope, FromClause, Selected], Select[Any]]) -> Callable[[None, Selected], Value]:
        def answer(_: None, child: Selected) -> Value:
            each = ReckonedItem(scope, scope.items())
            holding = conditions(each, filter_)
            left = select(each.table).where(*holding).select_from(each.source())
            lines = ReckonedItem(scope, left.subquery(scope.name("item"))).lines(placed=True, of_all=True)
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
