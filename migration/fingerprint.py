"""Fingerprints: a number that tells, without reading a row again, whether it is as it was.

The ledger's covers an item's legacy columns and the row as it was kept. Where it is what the item has now, both are as
they were when the item was copied; where it differs, or is NULL, nothing is known, and the kept row is read instead.
What is no number and no time is hashed as text, for a type's own hash may not outlive a restore, or not exist.
"""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, DateTime, Double, FromClause, Integer, Text, cast, func, literal

from db import tables

SEED = literal(0)


def legacy_hash(item: FromClause) -> ColumnElement[int]:
    """Of an item's legacy columns."""
    return record_hash(item.c[name] for name in tables.COMPARED_COLUMNS.values())


def opening_hash(batch: FromClause) -> ColumnElement[int]:
    """Of a batch's columns: the `legacy_hash` of the item that has the same values."""
    return record_hash(batch.c[name] for name in tables.COMPARED_COLUMNS)


def record_hash(values: Iterable[ColumnElement[Any]]) -> ColumnElement[int]:
    return func.hash_record_extended(func.row(*[_hashable(value) for value in values]), SEED)


def text_hash(original: ColumnElement[Any]) -> ColumnElement[int]:
    """Of the row as the ledger keeps it."""
    return func.hashtextextended(cast(original, Text), SEED)


def fingerprint(hashed: ColumnElement[int], kept: ColumnElement[int]) -> ColumnElement[int]:
    """Of a `legacy_hash` and the `text_hash` of what is kept."""
    return func.hashint8extended(hashed, kept)


def _hashable(column: ColumnElement[Any]) -> ColumnElement[Any]:
    return column if isinstance(column.type, (Integer, Double, DateTime)) else cast(column, Text)
