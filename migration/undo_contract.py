"""`contract --undo`: the legacy columns are there again, as they were, with their keys, indexes and values.

An item that was made since takes them from its batches, as write-back does: all units, and all else from the batch with
the most, the oldest of these. One transaction, although it writes every item: nobody uses columns that are gone.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Text, bindparam, text, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import tables
from db.engine import connecting
from db.indexes import ITEM_INDEXES
from db.shape import load_shape
from migration import audit
from migration.archive import Archive, NotArchived, Superseded, end_archive, latest_archive, require_name
from migration.capture import captured, functions_to_make, triggers_to_put
from migration.exclusively import Actor, exclusively
from migration.expand import existing, indexes_to_make
from migration.failures import explained
from migration.gates import WHILE_CONTRACTED
from migration.locks import EVERYBODY_WAITS
from migration.quiet import shop_triggers_off
from migration.rollback import BATCHES, ITEMS, LEGACY, QUALIFIED
from migration.verify import MigrationNotStarted

FROM_BATCHES = {
    "quantityInStock": "LEAST(b.units, 2147483647)",
    "locationId": "b.\"locationId\"",
    "assignedUserId": "b.\"assignedUserId\"",
}  # fmt: skip
PUT_BACK = "put_back"
"""In an archive's details: what was put back, by an undo that has yet to make keys and indexes whole."""
MADE = text(
    """
    SELECT attname::text FROM pg_catalog.pg_attribute
    WHERE attrelid = to_regclass('public.items') AND NOT attisdropped AND attname = ANY (:names) ORDER BY attnum
    """
).bindparams(bindparam("names", type_=ARRAY(Text)))
UNCHECKED = text(
    """
    SELECT quote_ident(conname) FROM pg_catalog.pg_constraint
    WHERE conrelid = to_regclass('public.items') AND NOT convalidated
    """
)
MADE_INDEXES = text(
    """
    SELECT c.relname::text AS name, x.indisvalid AS valid
    FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class c ON c.oid = x.indexrelid
    WHERE x.indrelid = to_regclass('public.items')
    """
)
MISSING = {"costPerUnitUSD": "0"}
"""What stands in a column that may not be NULL and has no default, for an item without a batch."""
OURS = {str(index.name) for index in ITEM_INDEXES.values()}


@dataclass(frozen=True)
class Restored:
    """Items that have their legacy columns as they were, and others, made since, that have them from their batches;
    of items that were deleted since, `kept` rows stay in `archive`."""

    restored: int
    made_since: int
    kept: int
    archive: str | None


async def undo_contract(engine: AsyncEngine, actor: Actor, *, confirm: str) -> Restored:
    """Raises ConfirmationMismatch, NotArchived, Superseded, and what `exclusively` does.

    Keys are checked and indexes made after the commit, which keeps nobody waiting. One that ended in between goes on
    there when it is run again.
    """

    async def wanted(connection: AsyncConnection) -> list[str]:
        await require_name(connection, confirm)
        archive = await _latest(connection)
        return [ITEMS, BATCHES, *archive.details["referred"]]

    async def work(connection: AsyncConnection) -> Restored:
        return await _put_back(connection, await _latest(connection), actor.name)

    async with explained(engine), connecting(engine) as connection, connection.begin():
        if not (await load_shape(connection)).expanded:
            raise MigrationNotStarted
        await require_name(connection, confirm)
        archive = await _latest(connection)
    if PUT_BACK in archive.details:
        done = Restored(**archive.details[PUT_BACK])
    else:
        done = await exclusively(engine, actor, "undo", wanted, work)
    async with explained(engine, EVERYBODY_WAITS, kept="the columns are back; run it again when that is mended"):
        await _finish(engine, archive, actor.name)
    return done


