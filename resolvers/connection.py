"""Pages by keyset (Relay's cursor connections): stable while rows are inserted, as quick at the end as at the start."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Integer,
    Select,
    and_,
    case,
    false,
    func,
    literal_column,
    null,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by

from resolvers.cursor import decode, encode, received, wire_type
from resolvers.errors import BadRequest
from resolvers.row import Row
from resolvers.scope import Scope
from resolvers.selection import Selected
from resolvers.sql import Fields, Json, Value, json_list, json_object

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


def page_size(selected: Selected, most_rows: int) -> int:
    """Raises BadRequest. A `first` of null is as if none were given to a field that says no default."""
    first = selected.arguments.get("first")
    size = DEFAULT_ROWS if first is None else first
    if not 0 <= size <= most_rows:
        raise BadRequest(f"first: {size} rows are asked for; a page has 0 to {most_rows}")
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
    or_else: "Sequence[Rows[RowT]]" = ()  # other ways to find the same rows; conditions see to it that one finds them

    def select(self, *columns: Value) -> Select[*tuple[Any, ...]]:
        query = select(*columns).where(*self.where)
        query = query.select_from(self.row.source())
        return query if self.outer is None else query.correlate(self.outer)


def asked_in_order(*conditions: ColumnElement[bool]) -> list[ColumnElement[bool]]:
    """Conditions on rows that are met by walking the index of a page's order until the page is full.

    PostgreSQL takes a CASE to hold of every other row. Of a condition that looks rare it would think that looking for
    all rows of which it holds, and sorting these, is cheaper.
    """
    return [case((and_(*conditions), true()), else_=false())] if conditions else []


def connection(
    scope: Scope,
    selected: Selected,
    rows: Callable[[], Rows[RowT]],
    show: Callable[[FromClause], RowT],
    fields: Fields[RowT],
    counted: Callable[[], Rows[RowT]] | None = None,
    noted: Callable[[RowT, Json], Json] = lambda _, shown: shown,
) -> Json | Value:
    """A page of `rows`, whose nodes `show` makes of the page's relation and `fields` answers.

    `counted` are the same rows for their count, if that is better looked for in another way than a page. `noted` may
    add to a node what is no part of the answer.
    """
    shown = rows()
    page = Page.of(scope, selected, shown)
    row = show(page.table)
    edge: Fields[RowT] = {
        "cursor": lambda _, __: encode(page.order, page.key, page.tie),
        "node": lambda row, node: noted(row, json_object(row, fields, node.children)),
    }
    answers: Fields[None] = {
        "edges": lambda _, edges: json_list(
            json_object(row, edge, edges.children), *page.in_order(), where=page.within
        ),
        "pageInfo": lambda _, info: json_object(None, page.info(), info.children),
        "totalCount": lambda _, __: (counted or rows)().select(func.count()).scalar_subquery(),
    }
    answer = json_object(None, answers, selected.children)
    if not (selected.asks("edges") or selected.asks("pageInfo")):
        return answer
    query = select(answer.value).select_from(row.source()).having(true())  # one row, even of what aggregates nothing
    return (query if shown.outer is None else query.correlate(shown.outer)).scalar_subquery()


@dataclass(frozen=True)
class Page:
    """The rows of one page as a relation, with their sort keys.

    When its `pageInfo` is asked for there is one row more, which tells whether another page follows, and positions.
    """

    table: FromClause
    order: str
    size: int
    descending: bool
    begins: bool
    counted: bool

    @classmethod
    def of(cls, scope: Scope, selected: Selected, rows: Rows[Any]) -> "Page":
        """Raises BadRequest."""
        order, size, after = rows.order, page_size(selected, scope.most_rows), selected.arguments.get("after")
        counted = selected.asks("pageInfo")
        # Written out: PostgreSQL plans a page of fifty otherwise than one of who knows how many.
        most: Value = literal_column(str(size + counted), Integer())

        def found(way: Rows[Any], *columns: Value) -> Select[*tuple[Any, ...]]:
            by = way.order
            here = way.select(*way.table.c, by.key.label("page_key"), by.tie.label("page_tie"), *columns)
            if after is not None:
                here = here.where(by.after(scope, after))
            return here.order_by(*by.columns()).limit(most)

        def position(by: Order) -> list[Value]:
            return [func.row_number().over(order_by=by.columns()).label("page_position")] if counted else []

        here = found(rows, *position(order))
        if rows.or_else:
            each = union_all(*[found(way) for way in (rows, *rows.or_else)]).subquery(scope.name("page"))
            by = Order(order.name, each.c.page_key, each.c.page_tie, order.descending)
            here = select(*each.c, *position(by)).order_by(*by.columns()).limit(most)
        table = here.subquery(scope.name("page"))
        return cls(table, order.name, size, order.descending, after is None, counted)

    @property
    def key(self) -> Value:
        return self.table.c.page_key

    @property
    def tie(self) -> Value:
        return self.table.c.page_tie

    @property
    def within(self) -> ColumnElement[bool]:
        """What holds of the page's rows, but not of the one behind it, if there is that one."""
        return self.table.c.page_position <= literal_column(str(self.size)) if self.counted else true()

    def in_order(self) -> list[Value]:
        return [part.desc() if self.descending else part.asc() for part in (self.key, self.tie)]

    def info(self) -> Fields[None]:
        return {
            "hasNextPage": lambda _, __: func.count() > literal_column(str(self.size)),
            "hasPreviousPage": lambda _, __: false() if self.begins else true(),
            "startCursor": lambda _, __: self._cursor_at(self.table.c.page_position.asc()),
            "endCursor": lambda _, __: self._cursor_at(self.table.c.page_position.desc()),
        }

    def _cursor_at(self, position: Value) -> Value:
        """The cursor of one end of the page: the only ones worth building."""

        def end(part: Value) -> Value:
            parts = func.array_agg(aggregate_order_by(part, position), type_=ARRAY(part.type))
            return parts.filter(self.within)[1]

        key = end(self.key)
        return case((key.is_not(null()), encode(self.order, key, end(self.tie))))
