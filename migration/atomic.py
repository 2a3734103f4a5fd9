"""`migrate --atomic` (R15): expand, copy and verify in one transaction, which commits only if what it copied verifies.

`items` is locked against writers, not readers, from the start: nothing that is copied can change before it is
compared. The locks come before the first query, so the transaction's one snapshot sees all that was written before.
The flag wants `items` for itself; it comes last, so readers wait for a moment only. Why so: docs/decisions/0003.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import stamina
from sqlalchemy import func, insert, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import tables
from db.errors import StockshiftError
from db.shape import load_shape
from migration import audit, lease, verify
from migration.blockers import Blocked, find_blockers, find_misfits
from migration.candidates import Among, among_ids
from migration.capture import capture_to_put
from migration.copy import between, copy_items, next_bound
from migration.expand import (
    Existing,
    existing,
    flag_to_add,
    indexes_to_make,
    keys_to_add,
    keys_to_validate,
    tables_to_make,
)
from migration.failures import explained
from migration.locks import (
    DRIVER_PREFIX,
    EVERYBODY_WAITS,
    WRITERS_WAIT,
    is_lock_refused,
    is_serialization_failure,
    lock_tables,
)
from migration.options import Options
from migration.plan import make_plan
from migration.progress import Progress, Report, silent
from migration.step import Step
from migration.transaction import one_snapshot, settle

CHUNK = 5_000
LOCK_ATTEMPTS = 6
FLAG_TIMEOUT_MS = 20
LISTED = 5

NAME_DRIVER = text("SELECT set_config('application_name', :name, true)")


class NotVerified(StockshiftError):
    """The copy did not verify, so nothing was kept: the database is as it was."""


class _Moved(Exception):
    """Tables appeared or went between the look at them and the lock."""


class _FlagNotHad(Exception):
    """`items` was never free of readers; some of them may be waiting for this very transaction to end."""


@dataclass(frozen=True)
class Migrated:
    """What a migration did, in items. `verification` is None when there was nothing to do.

    `mismatched` items differ for reasons from before this run, such as a batch changed since their copy;
    `not_copied` others were not asked for.
    """

    copied: int
    adopted: int
    held_back: int
    verification: int | None
    mismatched: int = 0
    not_copied: int = 0


async def migrate_atomic(
    engine: AsyncEngine,
    *,
    driver: str,
    options: Options | None = None,
    lock_timeout_ms: int = 2_000,
    progress: Report = silent,
) -> Migrated:
    """Carries every item over that is asked for and can be copied, or changes nothing at all.

    `driver` says who runs it, to a second one that is refused meanwhile. Of the options, items and choices matter.
    Raises Blocked, UnknownItems, UnknownLabel, MigrationRunning, LockNotHad, NotVerified, Refused, ConnectionLost.
    """
    asked = options or Options()
    plan = await make_plan(engine, lock_timeout_ms=lock_timeout_ms, options=asked)
    if plan.blockers:
        raise Blocked(plan.blockers)
    if not plan.steps:
        return Migrated(0, 0, sum(decision.count for decision in plan.decisions if decision.held_back), None)
    try:
        async with explained(engine, WRITERS_WAIT):
            return await _run(engine, WRITERS_WAIT, driver, asked, lock_timeout_ms, plan.to_copy, progress)
    except _FlagNotHad:
        async with explained(engine, EVERYBODY_WAITS):
            return await _run(engine, EVERYBODY_WAITS, driver, asked, lock_timeout_ms, plan.to_copy, progress)


def _may_try_again(error: Exception) -> bool:
    return isinstance(error, _Moved) or is_lock_refused(error) or is_serialization_failure(error)


async def _run(
    engine: AsyncEngine,
    mode: str,
    driver: str,
    options: Options,
    lock_timeout_ms: int,
    to_copy: int,
    progress: Report,
) -> Migrated:
    async for attempt in stamina.retry_context(on=_may_try_again, attempts=LOCK_ATTEMPTS, timeout=None):
        with attempt:
            async with one_snapshot(engine) as connection:
                there = await existing(connection)
            async with one_snapshot(engine) as connection:
                await lock_tables(
                    connection, tables.items.fullname, _written(there), mode=mode, timeout_ms=lock_timeout_ms
                )
                await settle(connection)
                await connection.execute(NAME_DRIVER, {"name": f"{DRIVER_PREFIX}: {driver}"})
                if await existing(connection) != there:
                    raise _Moved
                return await _migrate(connection, there, to_copy, driver, options, progress)
    raise AssertionError  # the loop above returns or raises


def _written(there: Existing) -> list[str]:
    """What must not change beside `items`: the batches, and the tables that the new keys refer to."""
    batches = tables.stock_batches.fullname
    targets = [
        target.fullname
        for column, (target, _) in tables.STOCK_BATCHES_REFERENCES.items()
        if column not in there.foreign_keys and target is not tables.items
    ]
    return [*([batches] if batches in there.relations else []), *targets]


async def _migrate(
    connection: AsyncConnection, there: Existing, to_copy: int, driver: str, options: Options, progress: Report
) -> Migrated:
    before = await load_shape(connection)
    if stands := await find_misfits(connection, before) or await find_blockers(connection, before):
        raise Blocked(stands)
    await _execute(connection, tables_to_make(there))
    token = await lease.take(connection, name=driver, place="command")
    run: int = (
        await connection.execute(
            insert(tables.migration_run)
            .values(kind="atomic", driver=driver, started_at=func.now(), options=options.to_json())
            .returning(tables.migration_run.c.id)
        )
    ).scalar_one()
    await audit.record(connection, "MIGRATION_BEGUN", driver, run=run, kind="atomic")
    copied = adopted = held_back = 0
    async for among in _chunks(connection, options.items):
        # By the shape before: what this run makes need not be searched, item by item, while it is not yet indexed.
        chunk = await copy_items(
            connection, before, run=run, among=among, chosen=options.choices.chosen, table_locked=True
        )
        copied, adopted = copied + chunk.copied, adopted + chunk.adopted
        held_back += chunk.held_back
        progress(Progress("copy", copied, max(copied, to_copy)))
    await _execute(connection, [*keys_to_add(there), *keys_to_validate(there)])
    await _execute(connection, [*indexes_to_make(there), *capture_to_put(there.capture)])
    progress(Progress("verify", 0, copied))
    await connection.exec_driver_sql("ANALYZE public.stock_batches, stockshift.copy_ledger")
    shape = await load_shape(connection)
    verified = await verify.compare(connection, shape, await verify.begin(connection, None, driver), None)
    if wrong := await verify.find_wrong(connection, shape, verified.id, run, options.among, options.choices.chosen):
        raise NotVerified(
            f"the copy did not verify: {len(wrong)} wrong, such as {', '.join(wrong[:LISTED])};"
            " nothing was kept, the database is as it was"
        )
    progress(Progress("verify", copied, copied))
    await connection.execute(
        update(tables.migration_run)
        .where(tables.migration_run.c.id == run)
        .values(
            state="FINISHED",
            finished_at=func.clock_timestamp(),
            items_total=copied + held_back,
            items_copied=copied,
            items_held_back=held_back,
        )
    )
    await audit.record(
        connection, "MIGRATION_ENDED", driver, run=run, state="FINISHED", copied=copied, held_back=held_back
    )
    await lease.release(connection, token)
    await _add_flag(connection, flag_to_add(there))
    return Migrated(copied, adopted, held_back, verified.id, verified.differing, verified.not_copied)


async def _chunks(connection: AsyncConnection, items: Sequence[str]) -> AsyncIterator[Among]:
    """The items, some thousand at a time; none stands for all."""
    for start in range(0, len(items), CHUNK):
        yield among_ids(items[start : start + CHUNK])
    after = None
    while not items and (upto := await next_bound(connection, after, CHUNK)) is not None:
        yield between(after, upto)
        after = upto


async def _execute(connection: AsyncConnection, steps: list[Step]) -> None:
    for step in steps:
        await connection.exec_driver_sql(step.sql)


async def _add_flag(connection: AsyncConnection, steps: list[Step]) -> None:
    """Takes `items` in a moment without readers, hardly waiting: a reader may be waiting for us, to write.

    Not NOWAIT: before PostgreSQL 17 that fails when a writer waits, although we would be served before it.
    """
    if not steps:
        return
    try:
        async for attempt in stamina.retry_context(
            on=is_lock_refused, attempts=LOCK_ATTEMPTS, wait_initial=0.05, wait_max=0.5, wait_jitter=0.1
        ):
            with attempt:
                async with connection.begin_nested():
                    await connection.exec_driver_sql(f"SET LOCAL lock_timeout = {FLAG_TIMEOUT_MS:d}")
                    await connection.exec_driver_sql(f"LOCK TABLE public.items IN {EVERYBODY_WAITS} MODE")
    except DBAPIError as error:
        if is_lock_refused(error):
            raise _FlagNotHad from error
        raise
    await _execute(connection, steps)