async def _latest(connection: AsyncConnection) -> Archive:
    archive = await latest_archive(connection, "CONTRACT")
    if archive is None:
        raise NotArchived("no contract of this database is to be undone; see `stockshift status`")
    names = [column["name"] for column in archive.details["columns"]]
    made = list((await connection.execute(MADE, {"names": names})).scalars())
    if made and PUT_BACK not in archive.details:
        raise Superseded(f"column {made[0]!r} of items was made anew since the contract; rename or drop it first")
    return archive


async def _put_back(connection: AsyncConnection, archive: Archive, actor: str) -> Restored:
    """In a transaction that has the tables to itself."""
    await connection.exec_driver_sql(QUALIFIED)
    kept, columns = f"{archive.place}.legacy", archive.details["columns"]
    for column in columns:
        await connection.exec_driver_sql(f"ALTER TABLE {ITEMS} ADD COLUMN {_described(column)}")
        if column["comment"]:
            comment = f'COMMENT ON COLUMN {ITEMS}."{column["name"]}" IS {column["comment"]}'
            await connection.exec_driver_sql(comment)
    for name in OURS:  # made anew afterwards, which is quicker than to write each for every item
        await connection.exec_driver_sql(f"DROP INDEX IF EXISTS public.{name}")
    async with shop_triggers_off(connection, ITEMS):
        made = await connection.exec_driver_sql(_from_batches(kept, columns))
        values = ", ".join(f'"{name}" = {_still_there(name)}' for name in LEGACY)
        restored = await connection.exec_driver_sql(f"UPDATE {ITEMS} i SET {values} FROM {kept} k WHERE k.id = i.id")
    required = [column["name"] for column in columns if column["required"]]
    if required:
        await _require_values(connection, required)
        sets = ", ".join(f'ALTER COLUMN "{name}" SET NOT NULL' for name in required)
        await connection.exec_driver_sql(f"ALTER TABLE {ITEMS} {sets}")
    for grant in [grant for column in columns for grant in column["grants"]]:
        await connection.exec_driver_sql(grant)
    for key in archive.details["keys"]:
        later = " NOT VALID" if key["kind"] in "fc" else ""
        described = key["described"].removesuffix(" NOT VALID")
        await connection.exec_driver_sql(f"ALTER TABLE {ITEMS} ADD CONSTRAINT {key['name']} {described}{later}")
    if made.rowcount:
        await connection.execute(text(ENTER_LEDGER.format(kept=kept)))
        await connection.execute(text(TELL_OF_NEW.format(kept=kept)), {"application": WHILE_CONTRACTED})
    there = await captured(connection)
    for step in [*functions_to_make(there), *triggers_to_put(there, ITEMS)]:
        await connection.exec_driver_sql(step.sql)
    rows: int = archive.details["items"] - restored.rowcount
    if rows:
        await connection.exec_driver_sql(f"DELETE FROM {kept} k WHERE EXISTS (SELECT FROM {ITEMS} i WHERE i.id = k.id)")
    else:
        await connection.exec_driver_sql(f"DROP TABLE {kept}")
    done = Restored(restored.rowcount, made.rowcount, rows, archive.place if rows else None)
    details = {**archive.details, PUT_BACK: vars(done)}
    await connection.execute(update(tables.archive).where(tables.archive.c.id == archive.id).values(details=details))
    await audit.record(connection, "CONTRACT_UNDONE", actor, **vars(done))
    return done


async def _require_values(connection: AsyncConnection, names: list[str]) -> None:
    """Raises Superseded: an item that was made since has none, nor has its batch, and it may not be without."""
    empty = {name: f'"{name}" IS NULL' for name in names}
    first = " ".join(f"WHEN {condition} THEN '{name}'" for name, condition in empty.items())
    query = f"SELECT id, CASE {first} END AS name FROM {ITEMS} WHERE {' OR '.join(empty.values())} LIMIT 1"
    if row := (await connection.execute(text(query))).one_or_none():
        raise Superseded(
            f"item {row.id!r} would have no {row.name!r}, which may not be NULL: it was made since, or what it named "
            "was deleted; give it a batch that has one, or delete the item"
        )


