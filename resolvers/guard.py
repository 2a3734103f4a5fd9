"""The condition under which a statement's answer counts: the database still looks as the statement assumes.

What the statement assumes to be there, it proves by using it; an error says when it is not. What it assumes to be
missing must be looked for. So a database that has everything is asked for its labels and its read source alone.
"""

from typing import Any

from sqlalchemy import ColumnElement, Text, and_, exists, func, literal_column, null, select, text
from sqlalchemy.dialects.postgresql import ARRAY, array

from db import tables
from db.shape import READ_TABLES, Shape
from resolvers.sql import constant

LABELS = literal_column('enum_range(NULL::public."Status")::text[]', ARRAY(Text))


def guard(shape: Shape) -> ColumnElement[bool]:
    """True in the database as long as this shape fits it."""
    labels: array[Any] = array([constant(label) for label in shape.status_labels], type_=Text())
    conditions = [labels == LABELS]
    for table in READ_TABLES:
        present = shape.columns.get(table.fullname)
        if present is None:
            conditions.append(func.to_regclass(table.fullname).is_(null()))
            continue
        absent = sorted({column.name for column in table.columns} - present)
        if absent:
            conditions.append(~_some_column(table.fullname, absent))
    if shape.expanded:
        source = select(tables.setting.c.read_source).scalar_subquery()
        conditions.append(func.coalesce(source, constant("AUTO")) == constant(shape.read_source))
    return and_(*conditions)


def _some_column(relation: str, names: list[str]) -> ColumnElement[bool]:
    return (
        exists()
        .where(
            text(
                "attrelid = to_regclass(:relation) AND attname = ANY(CAST(:names AS text[])) AND NOT attisdropped"
            ).bindparams(relation=relation, names=names)
        )
        .select_from(text("pg_catalog.pg_attribute"))
    )
