"""`rollback --undo` (R24): what was archived is put back as it was, in one short transaction.

What the shop wrote meanwhile is then written once more, by the very triggers that would have seen it: the opening batch
follows, or the write is recorded as drift. So nothing of the rule is said twice.
"""

from dataclasses import dataclass

from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import tables
from db.engine import connecting
from db.indexes import ITEM_INDEXES
from migration import audit
from migration.archive import Archive, NotArchived, Superseded, end_archive, latest_archive, move, require_name
from migration.capture import captured, functions_to_make, triggers_to_put
from migration.exclusively import Actor, exclusively
from migration.expand import existing, indexes_to_make, keys_to_validate
from migration.failures import explained
from migration.locks import EVERYBODY_WAITS
from migration.quiet import shop_triggers_off
from migration.rollback import BATCHES, FLAG, ITEMS, LEGACY, MOVED, QUALIFIED, REFERRED
from migration.write_back import write_back_to_put

MEANWHILE = "while rolled back"
"""The application that is recorded for what was written while nobody looked."""


@dataclass(frozen=True)
class Undone:
    """What was put back, and what came of the shop's work since, in items: `written` ones were followed or are drift;
    `inserted` ones are for the next `migrate`; of `deleted` ones the `lost` batches stay in `archive`.

    `unfolded` items have the quantity again, less what was sold since, that they had before they were folded.
    """

    batches: int
    written: int
    inserted: int
    deleted: int
    lost: int
    unfolded: int
    archive: str | None


async def undo_rollback(engine: AsyncEngine, actor: Actor, *, confirm: str) -> Undone:
    """Raises ConfirmationMismatch, NotArchived, Superseded, and what `exclusively` does.

    Keys are checked and indexes of items made after the commit, which keeps nobody waiting; `migrate` does it too.
    """

    async def wanted(connection: AsyncConnection) -> list[str]:
        await require_name(connection, confirm)
        archive = await _latest(connection)
        batches = BATCHES if archive.details["batches_stay"] else f"{archive.place}.stock_batches"
        return [ITEMS, batches, *REFERRED]

    async def work(connection: AsyncConnection) -> Undone:
        archive = await _latest(connection)
        return await _Undo(archive, actor.name).carry_out(connection)

    done = await exclusively(engine, actor, "undo", wanted, work)
    async with explained(engine, EVERYBODY_WAITS, kept="what was put back stays; `stockshift migrate` mends the rest"):
        async with connecting(engine) as connection:
            there = await existing(connection)
        for step in [*keys_to_validate(there), *indexes_to_make(there, ITEM_INDEXES, concurrently=True)]:
            async with connecting(engine) as connection:
                autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
                await autocommit.exec_driver_sql(step.sql)
    return done


async def _latest(connection: AsyncConnection) -> Archive:
    archive = await latest_archive(connection, "ROLLBACK")
    if archive is None:
        raise NotArchived("no rollback of this database is to be undone; see `stockshift status`")
    in_the_way = [table.fullname for table in MOVED]
    if not archive.details["batches_stay"]:
        in_the_way.append(BATCHES)
    for name in in_the_way:
        if await connection.scalar(select(func.to_regclass(name))) is not None:
            raise Superseded(
                f"{name} was made since the rollback of {archive.made_at:%Y-%m-%d %H:%M:%S} UTC: if that was a new "
                "migration, roll it back first; else rename the table"
            )
    return archive