def _described(column: dict[str, Any]) -> str:
    collation = f" COLLATE {column['collation']}" if column["collation"] else ""
    default = f" DEFAULT {column['default']}" if column["default"] else ""
    return f'"{column["name"]}" {column["type"]}{collation}{default}'


def _still_there(name: str) -> str:
    """A location or user that was deleted since is none any more."""
    targets = {"locationId": "public.locations", "assignedUserId": "public.users"}
    if name in targets:
        return f'(SELECT t.id FROM {targets[name]} t WHERE t.id = k."{name}")'
    return f'k."{name}"'


def _from_batches(kept: str, columns: list[dict[str, Any]]) -> str:
    """What an item without a batch has is the column's default, which is there already."""
    values = []
    for column in columns:
        name = column["name"]
        value = FROM_BATCHES.get(name, f'b."{name}"::{column["type"]}')
        otherwise = MISSING.get(name) if column["required"] and not column["default"] else f'i."{name}"'
        values.append(f'"{name}" = CASE WHEN b."itemId" IS NULL THEN {otherwise or "NULL"} ELSE {value} END')
    return f"""
        UPDATE {ITEMS} i SET {", ".join(values)}
        FROM {ITEMS} n LEFT JOIN (
            SELECT DISTINCT ON (s."itemId") s.*, sum(s.quantity) OVER (PARTITION BY s."itemId") AS units
            FROM {BATCHES} s ORDER BY s."itemId", s.quantity DESC, s."createdAt", s.id
        ) AS b ON b."itemId" = n.id
        WHERE n.id = i.id AND NOT EXISTS (SELECT FROM {kept} k WHERE k.id = i.id)
    """


# Items that were made since and have batches: the one that the legacy columns are of is their opening batch.
ENTER_LEDGER = """
INSERT INTO stockshift.copy_ledger (item_id, batch_id, adopted, original, cut_over_at)
SELECT DISTINCT ON (i.id) i.id, s.id, true, row_to_json(i), clock_timestamp()
FROM public.items i JOIN public.stock_batches s ON s."itemId" = i.id
WHERE NOT EXISTS (SELECT FROM {kept} k WHERE k.id = i.id)
ORDER BY i.id, s.quantity DESC, s."createdAt", s.id
ON CONFLICT DO NOTHING
"""

# And those that have none: the next migration copies them.
TELL_OF_NEW = """
INSERT INTO stockshift.legacy_write (item_id, operation, followed, application, role)
SELECT i.id, 'INSERT', false, :application, session_user FROM public.items i
WHERE NOT EXISTS (SELECT FROM {kept} k WHERE k.id = i.id)
  AND NOT EXISTS (SELECT FROM stockshift.copy_ledger l WHERE l.item_id = i.id)
"""


async def _finish(engine: AsyncEngine, archive: Archive, actor: str) -> None:
    """Makes what is still missing, each in a transaction of its own, and then closes the archive."""
    async with connecting(engine) as connection:
        there = await existing(connection)
        loose = frozenset((await connection.execute(UNCHECKED)).scalars())
        made = {row.name: row.valid for row in await connection.execute(MADE_INDEXES)}
    keys = [key for key in archive.details["keys"] if not key["described"].endswith(" NOT VALID")]
    steps = [f"ALTER TABLE {ITEMS} VALIDATE CONSTRAINT {key['name']}" for key in keys if key["name"] in loose]
    for index in archive.details["indexes"]:
        if index["name"] in OURS or made.get(index["name"]):
            continue
        if index["name"] in made:
            steps.append(f'DROP INDEX CONCURRENTLY public."{index["name"]}"')
        steps.append(index["described"].replace(" INDEX ", " INDEX CONCURRENTLY ", 1))
    steps += [step.sql for step in indexes_to_make(there, ITEM_INDEXES, concurrently=True)]
    for sql in steps:
        async with connecting(engine) as connection:
            autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
            await autocommit.exec_driver_sql(sql)
    async with connecting(engine) as connection, connection.begin():
        await end_archive(connection, archive, actor)
