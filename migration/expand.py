"""The additive expansion (R13): what is missing is made, what is there is left alone.

Steps are data, so that `plan` shows exactly what `migrate` runs. They come in two halves: the tables before the copy;
keys, indexes and the flag after it, when checking and sorting once is cheaper than row by row, and so that the one
statement which needs `items` to itself (adding the flag) holds that lock only for the moment before the commit.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import ClauseElement, Column, ExecutableDDLElement, Index, bindparam, text
from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateSchema, CreateTable

from db import tables
from db.indexes import BATCH_INDEXES, ITEM_INDEXES
from migration.audit import AUDIT, ONLY_GROWS, TRIGGER
from migration.capture import Captured, captured
from migration.step import Step

# The driver's dialect: others double the percent signs of literals.
DIALECT = asyncpg.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves dialects untyped


@dataclass(frozen=True)
class Existing:
    """What of our objects is there already: relations by full name, the batches' columns with a key, index names.

    An index of ours is there when one of its name is, or another that begins with the same columns. One that was left
    half made is `invalid`, and not there. `columns` are those of the tables in our own schema, as
    stockshift.table.column; `unvalidated` names keys of batches that hold for new rows only. `audit_only_grows`: its
    trigger is there and always fires.
    """

    schema: bool
    relations: frozenset[str]
    columns: frozenset[str]
    foreign_keys: frozenset[str]
    unvalidated: frozenset[str]
    indexes: frozenset[str]
    invalid: frozenset[str]
    capture: Captured
    flag: bool
    audit_only_grows: bool = False


EXISTING = text(
    """
    SELECT
        to_regnamespace('stockshift') IS NOT NULL AS schema,
        ARRAY(SELECT r FROM unnest(CAST(:relations AS text[])) AS r WHERE to_regclass(r) IS NOT NULL) AS relations,
        ARRAY(
            SELECT 'stockshift.' || c.relname || '.' || a.attname FROM pg_catalog.pg_class c
            JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            WHERE c.relnamespace = to_regnamespace('stockshift') AND c.relkind = 'r'
        ) AS columns,
        ARRAY(
            SELECT a.attname::text FROM pg_catalog.pg_constraint c
            JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND c.conkey = ARRAY[a.attnum]
            WHERE c.conrelid = to_regclass('public.stock_batches') AND c.contype = 'f'
        ) AS foreign_keys,
        ARRAY(
            SELECT conname::text FROM pg_catalog.pg_constraint
            WHERE conrelid = to_regclass('public.stock_batches') AND contype = 'f' AND NOT convalidated
        ) AS unvalidated,
        ARRAY(
            SELECT c.relname::text FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid
            WHERE x.indrelid IN (to_regclass('public.items'), to_regclass('public.stock_batches')) AND NOT x.indisvalid
        ) AS invalid,
        EXISTS (
            SELECT FROM pg_catalog.pg_attribute
            WHERE attrelid = to_regclass('public.items') AND attname = :flag AND NOT attisdropped
        ) AS flag,
        EXISTS (
            SELECT FROM pg_catalog.pg_trigger
            WHERE tgrelid = to_regclass(:audit) AND tgname = :trigger AND tgenabled = 'A'
        ) AS audit_only_grows
    """
).bindparams(bindparam("flag", tables.USE_BATCH_SYSTEM.name), audit=AUDIT, trigger=TRIGGER)

# The indexes that find and order rows as ours do. In place of a column that is an expression stands NULL.
INDEXES = text(
    """
    SELECT c.relname::text AS name,
           ARRAY(
               SELECT a.attname::text
               FROM unnest(x.indkey) WITH ORDINALITY AS key (attnum, position)
               LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = key.attnum
               WHERE position <= x.indnkeyatts ORDER BY position
           ) AS columns
    FROM pg_catalog.pg_index x
    JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid
    WHERE x.indrelid = to_regclass(:relation) AND x.indisvalid AND x.indpred IS NULL
      AND 0 = ALL (x.indoption)
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_opclass WHERE oid = ANY (x.indclass) AND NOT opcdefault)
      AND c.relam = (SELECT oid FROM pg_catalog.pg_am WHERE amname = 'btree')
    """
)

# After a rollback the setting is there still, and what is the shop's own is looked for anew.
SETTING = Step(
    "items that have batches are answered from them",
    """\
