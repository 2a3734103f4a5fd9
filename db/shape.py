"""What the database looks like now: which of our tables and columns it has, and where reads come from.

A database changes shape while we run: it is expanded, rolled back, given a column by somebody else. So every
statement is built for a `Shape`, and carries a guard (resolvers/guard.py) that the database evaluates in the same
snapshot. A false guard (or a missing relation) means that the shape was stale: it is loaded again, the statement is
built again. No polling, no notification, and no moment in which two processes answer from different systems.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import (
    FromClause,
    Table,
    cast,
    false,
    null,
    select,
    text,
    true,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from db.errors import StockshiftError

ReadSource = Literal["AUTO", "LEGACY"]
ESSENTIAL = frozenset({"id", "itemId", "quantity", "status"})

READ_TABLES = (
    tables.items,
    tables.locations,
    tables.users,
    tables.stock_batches,
    tables.copy_ledger,
    tables.movement,
    tables.legacy_write,
    tables.setting,
    tables.audit,
    tables.read_difference,
    tables.verification,
    tables.verification_check,
    tables.verification_mismatch,
    tables.verification_conservation,
    tables.verification_explanation,
)

COLUMNS = text(
    """
    SELECT n.nspname || '.' || c.relname AS relation, array_agg(a.attname::text) AS columns,
           bool_or(a.attname = 'status' AND a.atttypid = to_regtype('public."Status"')) AS has_status
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE n.nspname IN ('public', 'stockshift') AND c.relkind IN ('r', 'p', 'v', 'f')
      AND n.nspname || '.' || c.relname = ANY(:relations)
    GROUP BY 1
    """
)
LABELS = text(
    """
    SELECT enumlabel::text FROM pg_catalog.pg_enum
    WHERE enumtypid = to_regtype('public."Status"') ORDER BY enumsortorder
    """
)


class NotAShop(StockshiftError):
    """The database has no table `items` in schema public; point DATABASE_URL at the shop's database."""


@dataclass(frozen=True)
class Shape:
    """`columns` by relation (`schema.name`), an absent relation having none; `status_labels` in the enum's order.

    `status_is_enum`: an item's status is of the type `Status`, not a text.
    """

    columns: Mapping[str, frozenset[str]]
    status_labels: tuple[str, ...]
    read_source: ReadSource
    status_is_enum: bool

    @property
    def expanded(self) -> bool:
        """Schema `stockshift` is there: the migration has begun."""
        return "read_source" in self._present(tables.setting)

    @property
    def is_a_shop(self) -> bool:
        return bool(self._present(tables.items) and self.status_labels)

    @property
    def batches_known(self) -> bool:
        """Some item may be on the batch system."""
        return self._has_batches or self.has(tables.copy_ledger)

    @property
    def has_legacy_columns(self) -> bool:
        """They are there until the migration is contracted."""
        return "quantityInStock" in self._present(tables.items)

    def has(self, table: Table) -> bool:
        """The table is there, with every column that we know of."""
        return self._present(table) >= {column.name for column in table.columns}

    def has_columns(self, table: Table, names: Iterable[str]) -> bool:
        return self._present(table) >= set(names)

    def relation(self, table: Table, name: str) -> FromClause:
        """The table under an alias. In place of a column that is missing stands NULL, of a table an empty one.

        Before the expansion a `stock_batches` that lacks columns is somebody else's table: for us there is none.
        """
        if self.has(table):
            return table.alias(name)
        present = self._present(table)
        if table is tables.stock_batches and not self._has_batches:
            present = frozenset()
        columns = [
            column if column.name in present else cast(null(), column.type).label(column.name)
            for column in table.columns
        ]
        return select(*columns).where(true() if present else false()).subquery(name)

    @property
    def _has_batches(self) -> bool:
        """A column that somebody dropped later must not make the stock vanish with it."""
        return self.has(tables.stock_batches) or (self.expanded and self._present(tables.stock_batches) >= ESSENTIAL)

    def _present(self, table: Table) -> frozenset[str]:
        return self.columns.get(table.fullname, frozenset())


async def load_shape(connection: AsyncConnection) -> Shape:
    """Looks at the catalog, and at the read source if it is stored; two or three small statements."""
    relations = [table.fullname for table in READ_TABLES]
    rows = (await connection.execute(COLUMNS, {"relations": relations})).all()
    columns = {row.relation: frozenset(row.columns) for row in rows}
    labels = tuple((await connection.execute(LABELS)).scalars())
    read_source: ReadSource = "AUTO"
    if "read_source" in columns.get(tables.setting.fullname, ()):
        stored = await connection.scalar(select(tables.setting.c.read_source))
        read_source = "LEGACY" if stored == "LEGACY" else "AUTO"
    status_is_enum = any(row.has_status for row in rows if row.relation == tables.items.fullname)
    return Shape(columns, labels, read_source, status_is_enum)
