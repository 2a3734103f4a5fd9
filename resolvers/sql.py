"""The few shapes that an answer is made of: an object, and a list of them; each written as JSON by the database.

The database answers in JSON under the very keys that the client chose, so nothing is renamed afterwards, and a list
inside an object inside a list is still one statement. The JSON is put together as text: `concat` and `string_agg` cost
PostgreSQL much less than `json_build_object` and `json_agg`, which look at the types of their arguments row by row.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Integer,
    Select,
    Text,
    and_,
    case,
    cast,
    exists,
    func,
    literal_column,
    true,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by
from sqlalchemy.sql.base import ReadOnlyColumnCollection
from sqlalchemy.types import NullType

from resolvers.selection import Selected

Value: TypeAlias = ColumnElement[Any]
Row = TypeVar("Row")

MARK = r'"\u0000 is null"'
"""What the database writes for NULL where the schema has none. No data has it: PostgreSQL's texts have no NUL."""
MOST_ARGUMENTS = 100
"""PostgreSQL passes at most so many to a function."""


class JsonText(Text):
    """A text that is JSON already."""


JSON_TEXT = JsonText()
TRUE = true()


@dataclass(frozen=True)
class Json:
    """JSON under construction, which is never NULL: the concatenation of texts and of expressions of text."""

    parts: tuple[str | Value, ...]

    @property
    def value(self) -> Value:
        pieces = list(_merged(self.parts))
        while len(pieces) > MOST_ARGUMENTS:
            groups = range(0, len(pieces), MOST_ARGUMENTS)
            pieces = [func.concat(*pieces[first : first + MOST_ARGUMENTS], type_=Text()) for first in groups]
        return func.concat(*pieces, type_=JSON_TEXT)


Fields: TypeAlias = Mapping[str, Callable[[Row, Selected], Value | Json]]


def json_object(row: Row, fields: Fields[Row], selected: Iterable[Selected]) -> Json:
    """An object with the selected fields of a row."""
    parts: list[str | Value] = []
    for child in selected:
        parts.append(f'{"," if parts else "{"}"{child.key}":')
        if child.name == "__typename":
            parts.append(f'"{child.parent}"')
        else:
            parts += json_parts(fields[child.name](row, child), null=MARK if child.required else "null")
    return Json((*parts, "}") if parts else ("{}",))


def json_list(value: Json, *order: Value, where: ColumnElement[bool] = TRUE) -> Json:
    """The values of a group as a list; `where` says which."""
    separator: Value = constant(",")
    listed: Value = func.string_agg(value.value, aggregate_order_by(separator, *order) if order else separator)
    return Json(("[", listed if where is TRUE else listed.filter(where), "]"))


def json_items(values: Iterable[Value]) -> Value:
    """The values that are there as the items of a list; NULL when there is none."""
    items = list(values)
    while len(items) >= MOST_ARGUMENTS:
        groups = range(0, len(items), MOST_ARGUMENTS - 1)
        items = [json_items(items[first : first + MOST_ARGUMENTS - 1]) for first in groups]
    return func.nullif(func.concat_ws(constant(","), *items, type_=Text()), constant(""), type_=Text())


def constant(text: str) -> Value:
    """A text of our own, or of the catalog, as a literal: a parameter is looked at anew for each row."""
    quoted = text.replace("'", "''")
    escaped = "E'" + quoted.replace("\\", "\\\\") if "\\" in quoted else "'" + quoted
    return literal_column(f"{escaped}'", Text())


def json_parts(value: Value | Json, null: str) -> tuple[str | Value, ...]:
    """A value as JSON, with `null` in place of NULL."""
    if isinstance(value, Json):
        return value.parts
    if isinstance(value.type, NullType):
        return (null,)
    if isinstance(value.type, JsonText):
        text = value
    elif isinstance(value.type, Integer | Boolean):
        text = cast(value, Text)
    else:  # PostgreSQL escapes texts, and quotes the numbers that JSON lacks
        text = cast(func.to_json(value), Text)
    return (func.coalesce(text, constant(null), type_=Text()),)


def some_row(query: Select[Any]) -> ColumnElement[bool]:
    """There is such a row. OFFSET keeps PostgreSQL from hashing a whole table for it."""
    return exists(query.offset(literal_column("0")))


def _merged(parts: Iterable[str | Value]) -> Iterator[Value]:
    """The parts as expressions, texts that follow each other as one."""
    text = ""
    for part in parts:
        if isinstance(part, str):
            text += part
            continue
        if text:
            yield constant(text)
        text = ""
        yield part
    if text:
        yield constant(text)


def instant(timestamp: Value) -> Value:
    """`timestamp(3)` in UTC, as the shop stores it, to the text that JavaScript writes.

    A time out of the years 1 to 9999 has no such text; it is answered in PostgreSQL's words, as `infinity` is.
    """
    usual = and_(timestamp >= YEAR_1, timestamp < YEAR_10000)
    return case(
        (usual, func.to_char(timestamp, constant('YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'))), else_=cast(timestamp, Text)
    )


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
