"""Scalars beyond GraphQL's own."""

from datetime import UTC, datetime
from typing import NewType

import strawberry
from graphql import GraphQLError
from strawberry.types.scalar import ScalarDefinition

BigInt = NewType("BigInt", int)


def parse_big_int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise GraphQLError(f"BigInt is a whole number, {value!r} is none")
    return value


def parse_date_time(value: object) -> datetime:
    """An ISO 8601 instant as the shop stores it: UTC, without a zone."""
    example = "write it like 2026-01-31T12:00:00Z"
    if not isinstance(value, str):
        raise GraphQLError(f"DateTime is a text, {value!r} is none; {example}")
    try:
        instant = datetime.fromisoformat(value)
        if instant.tzinfo is None:
            raise GraphQLError(f"DateTime {value!r} has no offset, so it may mean any of 38 instants; {example}")
        return instant.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        raise GraphQLError(f"DateTime {value!r} is no date and time of the years 1 to 9999; {example}") from None


SCALARS: dict[object, ScalarDefinition] = {
    BigInt: strawberry.scalar(
        name="BigInt",
        description="A whole number that may be past 2^31, as a JSON number.",
        serialize=int,
        parse_value=parse_big_int,
    ),
    datetime: strawberry.scalar(
        name="DateTime",
        description="An instant in ISO 8601, answered in UTC. An input must have an offset, for example Z.",
        serialize=str,
        parse_value=parse_date_time,
    ),
}