@dataclass
class _Undo:
    """In a transaction that has items, batches, locations and users to itself."""

    archive: Archive
    actor: str

    async def carry_out(self, connection: AsyncConnection) -> Undone:
        place, stays = self.archive.place, self.archive.details["batches_stay"]
        await connection.exec_driver_sql(QUALIFIED)
        await connection.exec_driver_sql(f"DROP VIEW {place}.only_in_batches")
        unfolded = await self._unfold(connection)
        await move(connection, [table.name for table in MOVED], place, "stockshift")
        if stays:
            await connection.exec_driver_sql(
                f"INSERT INTO {BATCHES} SELECT * FROM {place}.stock_batches ON CONFLICT DO NOTHING"
            )
            await connection.exec_driver_sql(f"DROP TABLE {place}.stock_batches")
        else:
            await move(connection, ["stock_batches"], place, "public")
        await self._flag(connection)
        written = await self._set_back(connection)
        there = await captured(connection)
        for step in [*functions_to_make(there), *triggers_to_put(there, ITEMS), *triggers_to_put(there, BATCHES)]:
            await connection.exec_driver_sql(step.sql)
        await connection.execute(text("SELECT set_config('application_name', :name, true)"), {"name": MEANWHILE})
        deleted, lost = await self._follow_deleted(connection)
        await self._forget_what_is_gone(connection)
        inserted = await self._follow_inserted(connection)
        await self._write_again(connection)
        for name, described in self.archive.details["keys"]:
            await connection.exec_driver_sql(f"ALTER TABLE {BATCHES} ADD CONSTRAINT {name} {described} NOT VALID")
        if self.archive.details["write_back"]:
            for step in write_back_to_put(await captured(connection)):
                await connection.exec_driver_sql(step.sql)
            await connection.execute(update(tables.setting).values(write_back=True))
        await connection.execute(UNMARK_RUNS, {"place": place})
        await connection.exec_driver_sql(f"DROP TABLE {place}.item")
        left = await end_archive(connection, self.archive, self.actor)
        batches: int = (await connection.execute(select(func.count()).select_from(tables.stock_batches))).scalar_one()
        done = Undone(batches, written, inserted, deleted, lost, unfolded, place if left else None)
        await audit.record(connection, "ROLLBACK_UNDONE", self.actor, **vars(done))
        return done

    async def _unfold(self, connection: AsyncConnection) -> int:
        """What the shop sold or received since is kept. No trigger of ours is on yet."""
        if await connection.scalar(select(func.to_regclass(f"{self.archive.place}.fold"))) is None:
            return 0
        async with shop_triggers_off(connection, ITEMS):
            done = await connection.exec_driver_sql(
                f"""
                UPDATE {ITEMS} i SET "quantityInStock" = CASE
                    WHEN i."quantityInStock" = f.after THEN f.before
                    ELSE i."quantityInStock" - (f.after - COALESCE(f.before, 0)) END
                FROM {self.archive.place}.fold f WHERE f.item_id = i.id
                """
            )
        return done.rowcount

    async def _flag(self, connection: AsyncConnection) -> None:
        """The value that most items had costs nothing: it is the default for a moment, and no row is written."""
        if self.archive.details["flag_stays"]:
            return
        kept = f"{self.archive.place}.item"
        most = f'SELECT count(*) FILTER (WHERE "{FLAG}") * 2 > count(*) FROM {kept}'
        default = "true" if (await connection.execute(text(most))).scalar_one() else "false"
        await connection.exec_driver_sql(
            f'ALTER TABLE {ITEMS} ADD COLUMN IF NOT EXISTS "{FLAG}" BOOLEAN DEFAULT {default}'
        )
        await connection.exec_driver_sql(f'ALTER TABLE {ITEMS} ALTER COLUMN "{FLAG}" SET DEFAULT false')
        async with shop_triggers_off(connection, ITEMS):
            await connection.exec_driver_sql(
                f"""
                UPDATE {ITEMS} i SET "{FLAG}" = was.flag
                FROM (
                    SELECT n.id, CASE WHEN k.id IS NULL THEN false ELSE k."{FLAG}" END AS flag
                    FROM {ITEMS} n LEFT JOIN {kept} k ON k.id = n.id
                ) AS was
                WHERE was.id = i.id AND i."{FLAG}" IS DISTINCT FROM was.flag
                """
            )

    async def _follow_deleted(self, connection: AsyncConnection) -> tuple[int, int]:
        """Their batches are kept in the archive, and leave movements as they go. Answers items and batches."""
        kept, lost = f"{self.archive.place}.item", f"{self.archive.place}.lost_batches"
        gone = f"SELECT FROM {ITEMS} i WHERE i.id ="
        await connection.exec_driver_sql(
            f'CREATE TABLE {lost} AS SELECT * FROM {BATCHES} b WHERE NOT EXISTS ({gone} b."itemId")'
        )
        number = (
            await connection.exec_driver_sql(f'DELETE FROM {BATCHES} b WHERE NOT EXISTS ({gone} b."itemId")')
        ).rowcount
        if not number:
            await connection.exec_driver_sql(f"DROP TABLE {lost}")
        deleted = await connection.exec_driver_sql(
            f"""
            INSERT INTO stockshift.legacy_write (item_id, operation, followed, before, application, role)
            SELECT k.id, 'DELETE', EXISTS (SELECT FROM stockshift.copy_ledger l WHERE l.item_id = k.id), to_jsonb(k),
                   '{MEANWHILE}', session_user
            FROM {kept} k WHERE NOT EXISTS ({gone} k.id)
            """
        )
        return deleted.rowcount, number

    async def _forget_what_is_gone(self, connection: AsyncConnection) -> None:
        """As the keys do: a batch loses a location or user that was deleted."""
        for column, (target, _) in tables.STOCK_BATCHES_REFERENCES.items():
            if target is not tables.items:
                await connection.exec_driver_sql(
                    f"""
                    UPDATE {BATCHES} b SET "{column}" = NULL
                    WHERE b."{column}" IS NOT NULL
                      AND NOT EXISTS (SELECT FROM {target.fullname} t WHERE t.id = b."{column}")
                    """
                )

    async def _follow_inserted(self, connection: AsyncConnection) -> int:
        """They wait for the next `migrate`. What the ledger knows under the id of one is of an item deleted before."""
        kept = f"{self.archive.place}.item"
        new = f"FROM {ITEMS} i WHERE NOT EXISTS (SELECT FROM {kept} k WHERE k.id = i.id)"
        await connection.exec_driver_sql(
            f"""
            UPDATE stockshift.copy_ledger SET item_id = format('%s (deleted, %s)', item_id, gen_random_uuid())
            WHERE item_id IN (SELECT i.id {new})
            """
        )
        pairs = ", ".join(f"'{name}', i.\"{name}\"" for name in LEGACY)
        inserted = await connection.exec_driver_sql(
            f"""
            INSERT INTO stockshift.legacy_write (item_id, operation, followed, after, application, role)
            SELECT i.id, 'INSERT', false, jsonb_build_object({pairs}), '{MEANWHILE}', session_user {new}
            """
        )
        return inserted.rowcount

    async def _set_back(self, connection: AsyncConnection) -> int:
        """Items whose legacy columns differ from what they were; no trigger of ours is on yet."""
        place = self.archive.place
        differs = " OR ".join(f'i."{name}" IS DISTINCT FROM k."{name}"' for name in LEGACY)
        columns = ", ".join(f'i."{name}"' for name in LEGACY)
        written = await connection.exec_driver_sql(
            f"""
            CREATE TABLE {place}.written AS
            SELECT i.id, {columns} FROM {ITEMS} i JOIN {place}.item k ON k.id = i.id WHERE {differs}
            """
        )
        await self._set(connection, f"{place}.item", existing_only=True)
        return written.rowcount

    async def _write_again(self, connection: AsyncConnection) -> None:
        """And now the triggers see it."""
        await self._set(connection, f"{self.archive.place}.written", existing_only=False)
        await connection.exec_driver_sql(f"DROP TABLE {self.archive.place}.written")

    async def _set(self, connection: AsyncConnection, source: str, *, existing_only: bool) -> None:
        """The legacy columns of the written items, out of `source`; a place or person that is gone cannot be set."""
        targets = {"locationId": "locations", "assignedUserId": "users"} if existing_only else {}
        values = ", ".join(
            f'"{name}" = (SELECT t.id FROM public.{targets[name]} t WHERE t.id = k."{name}")'
            if name in targets
            else f'"{name}" = k."{name}"'
            for name in LEGACY
        )
        async with shop_triggers_off(connection, ITEMS):
            await connection.exec_driver_sql(
                f"""
                UPDATE {ITEMS} i SET {values} FROM {source} k
                WHERE k.id = i.id AND i.id IN (SELECT w.id FROM {self.archive.place}.written w)
                """
            )


UNMARK_RUNS = text(
    "UPDATE stockshift.migration_run SET options = options - 'rolled_back' WHERE options ->> 'rolled_back' = :place"
)
