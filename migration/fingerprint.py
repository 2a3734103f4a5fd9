"""Fingerprints: a number that tells, without reading a row again, whether it is as it was.

The ledger's covers an item's legacy columns and the row as it was kept. Where it is what the item has now, both are as
they were when the item was copied; where it differs, or is NULL, nothing is known, and the kept row is read instead.
What is no number and no time is hashed as text, for a type's own hash may not outlive a restore, or not exist.
"""

from typing import Any

from sqlalchemy import ColumnElement, DateTime, Double, FromClause, Integer, Text, cast, func, literal

from db import tables

SEED = literal(0)


def legacy_hash(item: FromClause) -> ColumnElement[int]:
    """Of an item's legacy columns."""
    columns = [item.c[name] for name in tables.COMPARED_COLUMNS.values()]
    return func.hash_record_extended(func.row(*[_hashable(column) for column in columns]), SEED)


def fingerprint(hashed: ColumnElement[int], original: ColumnElement[Any]) -> ColumnElement[int]:
    """Of a `legacy_hash` and the row as the ledger keeps it."""
    return func.hashint8extended(hashed, func.hashtextextended(cast(original, Text), SEED))


def _hashable(column: ColumnElement[Any]) -> ColumnElement[Any]:
    return column if isinstance(column.type, (Integer, Double, DateTime)) else cast(column, Text)
