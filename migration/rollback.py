"""Rollback (R24): batches, ledger and movements are moved to an archive, triggers, indexes and flag go.

It is one short transaction, so it is done or it is not. No pre-existing column of `items` changes, unless the operator
asks that quantities which exist only in batches are folded into them. Why so: docs/decisions/0017.
"""

from dataclasses import dataclass, field

from sqlalchemy import Text, bindparam, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import tables
from db.engine import connecting
from db.indexes import ITEM_INDEXES
from db.shape import load_shape
from migration import audit
from migration.archive import Archive, begin_archive, contracted, move, referred, require_name, rolled_back
from migration.capture import TRIGGERS, WRITE_BACK_TRIGGERS
from migration.draft import SCHEMA, Draft, catch_up, drafting, make_draft, one_draft_snapshot, take_drafts
from migration.exclusively import Actor, exclusively
from migration.expand import existing
from migration.failures import explained
from migration.fold import Folds, catch_up_folds, draft_folds, make_folds
from migration.locks import EVERYBODY_WAITS
from migration.quiet import shop_triggers_off
from migration.run import unfinished_run
from migration.verify import MigrationNotStarted

ITEMS, BATCHES = tables.items.fullname, tables.stock_batches.fullname
FLAG = tables.USE_BATCH_SYSTEM.name
MOVED = (tables.copy_ledger, tables.movement, tables.legacy_write, tables.idempotency_key)
"""What goes with the batches: it speaks of these, and a migration that begins anew begins with none."""
LEGACY = tuple(tables.COMPARED_COLUMNS.values())
LISTED = 1_000


class AlreadyRolledBack(MigrationNotStarted):
    """The migration is rolled back; `stockshift rollback --undo` puts it back, `stockshift migrate` begins anew."""


class Contracted(MigrationNotStarted):
    """The legacy columns are gone, and there is nothing to go back to; `stockshift contract --undo` puts them back."""


@dataclass(frozen=True)
class OnlyInBatches:
    """An item that its legacy columns do not tell all of: units there and in its batches, and how many batches it has
    beside the opening batch."""

    item_id: str
    name: str
    legacy: int
    batches: int
    others: int

    @property
    def difference(self) -> int:
        return self.batches - self.legacy


@dataclass(frozen=True)
class Rehearsal:
    """What a rollback would do, or did. `items` are those of which something exists only in batches, the first of which
    are `listed`; `units` is by how much the batches of all of these exceed the legacy columns.

    `folded` items have their units in the legacy columns since; `stays` names what was there before us.
    """

    database: str
    batches: int
    items: int
    units: int
    listed: list[OnlyInBatches]
    stays: list[str]
    archive: str | None = None
    folded: int = 0


# `{items}` has an item's id, name and quantityInStock, be it the table itself or what was kept of it.
ONLY_IN_BATCHES = """
SELECT i.id AS item_id, i.name, COALESCE(i."quantityInStock", 0)::bigint AS legacy,
       COALESCE(stock.quantity, 0)::bigint AS batches, COALESCE(stock.others, 0)::bigint AS others
FROM {items} i
LEFT JOIN {ledger} l ON l.item_id = i.id
LEFT JOIN (
    SELECT b."itemId", sum(b.quantity) AS quantity, count(*) FILTER (WHERE o.item_id IS NULL) AS others
    FROM {batches} b LEFT JOIN {ledger} o ON o.batch_id = b.id AND o.item_id = b."itemId"
    GROUP BY b."itemId"
) AS stock ON stock."itemId" = i.id
WHERE (l.item_id IS NOT NULL OR stock."itemId" IS NOT NULL)
  AND (stock.others > 0 OR COALESCE(stock.quantity, 0) <> COALESCE(i."quantityInStock", 0))
"""
HERE = ONLY_IN_BATCHES.format(items=ITEMS, ledger=tables.copy_ledger.fullname, batches=BATCHES)

# Made by us, and gone with us: opening batches that were not adopted, and batches that came since, whose movements
# began from nothing, unless it was somebody else who made them.
OURS = """
SELECT b.id FROM {batches} b
WHERE EXISTS (SELECT FROM {place}.copy_ledger l WHERE l.batch_id = b.id AND NOT l.adopted)
   OR (NOT EXISTS (SELECT FROM {place}.copy_ledger l WHERE l.batch_id = b.id)
       AND b.quantity = (SELECT sum(m.delta) FROM {place}.movement m WHERE m.batch_id = b.id)
       AND 'DIRECT' <> (SELECT m.reason FROM {place}.movement m WHERE m.batch_id = b.id ORDER BY m.id LIMIT 1))
"""

