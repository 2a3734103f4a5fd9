"""Cursors: the sort key and the tie of a row, opaque and versioned, with the name of the order that they belong to.

A cursor comes back from outside, so it is checked as an input: with another order, or forged, it is refused instead
of answering a wrong page.
"""

import base64
import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Integer, Text, cast, func
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.types import TypeEngine

from resolvers.errors import BadRequest
from resolvers.sql import Value, constant
from resolvers.text import shown, storable

VERSION = 1
INT8 = 2**63
TIMESTAMP_TEXT = re.compile(r"(\d{4,6})(-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?)( BC)?", re.ASCII)


def encode(order: str, key: Value, tie: Value) -> Value:
    """The cursor of a row, in SQL: base64url of a JSON array, without padding and without the line breaks."""
    parts = [constant(f'[{VERSION},"{order}",'), func.to_json(key), constant(","), func.to_json(tie), constant("]")]
    encoded = func.encode(func.convert_to(func.concat(*parts), constant("UTF8")), constant("base64"))
    return func.translate(encoded, constant("+/=\n"), constant("-_"), type_=Text())


def decode(cursor: str, order: str, types: Sequence[TypeEngine[Any]]) -> list[object]:
    """The sort key and the tie of a cursor's row, fit for parameters of `wire_type`. Raises BadRequest."""
    try:
        version, name, *values = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, TypeError, RecursionError):
        raise _no_cursor(cursor) from None
    if (version, name) != (VERSION, order):
        raise BadRequest(f"after: the cursor belongs to another order than {order}; start again without one")
    if len(values) != len(types) or not all(map(_fits, values, types)):
        raise _no_cursor(cursor)
    return list(values)


def wire_type(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """The parameter that a part of a cursor of this type travels in."""
    return BigInteger() if isinstance(type_, Integer) else Text()


def received(value: Value, type_: TypeEngine[Any]) -> Value:
    """A part of a cursor as a value of its type again. A time is as fine as the column is."""
    return cast(value, TIMESTAMP() if isinstance(type_, DateTime) else wire_type(type_))


def _fits(value: object, type_: TypeEngine[Any]) -> bool:
    match value:
        case bool():
            return False
        case int():
            return isinstance(type_, Integer) and -INT8 <= value < INT8
        case str():
            return storable(value) and (
                isinstance(type_, Text) or (isinstance(type_, DateTime) and _is_timestamp(value))
            )
    return False


def _is_timestamp(value: str) -> bool:
    """PostgreSQL reads it. Python's calendar is the same, repeats every 400 years, and has fewer of them."""
    if value in ("infinity", "-infinity"):
        return True
    parts = TIMESTAMP_TEXT.fullmatch(value)
    if not parts:
        return False
    year, rest, before_christ = int(parts[1]), parts[2], parts[3]
    if not 1 <= year <= (4713 if before_christ else 294_275):
        return False
    try:
        datetime.fromisoformat(f"{2000 + (1 - year if before_christ else year) % 400}{rest}")
    except ValueError:
        return False
    return True


def _no_cursor(cursor: str) -> BadRequest:
    return BadRequest(f"after: {shown(cursor)} is no cursor; pass an endCursor or a cursor of an earlier page")
