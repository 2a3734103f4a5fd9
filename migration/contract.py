"""Contract (R25): the legacy columns are archived with their items' ids, and dropped.

The copy is made first, beside a shop that goes on. Then one short transaction proves, by a hash over all rows, that the
copy is what the columns hold, and drops them. Why so: docs/decisions/0017.
"""

from dataclasses import dataclass
from typing import Any

import stamina
from sqlalchemy import Text, bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db.engine import connecting
from db.shape import load_shape
from migration import audit
from migration.archive import begin_archive, require_name
from migration.capture import TRIGGERS
from migration.exclusively import Actor, exclusively
from migration.failures import explained
from migration.gates import LEGACY, gates, require_open
from migration.rollback import ITEMS, QUALIFIED, REFERRED
from migration.transaction import settle
from migration.verify import MigrationNotStarted

DRAFT = "stockshift_draft"
"""The schema of a copy that nothing counts on yet: one that is found is of a contract that was killed."""
ATTEMPTS = 5
WHOLE = ", ".join(["id", *[f'"{name}"' for name in LEGACY]])

COLUMNS = text(
    """
    SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS required,
           pg_get_expr(f.adbin, f.adrelid) AS "default",
           quote_literal(col_description(a.attrelid, a.attnum)) AS comment,
           CASE WHEN a.attcollation <> t.typcollation
               THEN (SELECT format('%I.%I', n.nspname, c.collname) FROM pg_catalog.pg_collation c
                     JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace WHERE c.oid = a.attcollation)
           END AS collation
    FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_catalog.pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
    WHERE a.attrelid = 'public.items'::regclass AND a.attname = ANY (:columns) AND NOT a.attisdropped
    ORDER BY a.attnum
    """
).bindparams(bindparam("columns", list(LEGACY), ARRAY(Text)))
# Ours on items are made anew by name; a key's own index comes with the key.
INDEXES = text(
    """
    SELECT DISTINCT c.relname AS name, pg_get_indexdef(c.oid) AS described
    FROM pg_catalog.pg_index x
    JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid
    JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indrelid AND d.refobjid = x.indrelid AND a.attnum = d.refobjsubid
    WHERE x.indrelid = 'public.items'::regclass AND a.attname = ANY (:columns)
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conindid = c.oid AND k.conrelid = x.indrelid)
    ORDER BY 1
    """
).bindparams(bindparam("columns", list(LEGACY), ARRAY(Text)))
KEYS = text(
    """
    SELECT DISTINCT quote_ident(c.conname) AS name, pg_get_constraintdef(c.oid) AS described, c.contype::text AS kind
    FROM pg_catalog.pg_constraint c
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
    WHERE c.conrelid = 'public.items'::regclass AND c.contype <> 'n' AND a.attname = ANY (:columns)
    ORDER BY 1
    """
).bindparams(bindparam("columns", list(LEGACY), ARRAY(Text)))


class _Written(Exception):
    """A legacy column was written between the copy and the lock."""


@dataclass(frozen=True)
class Contracted:
    """So many items had their legacy columns archived, in the schema `archive`."""

    items: int
    archive: str


async def contract(engine: AsyncEngine, actor: Actor, *, confirm: str) -> Contracted:
    """Raises ConfirmationMismatch, GateClosed, and what `exclusively` does; nothing was dropped then."""

    async def wanted(connection: AsyncConnection) -> list[str]:
        return [ITEMS, *REFERRED]

    async def work(connection: AsyncConnection) -> Contracted:
        require_open(await gates(connection, confirm))
        return await _drop(connection, actor.name)

    async with explained(engine):
        async for attempt in stamina.retry_context(on=_Written, attempts=ATTEMPTS, timeout=None, wait_initial=0.1):
            with attempt:
                await _draft(engine, confirm)
                return await exclusively(engine, actor, "contract", wanted, work)
    raise AssertionError  # the loop above returns or raises


async def _draft(engine: AsyncEngine, confirm: str) -> None:
    """Copies the legacy columns, of every item, beside everybody."""
    async with connecting(engine) as connection, connection.begin():
        await connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        await settle(connection)
        await require_name(connection, confirm)
        if not (await load_shape(connection)).expanded:
            raise MigrationNotStarted
        require_open(await gates(connection, confirm))
        await connection.exec_driver_sql(f"DROP SCHEMA IF EXISTS {DRAFT} CASCADE")
        await connection.exec_driver_sql(f"CREATE SCHEMA {DRAFT}")
        await connection.exec_driver_sql(f"CREATE TABLE {DRAFT}.legacy AS SELECT {WHOLE} FROM {ITEMS}")
        await connection.exec_driver_sql(f"ALTER TABLE {DRAFT}.legacy ADD PRIMARY KEY (id)")


async def _drop(connection: AsyncConnection, actor: str) -> Contracted:
    """In a transaction that has the items to itself."""
    copied, there = await _summed(connection, f"{DRAFT}.legacy"), await _summed(connection, ITEMS)
    if copied != there:
        raise _Written
    await connection.exec_driver_sql(QUALIFIED)
    details = {
        "items": there[0],
        "columns": await _rows(connection, COLUMNS),
        "indexes": await _rows(connection, INDEXES),
        "keys": await _rows(connection, KEYS),
    }
    archive = await begin_archive(connection, "CONTRACT", actor, details)
    await connection.exec_driver_sql(f"ALTER TABLE {DRAFT}.legacy SET SCHEMA {archive.place}")
    await connection.exec_driver_sql(f"DROP SCHEMA {DRAFT}")
    for name, trigger in TRIGGERS.items():
        if trigger.table == ITEMS:
            await connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name} ON {ITEMS}")
    drops = ", ".join(f'DROP COLUMN "{name}"' for name in LEGACY)
    await connection.exec_driver_sql(f"ALTER TABLE {ITEMS} {drops}")
    await audit.record(connection, "CONTRACTED", actor, archive=archive.place, items=there[0])
    return Contracted(there[0], archive.place)


async def _summed(connection: AsyncConnection, relation: str) -> tuple[int, object]:
    """How many rows there are, and a hash of all of them that does not depend on their order."""
    query = f"SELECT count(*) AS rows, sum(hash_record_extended(ROW({WHOLE}), 0)::numeric) AS hash FROM {relation}"
    row = (await connection.execute(text(query))).one()
    return row.rows, row.hash


async def _rows(connection: AsyncConnection, query: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in (await connection.execute(query)).mappings()]