MARK_RUNS = text(
    """
    UPDATE stockshift.migration_run SET options = COALESCE(options, '{}') || jsonb_build_object('rolled_back', :place)
    WHERE (options -> 'rolled_back') IS NULL
    """
).bindparams(bindparam("place", type_=Text))
QUALIFIED = "SELECT set_config('search_path', 'pg_catalog', true)"
KEYS = text(
    """
    SELECT quote_ident(conname) AS name, pg_get_constraintdef(oid) AS described FROM pg_catalog.pg_constraint
    WHERE conrelid = 'public.stock_batches'::regclass AND contype = 'f' ORDER BY 1
    """
)


async def rehearse(engine: AsyncEngine) -> Rehearsal:
    """What a rollback would do now; writes nothing. Raises MigrationNotStarted, AlreadyRolledBack, Contracted."""
    async with connecting(engine) as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        async with connection.begin():
            await _require_migration(connection)
            made = (await connection.execute(select(tables.setting.c.batches_made, tables.setting.c.flag_made))).one()
            return await _report(connection, HERE, BATCHES, _stays(made.batches_made, made.flag_made))


async def roll_back(engine: AsyncEngine, actor: Actor, *, confirm: str, fold: bool = False) -> Rehearsal:
    """Rolls back and answers what was archived; `fold` puts the batches' quantities into the legacy columns.

    Raises ConfirmationMismatch, MigrationNotStarted, AlreadyRolledBack, Contracted, and what `exclusively` does.
    """

    async def wanted(connection: AsyncConnection) -> list[str]:
        await require_name(connection, confirm)
        await _require_migration(connection)
        return [ITEMS, BATCHES, *await referred(connection, BATCHES), *[table.fullname for table in MOVED]]

    async def work(connection: AsyncConnection) -> tuple[Archive, int]:
        return await _Rollback(actor.name, draft, folds).carry_out(connection)

    async with explained(engine, EVERYBODY_WAITS):
        async with connecting(engine) as connection, connection.begin():
            await wanted(connection)
        async with drafting(engine, actor) as lease:
            async with one_draft_snapshot(engine, actor, [ITEMS]) as connection:
                draft = await make_draft(connection, ITEMS, "item", await _kept_columns(connection), key="id")
                folds = await draft_folds(connection) if fold else None
            archive, folded = await exclusively(engine, actor, "rollback", wanted, work, held=lease)
    async with explained(engine, kept="it is rolled back"), connecting(engine) as connection, connection.begin():
        stays = _stays(not archive.details["batches_stay"], not archive.details["flag_stays"])
        query = f"SELECT * FROM {archive.place}.only_in_batches"
        report = await _report(connection, query, f"{archive.place}.stock_batches", stays)
    return Rehearsal(**{**vars(report), "archive": archive.place, "folded": folded})


async def _require_migration(connection: AsyncConnection) -> None:
    if words := await rolled_back(connection):
        raise AlreadyRolledBack(words)
    if not (await load_shape(connection)).has(tables.copy_ledger):
        raise MigrationNotStarted
    if words := await contracted(connection):
        raise Contracted(words)


async def _kept_columns(connection: AsyncConnection) -> list[str]:
    """Of items, what `undo` has to know: their flags, and whether the shop has written them since."""
    flag = [FLAG] if (await existing(connection)).flag else []
    return ["id", "name", *[f'"{name}"' for name in (*LEGACY, *flag)]]


def _stays(batches_made: bool, flag_made: bool) -> list[str]:
    made = {"table public.stock_batches": batches_made, f'column items."{FLAG}"': flag_made}
    return [f"{what}, which was there before us" for what, ours in made.items() if not ours]


async def _report(connection: AsyncConnection, query: str, batches: str, stays: list[str]) -> Rehearsal:
    database: str = (await connection.execute(select(func.current_database()))).scalar_one()
    count: int = (await connection.execute(text(f"SELECT count(*) FROM {batches}"))).scalar_one()
    whole = text(f"SELECT count(*) AS items, COALESCE(sum(batches - legacy), 0)::bigint AS units FROM ({query}) AS f")
    found = (await connection.execute(whole)).one()
    first = text(f"SELECT * FROM ({query}) AS f ORDER BY item_id LIMIT :listed")
    rows = await connection.execute(first, {"listed": LISTED})
    listed = [OnlyInBatches(**row._asdict()) for row in rows]
    return Rehearsal(database, count, found.items, found.units, listed, stays)


