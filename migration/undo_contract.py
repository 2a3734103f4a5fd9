"""`contract --undo`: the legacy columns are there again, as they were, with their keys, indexes and values.

An item that was made since takes them from its batches, as write-back does: all units, and all else from the batch with
the most, the oldest of these. One transaction, although it writes every item: nobody uses columns that are gone.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db.engine import connecting
from db.indexes import ITEM_INDEXES
from migration import audit
from migration.archive import Archive, NotArchived, end_archive, latest_archive, require_name
from migration.capture import captured, functions_to_make, triggers_to_put
from migration.exclusively import Actor, exclusively
from migration.expand import existing, indexes_to_make
from migration.failures import explained
from migration.gates import WHILE_CONTRACTED
from migration.quiet import shop_triggers_off
from migration.rollback import BATCHES, ITEMS, LEGACY, QUALIFIED

FROM_BATCHES = {
    "quantityInStock": "LEAST(b.units, 2147483647)",
    "locationId": "b.\"locationId\"",
    "assignedUserId": "b.\"assignedUserId\"",
}  # fmt: skip
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
    """Raises ConfirmationMismatch, NotArchived, and what `exclusively` does.

    Keys are checked and indexes made after the commit, which keeps nobody waiting.
    """

    async def wanted(connection: AsyncConnection) -> list[str]:
        await require_name(connection, confirm)
        archive = await _latest(connection)
        return [ITEMS, BATCHES, *archive.details["referred"]]

    archives: list[Archive] = []

    async def work(connection: AsyncConnection) -> Restored:
        archive = await _latest(connection)
        archives[:] = [archive]
        return await _put_back(connection, archive, actor.name)

    done = await exclusively(engine, actor, "undo", wanted, work)
    async with explained(engine, kept="what was put back stays; make what is missing by hand"):
        await _finish(engine, archives[0].details)
    return done


async def _latest(connection: AsyncConnection) -> Archive:
    archive = await latest_archive(connection, "CONTRACT")
    if archive is None:
        raise NotArchived("no contract of this database is to be undone; see `stockshift status`")
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
    async with shop_triggers_off(connection, ITEMS):
        made = await connection.exec_driver_sql(_from_batches(kept, columns))
        values = ", ".join(f'"{name}" = {_still_there(name)}' for name in LEGACY)
        restored = await connection.exec_driver_sql(f"UPDATE {ITEMS} i SET {values} FROM {kept} k WHERE k.id = i.id")
    for column in columns:
        if column["required"]:
            await connection.exec_driver_sql(f'ALTER TABLE {ITEMS} ALTER COLUMN "{column["name"]}" SET NOT NULL')
    for key in archive.details["keys"]:
        later = " NOT VALID" if key["kind"] in "fc" else ""
        described = key["described"].removesuffix(" NOT VALID")
        await connection.exec_driver_sql(f"ALTER TABLE {ITEMS} ADD CONSTRAINT {key['name']} {described}{later}")
    await connection.execute(text(ENTER_LEDGER.format(kept=kept)))
    await connection.execute(text(TELL_OF_NEW.format(kept=kept)), {"application": WHILE_CONTRACTED})
    there = await captured(connection)
    for step in [*functions_to_make(there), *triggers_to_put(there, ITEMS)]:
        await connection.exec_driver_sql(step.sql)
    await connection.exec_driver_sql(f"DELETE FROM {kept} k WHERE EXISTS (SELECT FROM {ITEMS} i WHERE i.id = k.id)")
    rows: int = (await connection.execute(text(f"SELECT count(*) FROM {kept}"))).scalar_one()
    if not rows:
        await connection.exec_driver_sql(f"DROP TABLE {kept}")
    left = await end_archive(connection, archive, actor)
    done = Restored(restored.rowcount, made.rowcount, rows, archive.place if left else None)
    await audit.record(connection, "CONTRACT_UNDONE", actor, **vars(done))
    return done


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


async def _finish(engine: AsyncEngine, details: dict[str, Any]) -> None:
    async with connecting(engine) as connection:
        there = await existing(connection)
    steps = [f"ALTER TABLE {ITEMS} VALIDATE CONSTRAINT {key['name']}" for key in details["keys"] if key["kind"] in "fc"]
    shops = [index["described"] for index in details["indexes"] if index["name"] not in OURS]
    steps += [described.replace(" INDEX ", " INDEX CONCURRENTLY ", 1) for described in shops]
    steps += [step.sql for step in indexes_to_make(there, ITEM_INDEXES, concurrently=True)]
    for sql in steps:
        async with connecting(engine) as connection:
            autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
            await autocommit.exec_driver_sql(sql)
