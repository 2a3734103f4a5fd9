"""The few shapes that an answer is made of: an object, a list of them, a page of them; each one expression of JSON.

The database answers in JSON under the very keys that the client chose, so nothing is renamed afterwards, and a list
inside an object inside a list is still one statement.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeAlias, TypeVar

from sqlalchemy import (
    Case,
    ColumnClause,
    ColumnElement,
    Text,
    and_,
    case,
    cast,
    func,
    literal,
    literal_column,
    null,
    or_,
)
from sqlalchemy.dialects.postgresql import JSON, aggregate_order_by
from sqlalchemy.sql.base import ReadOnlyColumnCollection

from resolvers.errors import BadRequest
from resolvers.selection import Selected

Value: TypeAlias = ColumnElement[Any]
Row = TypeVar("Row")
Fields: TypeAlias = Mapping[str, Callable[[Row, Selected], Value]]

MARK = r"\u0000 is null"
"""What no data can contain, as JSON has it: PostgreSQL's texts have no NUL."""
MOST_FIELDS = 50
"""PostgreSQL passes at most 100 arguments to a function: 50 keys and their values."""


def json_object(row: Row, fields: Fields[Row], selected: Iterable[Selected]) -> Value:
    """An object with the selected fields of a row."""
    pairs: list[Value] = []
    never_null: list[Value] = []
    for child in selected:
        value = _name(child.parent) if child.name == "__typename" else fields[child.name](row, child)
        pairs += [_name(child.key), value]
        if child.required and not child.children and isinstance(value, ColumnClause | Case):
            never_null.append(value)
    if len(pairs) > 2 * MOST_FIELDS:
        raise BadRequest(f"{len(pairs) // 2} fields of one object are asked for, at most {MOST_FIELDS} are answered")
    built = func.json_build_object(*pairs, type_=JSON)
    scope = getattr(row, "scope", None)
    if scope is None or not scope.strict or not never_null:
        return built
    missing = or_(*[value.is_(null()) for value in never_null])
    return case((missing, cast(literal(f'"{MARK}"', Text), JSON)), else_=built)


def _name(name: str) -> Value:
    """A name of GraphQL, which has letters, digits and underscores only, as a constant in the statement."""
    return literal_column(f"'{name}'", Text())


def json_list(value: Value, *order: Value) -> Value:
    """The values of a group as a list, never NULL."""
    return func.coalesce(func.json_agg(aggregate_order_by(value, *order)), EMPTY, type_=JSON)


EMPTY = func.json_build_array(type_=JSON)


def instant(timestamp: Value) -> Value:
    """`timestamp(3)` in UTC, as the shop stores it, to the text that JavaScript writes.

    A time out of the years 1 to 9999 has no such text; it is answered in PostgreSQL's words, as `infinity` is.
    """
    usual = and_(timestamp >= YEAR_1, timestamp < YEAR_10000)
    return case((usual, func.to_char(timestamp, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')), else_=cast(timestamp, Text))


YEAR_1: Value = literal_column("timestamp '0001-01-01'")
YEAR_10000: Value = literal_column("timestamp '10000-01-01'")


class HasColumns(Protocol):
    @property
    def c(self) -> ReadOnlyColumnCollection[str, Any]: ...


def column(name: str) -> Callable[[HasColumns, Selected], Value]:
    """The field is a column as it stands."""
    return lambda row, _: row.c[name]


def moment(name: str) -> Callable[[HasColumns, Selected], Value]:
    """The field is a column of the shop's time."""
    return lambda row, _: instant(row.c[name])
