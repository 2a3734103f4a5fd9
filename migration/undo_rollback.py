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
from db.shape import load_shape
from migration import audit
from migration.archive import (
    Archive,
    NotArchived,
    Superseded,
    end_archive,
    latest_archive,
    move,
    referred,
    require_name,
)
from migration.capture import captured, functions_to_make, triggers_to_put
from migration.draft import SCHEMA, drafting, one_draft_snapshot
from migration.exclusively import Actor, exclusively
from migration.expand import existing, indexes_to_make, keys_to_validate
from migration.failures import explained
from migration.locks import EVERYBODY_WAITS
from migration.meanwhile import REFERENCES, UNFOLDED, Meanwhile, bring_up_to_date, compare
from migration.quiet import shop_triggers_off
from migration.rollback import BATCHES, FLAG, ITEMS, KEYS, LEGACY, MOVED, OURS, QUALIFIED
from migration.verify import MigrationNotStarted
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
        archive = await _latest(connection)
        if archive.details["batches_stay"]:
            return [ITEMS, BATCHES, *await referred(connection, BATCHES)]
        return [ITEMS, f"{archive.place}.stock_batches", *archive.details["referred"]]

    async def work(connection: AsyncConnection) -> Undone:
        archive = await _latest(connection)
        await bring_up_to_date(connection, meanwhile)
        return await _Undo(archive, meanwhile, actor.name).carry_out(connection)

    async with explained(engine, EVERYBODY_WAITS):
        async with connecting(engine) as connection, connection.begin():
            await require_name(connection, confirm)
            if not (await load_shape(connection)).expanded:
                raise MigrationNotStarted
            await _latest(connection)
        async with drafting(engine, actor) as lease:
            async with one_draft_snapshot(engine, actor, [ITEMS]) as connection:
                meanwhile = await compare(connection, await _latest(connection))
            done = await exclusively(engine, actor, "undo", wanted, work, held=lease)
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
    shape = await load_shape(connection)
    if not shape.has_columns(tables.items, LEGACY):
        raise Superseded("items has lost a legacy column since the rollback; make it again, with its values, first")
    if archive.details["batches_stay"] and not shape.has(tables.stock_batches):
        raise Superseded(
            "public.stock_batches, which was there before us, was dropped since the rollback; make it again"
        )
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
    meanwhile: Meanwhile
    actor: str

    async def carry_out(self, connection: AsyncConnection) -> Undone:
        place = self.archive.place
        await connection.exec_driver_sql(QUALIFIED)
        await connection.exec_driver_sql(f"DROP VIEW {place}.only_in_batches")
        unfolded = await self._unfold(connection)
        keys = self.archive.details["keys"]
        if self.archive.details["batches_stay"]:
            keys = [list(key) for key in await connection.execute(KEYS)]
            await self._insert_batches(connection, [name for name, _ in keys])
        else:
            await move(connection, ["stock_batches"], place, "public")
        await move(connection, [table.name for table in MOVED], place, "stockshift")
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
        for name, described in keys:
            await connection.exec_driver_sql(f"ALTER TABLE {BATCHES} ADD CONSTRAINT {name} {described} NOT VALID")
        if self.archive.details["write_back"]:
            for step in write_back_to_put(await captured(connection)):
                await connection.exec_driver_sql(step.sql)
            await connection.execute(update(tables.setting).values(write_back=True))
        await connection.execute(UNMARK_RUNS, {"place": place})
        await connection.exec_driver_sql(f"DROP TABLE {place}.item")
        await connection.exec_driver_sql(f"DROP SCHEMA {SCHEMA} CASCADE")
        left = await end_archive(connection, self.archive, self.actor)
        batches = self.meanwhile.batches - lost
        done = Undone(batches, written, inserted, deleted, lost, unfolded, place if left else None)
        await audit.record(connection, "ROLLBACK_UNDONE", self.actor, **vars(done))
        return done

    async def _unfold(self, connection: AsyncConnection) -> int:
        """What the shop sold or received since is kept. No trigger of ours is on yet."""
        if not self.meanwhile.folded:
            return 0
        async with shop_triggers_off(connection, ITEMS):
            done = await connection.exec_driver_sql(
                f"""
                UPDATE {ITEMS} i SET "quantityInStock" = {UNFOLDED}
                FROM {self.archive.place}.fold f WHERE f.item_id = i.id
                """
            )
        return done.rowcount

    async def _insert_batches(self, connection: AsyncConnection, keys: list[str]) -> None:
        """Those that the rollback took out of the shop's own table; what the shop did in it since stays.

        Its keys go until what they would refuse is out of it.
        """
        place = self.archive.place
        for key in keys:
            await connection.exec_driver_sql(f"ALTER TABLE {BATCHES} DROP CONSTRAINT {key}")
        there, kept = await _columns(connection, BATCHES), await _columns(connection, f"{place}.stock_batches")
        names = ", ".join(name for name in kept if name in there)
        ours = OURS.format(place=place, batches=f"{place}.stock_batches")
        async with shop_triggers_off(connection, BATCHES):
            await connection.exec_driver_sql(
                f"""
                INSERT INTO {BATCHES} ({names}) SELECT {names} FROM {place}.stock_batches WHERE id IN ({ours})
                ON CONFLICT DO NOTHING
                """
            )
        if set(kept) <= set(there):
            await connection.exec_driver_sql(f"DROP TABLE {place}.stock_batches")

    async def _flag(self, connection: AsyncConnection) -> None:
        """The value that most items had costs nothing: it is the default for a moment, and no row is written."""
        if self.archive.details["flag_stays"]:
            return
        made = not (await existing(connection)).flag
        if made:
            default = "true" if self.meanwhile.flag else "false"
            await connection.exec_driver_sql(f'ALTER TABLE {ITEMS} ADD COLUMN "{FLAG}" BOOLEAN DEFAULT {default}')
        await connection.exec_driver_sql(f'ALTER TABLE {ITEMS} ALTER COLUMN "{FLAG}" SET DEFAULT false')
        others = f"SELECT id, flag FROM {SCHEMA}.flagged"
        if not made:  # by the shop, with values of its own
            others = f'SELECT id, "{FLAG}" AS flag FROM {self.archive.place}.item'
        async with shop_triggers_off(connection, ITEMS):
            await connection.exec_driver_sql(
                f"""
                UPDATE {ITEMS} i SET "{FLAG}" = was.flag
                FROM ({others} UNION ALL SELECT id, false FROM {SCHEMA}.inserted) AS was
                WHERE was.id = i.id AND i."{FLAG}" IS DISTINCT FROM was.flag
                """
            )

    async def _follow_deleted(self, connection: AsyncConnection) -> tuple[int, int]:
        """Their batches are kept in the archive, and leave movements as they go. Answers items and batches."""
        kept, lost = f"{self.archive.place}.item", f"{self.archive.place}.lost_batches"
        gone = f'WHERE b."itemId" IN (SELECT d.id FROM {SCHEMA}.deleted d)'
        await connection.exec_driver_sql(f"CREATE TABLE {lost} AS SELECT * FROM {BATCHES} b {gone}")
        number = (await connection.exec_driver_sql(f"DELETE FROM {BATCHES} b {gone}")).rowcount
        if not number:
            await connection.exec_driver_sql(f"DROP TABLE {lost}")
        deleted = await connection.exec_driver_sql(
            f"""
            INSERT INTO stockshift.legacy_write (item_id, operation, followed, before, application, role)
            SELECT k.id, 'DELETE', EXISTS (SELECT FROM stockshift.copy_ledger l WHERE l.item_id = k.id), to_jsonb(k),
                   '{MEANWHILE}', session_user
            FROM {kept} k JOIN {SCHEMA}.deleted d USING (id)
            """
        )
        return deleted.rowcount, number

    async def _forget_what_is_gone(self, connection: AsyncConnection) -> None:
        """As the keys do: a batch loses a location or user that was deleted."""
        for column, target in REFERENCES.items():
            gone = text(
                f"""
                SELECT n.id FROM {SCHEMA}.named n
                WHERE n."column" = :column AND NOT EXISTS (SELECT FROM {target} t WHERE t.id = n.id)
                  AND n.id IS NOT NULL
                """
            )
            if ids := list((await connection.execute(gone, {"column": column})).scalars()):
                forget = text(f'UPDATE {BATCHES} SET "{column}" = NULL WHERE "{column}" = ANY (:ids)')
                await connection.execute(forget, {"ids": ids})

    async def _follow_inserted(self, connection: AsyncConnection) -> int:
        """They wait for the next `migrate`. What the ledger knows under the id of one is of an item deleted before."""
        new = f"FROM {ITEMS} i JOIN {SCHEMA}.inserted n USING (id)"
        await connection.exec_driver_sql(
            f"""
            UPDATE stockshift.copy_ledger SET item_id = format('%s (deleted, %s)', item_id, gen_random_uuid())
            WHERE item_id IN (SELECT n.id FROM {SCHEMA}.inserted n)
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
        columns = ", ".join(f'i."{name}"' for name in LEGACY)
        written = await connection.exec_driver_sql(
            f"""
            CREATE TABLE {place}.written AS
            SELECT i.id, {columns} FROM {ITEMS} i JOIN {SCHEMA}.written w ON w.id = i.id
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


async def _columns(connection: AsyncConnection, table: str) -> list[str]:
    """Quoted."""
    return list((await connection.execute(COLUMNS, {"table": table})).scalars())


COLUMNS = text(
    """
    SELECT quote_ident(attname) FROM pg_catalog.pg_attribute
    WHERE attrelid = to_regclass(:table) AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum
    """
)

UNMARK_RUNS = text(
    "UPDATE stockshift.migration_run SET options = options - 'rolled_back' WHERE options ->> 'rolled_back' = :place"
)
