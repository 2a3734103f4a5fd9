"""`migrate --online` (R15): capture first, then backfill, in small transactions beside a shop that goes on selling.

Each stage looks at what is there and makes what is missing, so a run that died goes on by beginning again: only the
backfill remembers where it was. What is written after the capture is on cannot be missed (migration/capture.py), and
what was copied is not copied again (migration/copy.py); so it does not matter where a run is cut. Why so:
docs/decisions/0015.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import stamina
from sqlalchemy import exists, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import tables
from db.engine import ConnectionFailed, connecting
from db.errors import StockshiftError
from db.indexes import BATCHES_OF_AN_ITEM
from db.shape import load_shape
from db.sqlstate import is_lost, sqlstate
from migration import audit, lease, verify
from migration.backfill import backfill, sweep
from migration.blockers import Blocked, find_misfits
from migration.capture import functions_to_make, triggers_to_put
from migration.drive import Drive, Stopped
from migration.expand import (
    Existing,
    existing,
    flag_to_add,
    indexes_to_make,
    keys_and_targets,
    keys_to_validate,
    tables_to_make,
)
from migration.failures import ConnectionLost, explained, told
from migration.locks import EVERYBODY_WAITS, WRITERS_WAIT
from migration.options import Options
from migration.plan import Plan, make_plan
from migration.progress import Report, silent
from migration.run import STOPPED, Place, State, unfinished_run
from migration.step import Step
from migration.transaction import settle

EXPANSION = 0x57C6
"""The advisory lock under which our own tables are made: a lease needs them."""
RUN = tables.migration_run
MADE_ATTEMPTS = 5
BATCHES, ITEMS = tables.stock_batches.fullname, tables.items.fullname
ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(:key)").bindparams(key=EXPANSION)

STATISTICS = Step("what the planner should know of them", "ANALYZE public.stock_batches, stockshift.copy_ledger")


@dataclass(frozen=True)
class Outcome:
    """How a driver ended, in items: FINISHED and verified, or stopped as it was told to.

    `mismatched` items differ; `not_copied` others came since the last sweep, or were not asked for.
    """

    run: int
    state: State
    copied: int
    adopted: int
    held_back: int
    verification: int | None = None
    mismatched: int = 0
    not_copied: int = 0


async def migrate_online(
    engine: AsyncEngine,
    *,
    driver: str,
    place: Place = "command",
    requested_by: str | None = None,
    options: Options | None = None,
    lock_timeout_ms: int = 2_000,
    progress: Report = silent,
) -> Outcome:
    """Drives the unfinished run on, or begins one. `options` None: as the run was begun.

    Raises Blocked, MigrationRunning, LeaseLost, ConnectionLost, Refused. After ConnectionLost, as after a kill, the run
    can be driven on; after anything else it has failed, and the next one copies what is left.
    """
    async with explained(engine, kept="what was copied stays"):
        plan = await make_plan(engine, lock_timeout_ms=lock_timeout_ms, options=options)
        if plan.blockers:
            raise Blocked(plan.blockers)
        await _make_tables(engine, lock_timeout_ms)
        async with lease.held(engine, name=driver, place=place) as token:
            run, after, copied, total, kept = await _enter(engine, driver, place, requested_by, options, plan)
            drive = Drive(engine, token, run, kept, lock_timeout_ms, progress, copied, total)
            try:
                return await _drive(drive, after, driver)
            except Stopped as stopped:
                return await _stop(drive, STOPPED[stopped.wanted], driver)
            except (ConnectionFailed, ConnectionLost, lease.LeaseLost):
                raise  # the run is as it was, for the next driver
            except (DBAPIError, StockshiftError) as error:
                if isinstance(error, DBAPIError) and is_lost(error):
                    raise
                await _fail(drive, error, driver)
                raise


async def _make_tables(engine: AsyncEngine, lock_timeout_ms: int) -> None:
    """Our own, and an empty one of batches; no table of the shop is locked."""
    async with connecting(engine) as connection, connection.begin():
        await connection.exec_driver_sql(f"SET LOCAL lock_timeout = {lock_timeout_ms:d}")
        await connection.execute(ONE_AT_A_TIME)
        await settle(connection)
        for step in tables_to_make(await existing(connection)):
            await connection.exec_driver_sql(step.sql)


async def _enter(
    engine: AsyncEngine, driver: str, place: Place, requested_by: str | None, options: Options | None, plan: Plan
) -> tuple[int, str | None, int, int, Options]:
    """The run to drive: its id, where its backfill stands, items copied and in all, and what was asked of it."""
    now: Mapping[str, object] = {"state": "RUNNING", "wanted": "RUN", "place": place, "driver": driver, "error": None}
    async with engine.begin() as connection:
        before = await unfinished_run(connection)
        if before is None:
            asked = options or Options()
            values = {"kind": "online", "started_at": func.clock_timestamp(), "requested_by": requested_by}
            begun = insert(RUN).values(**now, **values, items_total=plan.to_copy, options=asked.to_json())
            run: int = (await connection.execute(begun.returning(RUN.c.id))).scalar_one()
            await _record_begin(connection, requested_by or driver, run, resumed=False)
            return run, None, 0, plan.to_copy, asked
        resumed = update(RUN).where(RUN.c.id == before.id).values(**now)
        if options is not None:
            resumed = resumed.values(options=options.to_json())
        row = (
            await connection.execute(
                resumed.returning(RUN.c.after_id, RUN.c.items_copied, RUN.c.items_total, RUN.c.options)
            )
        ).one()
        await _record_begin(connection, requested_by or driver, before.id, resumed=True)
        return before.id, row.after_id, row.items_copied, row.items_total, Options.from_json(row.options)


async def _drive(drive: Drive, after: str | None, driver: str) -> Outcome:
    await drive.enter("expand")
    await _capture(drive)
    if not drive.options.items:
        await drive.enter("copy")
        await backfill(drive, after)
    await drive.enter("sweep")
    await drive.alone([STATISTICS])  # the sweep looks for few items among all
    held_back = await sweep(drive)
    await drive.enter("keys")
    async for attempt in stamina.retry_context(on=_made_meanwhile, attempts=MADE_ATTEMPTS, timeout=None):
        with attempt:
            there = await _look(drive)
            await drive.alone([*keys_to_validate(there), *indexes_to_make(there, concurrently=True)])
    await drive.enter("verify")
    verified = await verify.verify(drive.engine, requested_by=driver)
    async with drive.transaction() as connection:
        adopted = select(func.count()).where(tables.copy_ledger.c.run_id == drive.run, tables.copy_ledger.c.adopted)
        number: int = (await connection.execute(adopted)).scalar_one()
        await drive.note(
            connection,
            state="FINISHED",
            stage=None,
            waiting=None,
            finished_at=func.clock_timestamp(),
            items_held_back=held_back,
        )
        await _record_end(connection, drive, driver, state="FINISHED", held_back=held_back)
    return Outcome(
        drive.run,
        "FINISHED",
        drive.copied,
        number,
        held_back,
        verified.id,
        verified.differing,
        verified.not_copied,
    )


def _made_meanwhile(error: Exception) -> bool:
    """A driver was killed, and what it had sent last, an index, was still being made by its server process."""
    return isinstance(error, DBAPIError) and sqlstate(error) == "42P07"


async def _capture(drive: Drive) -> None:
    """Keys, indexes, triggers and the flag, before the first item is copied; a lock is had for a moment."""
    there = await _look(drive)
    filled = await _has_batches(drive)
    for step, target in keys_and_targets(there, validated=not filled):
        await drive.having({target: WRITERS_WAIT, BATCHES: WRITERS_WAIT}, [step])
    if filled:
        await drive.alone(indexes_to_make(there, BATCHES_OF_AN_ITEM, concurrently=True))
    else:
        await drive.having({BATCHES: WRITERS_WAIT}, indexes_to_make(there, BATCHES_OF_AN_ITEM))
    await drive.having({}, functions_to_make(there.capture))
    await drive.having({BATCHES: WRITERS_WAIT}, triggers_to_put(there.capture, BATCHES))
    await drive.having({ITEMS: WRITERS_WAIT}, triggers_to_put(there.capture, ITEMS))
    await drive.having({ITEMS: EVERYBODY_WAITS}, flag_to_add(there))


async def _look(drive: Drive) -> Existing:
    """Raises Blocked when the tables are no longer of the shape that is migrated."""
    async with drive.transaction() as connection:
        if misfits := await find_misfits(connection, await load_shape(connection)):
            raise Blocked(misfits)
        return await existing(connection)


async def _has_batches(drive: Drive) -> bool:
    async with drive.transaction() as connection:
        return bool(await connection.scalar(select(exists().select_from(tables.stock_batches))))


async def _record_begin(connection: AsyncConnection, actor: str, run: int, *, resumed: bool) -> None:
    await audit.record(connection, "MIGRATION_BEGUN", actor, run=run, kind="online", resumed=resumed)


async def _record_end(connection: AsyncConnection, drive: Drive, driver: str, **details: object) -> None:
    await audit.record(connection, "MIGRATION_ENDED", driver, run=drive.run, copied=drive.copied, **details)


async def _stop(drive: Drive, state: State, driver: str) -> Outcome:
    async with drive.transaction() as connection:
        await drive.note(connection, state=state, waiting=None)
        await _record_end(connection, drive, driver, state=state)
    return Outcome(drive.run, state, drive.copied, 0, 0)


async def _fail(drive: Drive, error: DBAPIError | StockshiftError, driver: str) -> None:
    """Leaves word of what went wrong; the next run copies what is left. Raises Blocked if the tables have changed."""
    async with drive.transaction() as connection:
        misfits = await find_misfits(connection, await load_shape(connection))
        blocked = Blocked(misfits) if misfits else None
        said = told(error) if isinstance(error, DBAPIError) else error.message
        why = blocked.message if blocked else said
        await drive.note(
            connection,
            state="FAILED",
            waiting=None,
            finished_at=func.clock_timestamp(),
            error=why,
        )
        await _record_end(connection, drive, driver, state="FAILED", error=why)
    if blocked:
        raise blocked from error
