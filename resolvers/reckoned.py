"""Items whose sums are reckoned for all of them together: for orders by them, and for counts and sums over many."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

from sqlalchemy import (
    Boolean,
    ColumnElement,
    FromClause,
    case,
    false,
    func,
    literal_column,
    not_,
    null,
    select,
    true,
)
from sqlalchemy.types import TypeEngine

from resolvers.item import ItemRow, batch_line
from resolvers.scope import Scope
from resolvers.sql import Value, some_row


class ReckonedItem(ItemRow):
    """An item as one of all: a single pass over the batches sums them up, where an ItemRow looks up its own.

    What is looked up after all is the legacy line of the items that have no batch.
    """

    def __init__(self, scope: Scope, table: FromClause) -> None:
        super().__init__(scope, table)
        self._known: dict[str, Value] = {}

    def source(self) -> FromClause:
        if not self._sums or not self.may_use_batches:
            return super().source()
        batch = self.scope.any_batch()
        columns = [value.label(name) for name, value in batch_line(batch).items()]
        line = select(batch.c.itemId.label("item"), *columns).subquery(self.scope.name("line"))
        sums = select(line.c.item, *[value(line).label(name) for name, value in self._sums.items()])
        stock = sums.group_by(line.c.item).subquery(self._stock)
        return self.table.outerjoin(stock, stock.c.item == self.c.id)

    @cached_property
    def using_batches(self) -> ColumnElement[bool]:
        if not self.may_use_batches:
            return false()
        self._sums["lines"] = lambda _: func.count()  # whatever it is, of the items that have batches there is one
        copied = some_row(self.scope.ledger_entry(self.c.id))
        return case((self._has_batch, true()), else_=copied)  # not OR, of which PostgreSQL may ask the latter first

    @property
    def _has_batch(self) -> ColumnElement[bool]:
        return literal_column(f"{self._stock}.item").is_not(null())

    def some_line(self, name: str, condition: Callable[[FromClause], ColumnElement[bool]]) -> ColumnElement[bool]:
        """The condition holds of one of the item's lines. `name` tells it from others of the same item."""
        return self._sum(name, lambda line: func.coalesce(func.bool_or(condition(line)), false()), Boolean())

    def _sum(self, name: str, value: Callable[[FromClause], Value], type_: TypeEngine[Any]) -> Value:
        of_batches = super()._sum(name, value, type_)
        if not self.may_use_batches:
            return of_batches
        if name not in self._known:
            columns = [one.label(column) for column, one in self.legacy_line().items()]
            line = select(*columns).where(not_(self.scope.copied(self.c.id))).correlate(self.table)
            of_legacy = select(value(line.subquery(self.scope.name("line")))).scalar_subquery()
            self._known[name] = case((self._has_batch, of_batches), else_=of_legacy)
        return self._known[name]
