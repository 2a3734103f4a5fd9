"""What a report was run against (R23): database, server, how many rows, and what the items were, column by column.

A column's fingerprint is the sum of its values' hashes, each seeded with its item's id: it depends on no order, and
tells two values that changed places. NULL adds nothing. Two reports with equal fingerprints saw equal columns.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import BigInteger, ColumnElement, FromClause, Select, Text, cast, column, func, literal, select, text
from sqlalchemy import table as relation
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from db.shape import Shape
from migration.fingerprint import SEED

COLUMNS = text(
    """
    SELECT a.attname::text AS name, format_type(a.atttypid, NULL) AS type FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = to_regclass('public.items') AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> 'id'
    ORDER BY a.attname
    """
)
SERVER = text("SELECT current_database() AS name, current_setting('server_version') AS version")

# What hashes the same in every PostgreSQL; anything else is hashed as text.
HASHES = {
    "integer": "hashint4extended",
    "bigint": "hashint8extended",
    "double precision": "hashfloat8extended",
    "timestamp without time zone": "timestamp_hash_extended",
}
COUNTED = (tables.copy_ledger, tables.movement, tables.legacy_write)


@dataclass(frozen=True)
class Facts:
    """`row_counts` by table, `fingerprint` by column of items; `items` of the company asked for, with their `legacy`
    units and how many `copied`."""

    database: str
    server_version: str
    row_counts: Mapping[str, int]
    fingerprint: Mapping[str, str]
    items: int
    legacy: int


async def read_facts(connection: AsyncConnection, shape: Shape, company: str | None) -> Facts:
    """Of one company: its items alone."""
    server = (await connection.execute(SERVER)).one()
    types = {row.name: row.type for row in await connection.execute(COLUMNS)}
    row = (await connection.execute(_items(types, company))).one()._asdict()
    items, legacy = row.pop("items"), row.pop("legacy")
    counts = {"items": items}
    if company is None:
        for table in COUNTED:
            found = select(func.count()).select_from(shape.relation(table, "counted"))
            counts[str(table.name)] = (await connection.execute(found)).scalar_one()
    return Facts(server.name, server.version, counts, {str(name): value for name, value in row.items()}, items, legacy)


def _items(types: Mapping[str, str], company: str | None) -> Select[*tuple[object, ...]]:
    item = relation("items", column("id"), *[column(name) for name in types], schema="public").alias("item")
    of = [] if company is None else [item.c["companyId"] == literal(company, Text)]
    seeded = (
        select(*item.c, func.hashtextextended(cast(item.c.id, Text), SEED).label("seed of the row"))
        .where(*of)
        .offset(0)  # a fence: one hash of the id for all columns
        .subquery("seeded")
    )
    hashes = [_sum(_hash(seeded, name, kind)).label(name) for name, kind in types.items()]
    quantity: ColumnElement[int] = seeded.c["quantityInStock"] if "quantityInStock" in types else literal(0)
    legacy = cast(func.coalesce(func.sum(quantity), 0), BigInteger).label("legacy")
    return select(func.count().label("items"), legacy, *hashes)


def _hash(seeded: FromClause, name: str, kind: str) -> ColumnElement[int]:
    seed, value = seeded.c["seed of the row"], seeded.c[name]
    if kind in HASHES:
        known: ColumnElement[int] = getattr(func, HASHES[kind])(value, seed)
        return known
    return func.hashtextextended(cast(value, Text), seed)


def _sum(hashed: ColumnElement[int]) -> ColumnElement[str]:
    return cast(func.coalesce(func.sum(hashed), 0), Text)
