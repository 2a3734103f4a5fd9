"""Contract (R25): the legacy columns are archived with their items' ids, and dropped.

The copy is made and proven first, beside a shop that goes on. One short transaction brings it up to date, and drops
the columns. Why so: docs/decisions/0017.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Text, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import tables
from db.engine import connecting
from db.shape import load_shape
from migration import audit
from migration.archive import begin_archive, referred, require_name
from migration.capture import TRIGGERS
from migration.draft import Draft, catch_up, drafting, make_draft, one_draft_snapshot, take_drafts
from migration.exclusively import Actor, exclusively
from migration.failures import explained
from migration.gates import LEGACY, Gate, gates, require_open
from migration.locks import EVERYBODY_WAITS
from migration.rollback import ITEMS, QUALIFIED

WHOLE = ("id", *[f'"{name}"' for name in LEGACY])

COLUMNS = text(
    """
    SELECT a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS required,
           pg_get_expr(f.adbin, f.adrelid) AS "default",
           quote_literal(col_description(a.attrelid, a.attnum)) AS comment,
           ARRAY(
               SELECT format('GRANT %s (%I) ON public.items TO %s%s', g.privilege_type, a.attname,
                   CASE WHEN g.grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(g.grantee)) END,
                   CASE WHEN g.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
               FROM aclexplode(a.attacl) AS g ORDER BY 1
           ) AS grants,
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


@dataclass(frozen=True)
class Contracted:
    """So many items had their legacy columns archived, in the schema `archive`."""

    items: int
    archive: str


@dataclass(frozen=True)
class Preview:
    """The gates, and what would be dropped of items were they open: columns, and indexes and keys that have one."""

    database: str
    gates: list[Gate]
    columns: list[str]
    indexes: list[str]
    keys: list[str]


async def preview(engine: AsyncEngine) -> Preview:
    """Writes nothing."""
    async with connecting(engine) as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        async with connection.begin():
            database: str = (await connection.execute(select(func.current_database()))).scalar_one()
            found = await gates(connection)
            if not (await load_shape(connection)).has(tables.items):
                return Preview(database, found, [], [], [])
            named = [[row["name"] for row in await _rows(connection, query)] for query in (COLUMNS, INDEXES, KEYS)]
            return Preview(database, found, *named)


async def contract(engine: AsyncEngine, actor: Actor, *, confirm: str) -> Contracted:
    """Raises ConfirmationMismatch, GateClosed, Changed, and what `exclusively` does; nothing was dropped then."""

    async def wanted(connection: AsyncConnection) -> list[str]:
        return [ITEMS, *await referred(connection, ITEMS, LEGACY)]

    async def work(connection: AsyncConnection) -> Contracted:
        since = await catch_up(connection, draft)
        require_open(await gates(connection, confirm, written=since.keys))
        return await _drop(connection, actor.name, draft, since.rows)

    async with explained(engine, EVERYBODY_WAITS):
        async with connecting(engine) as connection, connection.begin():
            await require_name(connection, confirm)
            require_open(await gates(connection, confirm))
        async with drafting(engine, actor) as lease:
            async with one_draft_snapshot(engine, actor, [ITEMS]) as connection:
                require_open(await gates(connection, confirm))
                draft = await make_draft(connection, ITEMS, "legacy", WHOLE, key="id")
            return await exclusively(engine, actor, "contract", wanted, work, held=lease)


async def _drop(connection: AsyncConnection, actor: str, draft: Draft, items: int) -> Contracted:
    """In a transaction that has the items to itself, of which the draft has every legacy value."""
    await connection.exec_driver_sql(QUALIFIED)
    details = {
        "items": items,
        "referred": await referred(connection, ITEMS, LEGACY),
        "columns": await _rows(connection, COLUMNS),
        "indexes": await _rows(connection, INDEXES),
        "keys": await _rows(connection, KEYS),
    }
    archive = await begin_archive(connection, "CONTRACT", actor, details)
    await take_drafts(connection, archive.place, draft)
    for name, trigger in TRIGGERS.items():
        if trigger.table == ITEMS:
            await connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name} ON {ITEMS}")
    drops = ", ".join(f'DROP COLUMN "{name}"' for name in LEGACY)
    await connection.exec_driver_sql(f"ALTER TABLE {ITEMS} {drops}")
    await audit.record(connection, "CONTRACTED", actor, archive=archive.place, items=items)
    return Contracted(items, archive.place)


async def _rows(connection: AsyncConnection, query: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in (await connection.execute(query)).mappings()]