INSERT INTO stockshift.setting (batches_made, flag_made)
SELECT to_regclass('public.stock_batches') IS NULL, NOT EXISTS (
    SELECT FROM pg_catalog.pg_attribute
    WHERE attrelid = to_regclass('public.items') AND attname = 'useBatchSystem' AND NOT attisdropped
)
ON CONFLICT (only_row) DO UPDATE SET batches_made = excluded.batches_made, flag_made = excluded.flag_made""",
)


async def existing(connection: AsyncConnection) -> Existing:
    relations = [table.fullname for table in (tables.stock_batches, *tables.stockshift.sorted_tables)]
    row = (await connection.execute(EXISTING, {"relations": relations})).one()
    indexes = [
        *await _indexes_there(connection, tables.stock_batches.fullname, BATCH_INDEXES.values()),
        *await _indexes_there(connection, tables.items.fullname, ITEM_INDEXES.values()),
    ]
    return Existing(
        row.schema,
        frozenset(row.relations),
        frozenset(row.columns),
        frozenset(row.foreign_keys),
        frozenset(row.unvalidated),
        frozenset(indexes),
        frozenset(row.invalid),
        await captured(connection),
        row.flag,
        row.audit_only_grows,
    )


async def _indexes_there(connection: AsyncConnection, relation: str, ours: Iterable[Index]) -> list[str]:
    there = {row.name: row.columns for row in await connection.execute(INDEXES, {"relation": relation})}

    def serves(index: Index) -> bool:
        columns = [part.name if isinstance(part, Column) else None for part in index.expressions]
        return None not in columns and any(others[: len(columns)] == columns for others in there.values())

    return [str(index.name) for index in ours if index.name in there or serves(index)]


def rendered(element: ClauseElement) -> str:
    """An expression as SQL that a person can read and run, values included."""
    return str(element.compile(dialect=DIALECT, compile_kwargs={"literal_binds": True})).strip()


def tables_to_make(there: Existing) -> list[Step]:
    """The first half: everything that the copy writes to."""
    steps = []
    if not there.schema:
        steps.append(_step("a place of our own, which the shop's ORM does not see", CreateSchema("stockshift")))
    for table in tables.stockshift.sorted_tables:
        if table.fullname not in there.relations:
            steps.append(_step(f"table {table.fullname}", CreateTable(table)))
            steps.extend(_step(f"index {index.name}", CreateIndex(index)) for index in table.indexes)
            continue
        for column in table.columns:  # of a database that an earlier version of us expanded
            if f"{table.fullname}.{column.name}" not in there.columns:
                described = str(CreateColumn(column).compile(dialect=DIALECT)).strip()
                sql = f"ALTER TABLE {table.fullname} ADD COLUMN {described}"
                steps.append(Step(f"column {column.name} of {table.fullname}", sql))
    if not there.audit_only_grows:
        steps.extend(ONLY_GROWS)
    if not {tables.setting.fullname, tables.copy_ledger.fullname} <= there.relations:
        steps.append(SETTING)
    if tables.stock_batches.fullname not in there.relations:
        steps.append(_step("the batches", CreateTable(tables.stock_batches)))
    return steps


def keys_to_add(there: Existing, *, validated: bool = True) -> list[Step]:
    """The batches' foreign keys. Not validated, they hold for new rows and lock the tables for a moment only."""
    return [step for step, _ in keys_and_targets(there, validated=validated)]


def keys_and_targets(there: Existing, *, validated: bool) -> list[tuple[Step, str]]:
    """Each with the table that it refers to."""
    found = []
    for column, (target, on_delete) in tables.STOCK_BATCHES_REFERENCES.items():
        if column not in there.foreign_keys:
            sql = (
                f'ALTER TABLE public.stock_batches ADD CONSTRAINT "stock_batches_{column}_fkey"'
                f' FOREIGN KEY ("{column}") REFERENCES {target.fullname} (id) ON DELETE {on_delete} ON UPDATE CASCADE'
            )
            step = Step(f"every batch's {column} must exist", sql if validated else f"{sql} NOT VALID")
            found.append((step, target.fullname))
    return found


def keys_to_validate(there: Existing) -> list[Step]:
    """They read every batch, and keep nobody from writing."""
    return [
        Step(f"key {name} holds for every batch", f'ALTER TABLE public.stock_batches VALIDATE CONSTRAINT "{name}"')
        for name in sorted(there.unvalidated)
    ]


def indexes_to_make(
    there: Existing, ours: Mapping[str, Index] = BATCH_INDEXES | ITEM_INDEXES, *, concurrently: bool = False
) -> list[Step]:
    """Without them every answer is the same, and slower. Those on `items` may go whenever the shop's ORM says so.

    Made concurrently, and outside of a transaction, they keep nobody from writing.
    """
    how = " CONCURRENTLY" if concurrently else ""
    steps = []
    for found, index in ours.items():
        if index.name in there.indexes:
            continue
        if index.name in there.invalid:
            steps.append(Step(f"index {index.name} was left half made", f'DROP INDEX{how} public."{index.name}"'))
        made = _step(f"by index: {found}", CreateIndex(index))
        steps.append(Step(made.why, made.sql.replace("CREATE INDEX", f"CREATE INDEX{how}", 1)))
    return steps


def flag_to_add(there: Existing) -> list[Step]:
    """The last statement: it waits for every reader of `items`, and is done in a moment once it has them."""
    if there.flag:
        return []
    sql = f'ALTER TABLE public.items ADD COLUMN "{tables.USE_BATCH_SYSTEM.name}" BOOLEAN DEFAULT false'
    return [Step("marks an item as cut over; nothing is rewritten", sql)]


def _step(why: str, element: ExecutableDDLElement) -> Step:
    return Step(why, str(element.compile(dialect=DIALECT)).strip())