@dataclass
class _Rollback:
    """In a transaction that has all the tables to itself."""

    actor: str
    draft: Draft
    folds: Folds | None
    place: str = field(init=False)

    async def carry_out(self, connection: AsyncConnection) -> tuple[Archive, int]:
        """The archive, and how many items were folded."""
        made = (await connection.execute(select(tables.setting))).one()
        run = await unfinished_run(connection)
        stays = {"batches_stay": not made.batches_made, "flag_stays": not made.flag_made}
        await connection.exec_driver_sql(QUALIFIED)
        keys = [list(key) for key in await connection.execute(KEYS)] if made.batches_made else []
        details = {
            **stays,
            "run": run and run.id,
            "keys": keys,
            "referred": await referred(connection, BATCHES),
            "write_back": made.write_back,
        }
        archive = await begin_archive(connection, "ROLLBACK", self.actor, details)
        self.place = archive.place
        await connection.execute(update(tables.setting).values(write_back=False))
        await self._end_runs(connection)
        await self._keep_items(connection)
        await self._take_off(connection, flag=made.flag_made)
        await move(connection, [table.name for table in MOVED], "stockshift", self.place)
        if made.batches_made:
            await self._move_batches(connection, [name for name, _ in keys])
        else:
            await self._copy_batches(connection)
        view = ONLY_IN_BATCHES.format(
            items=f"{self.place}.item", ledger=f"{self.place}.copy_ledger", batches=f"{self.place}.stock_batches"
        )
        await connection.exec_driver_sql(f"CREATE VIEW {self.place}.only_in_batches AS {view}")
        folded = await make_folds(connection, self.place) if self.folds else 0
        await audit.record(connection, "ROLLED_BACK", self.actor, archive=self.place, folded=folded, **stays)
        return archive, folded

    async def _end_runs(self, connection: AsyncConnection) -> None:
        """One that was paused or interrupted cannot go on; those that finished say nothing of items any more."""
        run = tables.migration_run
        ended = update(run).where(run.c.state.in_(["RUNNING", "PAUSED"]))
        await connection.execute(ended.values(state="CANCELLED", finished_at=func.clock_timestamp(), waiting=None))
        await connection.execute(MARK_RUNS, {"place": self.place})

    async def _keep_items(self, connection: AsyncConnection) -> None:
        since = await catch_up(connection, self.draft)
        if self.folds:
            await catch_up_folds(connection, self.folds, since.keys)
            await connection.exec_driver_sql(f"ALTER TABLE {SCHEMA}.fold SET SCHEMA {self.place}")
        await take_drafts(connection, self.place, self.draft)
        if f'"{FLAG}"' not in self.draft.columns:
            await connection.exec_driver_sql(f'ALTER TABLE {self.place}.item ADD COLUMN "{FLAG}" boolean')

    async def _take_off(self, connection: AsyncConnection, *, flag: bool) -> None:
        for name, trigger in {**TRIGGERS, **WRITE_BACK_TRIGGERS}.items():
            await connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name} ON {trigger.table}")
        for index in ITEM_INDEXES.values():
            await connection.exec_driver_sql(f"DROP INDEX IF EXISTS public.{index.name}")
        if flag:
            await connection.exec_driver_sql(f'ALTER TABLE {ITEMS} DROP COLUMN IF EXISTS "{FLAG}"')

    async def _move_batches(self, connection: AsyncConnection, keys: list[str]) -> None:
        """Without their keys: what the shop deletes from now on must not take an archive with it."""
        for key in keys:
            await connection.exec_driver_sql(f"ALTER TABLE {BATCHES} DROP CONSTRAINT {key}")
        await move(connection, ["stock_batches"], "public", self.place)

    async def _copy_batches(self, connection: AsyncConnection) -> None:
        """The table is the shop's own: ours go out of it, and all are kept."""
        await connection.exec_driver_sql(f"CREATE TABLE {self.place}.stock_batches (LIKE {BATCHES} INCLUDING ALL)")
        await connection.exec_driver_sql(f"INSERT INTO {self.place}.stock_batches SELECT * FROM {BATCHES}")
        async with shop_triggers_off(connection, BATCHES):
            ours = OURS.format(place=self.place, batches=BATCHES)
            await connection.exec_driver_sql(f"DELETE FROM {BATCHES} WHERE id IN ({ours})")
