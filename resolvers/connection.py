"""Pages by keyset (Relay's cursor connections): stable while rows are inserted, as quick at the end as at the start."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Integer,
    Select,
    case,
    func,
    literal,
    literal_column,
    null,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by

from resolvers.cursor import decode, encode, received, wire_type
from resolvers.errors import BadRequest
from resolvers.row import Row
from resolvers.scope import Scope
from resolvers.selection import Selected
from resolvers.sql import EMPTY, Fields, Value, json_object

DEFAULT_ROWS = 50


@dataclass(frozen=True)
class Order:
    """A sort key with its direction; `name` is what its cursors carry. `tie` breaks ties, in that direction."""

    name: str
    key: Value
    tie: Value
    descending: bool = False

    def columns(self) -> list[Value]:
        parts = [self.key] if self.key is self.tie else [self.key, self.tie]
        return [part.desc() if self.descending else part.asc() for part in parts]

    def after(self, scope: Scope, cursor: Any) -> ColumnElement[bool]:
        """Behind the row of a cursor, which is known or will arrive."""
        types = [self.key.type, self.tie.type]

        def part(position: int) -> Value:
            value = scope.bind(cursor, wire_type(types[position]), lambda it: decode(it, self.name, types)[position])
            return received(value, types[position])

        here, there = tuple_(self.key, self.tie), tuple_(part(0), part(1))
        return here < there if self.descending else here > there


def page_size(scope: Scope, selected: Selected) -> int:
    """Raises BadRequest. A `first` of null is as if none were given to a field that says no default."""
    first = selected.arguments.get("first")
    size = DEFAULT_ROWS if first is None else first
    if not 0 <= size <= scope.most_rows:
        raise BadRequest(f"first: {size} rows are asked for; a page has 0 to {scope.most_rows}")
    return int(size)


RowT = TypeVar("RowT", bound=Row)


@dataclass(frozen=True)
class Rows(Generic[RowT]):
    """The rows to page through: the columns a node needs, what they are selected from, which, in what order."""

    table: FromClause
    row: RowT
    where: list[ColumnElement[bool]]
    order: Order
    outer: FromClause | None = None  # the row that these belong to, when they are nested in one

    def select(self, *columns: Value) -> Select[*tuple[Any, ...]]:
        query = select(*columns).where(*self.where)
        query = query.select_from(self.row.source())
        return query if self.outer is None else query.correlate(self.outer)


def connection(
    scope: Scope,
    selected: Selected,
    rows: Callable[[], Rows[RowT]],
    show: Callable[[FromClause], RowT],
    fields: Fields[RowT],
) -> Value:
    """A page of `rows`, whose nodes `show` makes of the page's relation and `fields` answers."""
    size = page_size(scope, selected)
    after = selected.arguments.get("after")
    shown = rows()
    page = _page(scope, shown, size, after)
    row = show(page)
    within = page.c.page_position <= size
    cursor = encode(shown.order.name, page.c.page_key, page.c.page_tie)
    answers: Fields[None] = {
        "edges": lambda _, edges: func.coalesce(
            func.json_agg(
                aggregate_order_by(
                    json_object(
                        row,
                        {"cursor": lambda _, __: cursor, "node": lambda r, node: json_object(r, fields, node.children)},
                        edges.children,
                    ),
                    page.c.page_position,
                )
            ).filter(within),
            EMPTY,
        ),
        "pageInfo": lambda _, info: json_object(None, _page_info(page, shown.order.name, size, after), info.children),
        "totalCount": lambda _, __: _count(rows()),
    }
    pairs = json_object(None, answers, selected.children)
    if not (selected.asks("edges") or selected.asks("pageInfo")):
        return pairs
    query = select(pairs).select_from(row.source()).having(true())  # one row, even of what aggregates nothing
    return (query if shown.outer is None else query.correlate(shown.outer)).scalar_subquery()


def _page(scope: Scope, rows: Rows[RowT], size: int, after: Any) -> FromClause:
    """One row more than the page has: it tells whether another page follows."""
    order = rows.order
    here = rows.select(
        *rows.table.c,
        order.key.label("page_key"),
        order.tie.label("page_tie"),
        func.row_number().over(order_by=order.columns()).label("page_position"),
    )
    if after is not None:
        here = here.where(order.after(scope, after))
    # Written out: PostgreSQL plans a page of fifty otherwise than one of who knows how many.
    most: Value = literal_column(str(size + 1), Integer())
    return here.order_by(*order.columns()).limit(most).subquery(scope.name("page"))


def _page_info(page: FromClause, order: str, size: int, after: Any) -> Fields[None]:
    def cursor_at(position: Value) -> Value:
        """The cursor of one end of the page: the only ones worth building."""

        def end(part: Value) -> Value:
            parts = func.array_agg(aggregate_order_by(part, position), type_=ARRAY(part.type))
            return parts.filter(page.c.page_position <= size)[1]

        key = end(page.c.page_key)
        return case((key.is_not(null()), encode(order, key, end(page.c.page_tie))))

    return {
        "hasNextPage": lambda _, __: func.count() > size,
        "hasPreviousPage": lambda _, __: literal(after is not None),
        "startCursor": lambda _, __: cursor_at(page.c.page_position.asc()),
        "endCursor": lambda _, __: cursor_at(page.c.page_position.desc()),
    }


def _count(rows: Rows[RowT]) -> Value:
    return rows.select(func.count()).scalar_subquery()
