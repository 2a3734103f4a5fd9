"""Scalars beyond GraphQL's own."""

from datetime import UTC, datetime, timedelta
from typing import Any, NewType

import strawberry
from graphql import GraphQLError, ValueNode, value_from_ast_untyped
from strawberry.types.scalar import ScalarDefinition

BigInt = NewType("BigInt", int)

SHOWN_LENGTH = 100
NO_INSTANT = datetime.min  # noqa: DTZ901 - the driver stores this one as "-infinity"


def parse_big_int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise GraphQLError(f"BigInt is a whole number, {value!r} is none")
    return value


def parse_date_time(value: object) -> datetime:
    """An ISO 8601 instant as the shop stores it: UTC, without a zone, to the millisecond."""
    example = "write it like 2026-01-31T12:00:00Z"
    shown = repr(value)[:SHOWN_LENGTH]
    if not isinstance(value, str):
        raise GraphQLError(f"DateTime is a text, {shown} is none; {example}")
    try:
        instant = datetime.fromisoformat(value)
        if instant.tzinfo is None:
            raise GraphQLError(f"DateTime {shown} has no offset, so it may mean any of 38 instants; {example}")
        instant = _to_milliseconds(instant.astimezone(UTC).replace(tzinfo=None))
    except (ValueError, OverflowError):
        instant = NO_INSTANT
    if instant == NO_INSTANT:
        raise GraphQLError(f"DateTime {shown} is no date and time of the years 1 to 9999; {example}")
    return instant


def parse_date_time_literal(node: ValueNode, _variables: object = None) -> datetime:
    """The same written into the document; the error says where."""
    try:
        return parse_date_time(value_from_ast_untyped(node))
    except GraphQLError as error:
        raise GraphQLError(error.message, node) from None


def shown_instant(instant: datetime) -> Any:
    """An aware time of our own as a DateTime is answered: the text that JavaScript writes."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _to_milliseconds(instant: datetime) -> datetime:
    """Rounded half up, as `timestamp(3)` does. Raises OverflowError past the year 9999."""
    return instant + timedelta(microseconds=500 - (instant.microsecond + 500) % 1000)


SCALARS: dict[object, ScalarDefinition] = {
    BigInt: strawberry.scalar(
        name="BigInt",
        description="A whole number that may be past 2^31, as a JSON number.",
        serialize=int,
        parse_value=parse_big_int,
    ),
    datetime: strawberry.scalar(
        name="DateTime",
        description="An instant in ISO 8601, answered in UTC. An input must have an offset, for example Z. "
        "A stored time out of the years 1 to 9999 is answered in PostgreSQL's words, such as `infinity`.",
        serialize=str,
        parse_value=parse_date_time,
        parse_literal=parse_date_time_literal,
    ),
}
