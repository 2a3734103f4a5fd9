"""`migrate --atomic` (R15): expand, copy and verify in one transaction, which commits only if every item verifies.

`items` is locked against writers, not readers, from the start: nothing that is copied can change before it is
compared. The lock comes before the first query, so the transaction's one snapshot sees all that was written before.
Adding the flag wants the table for itself and comes last, so readers wait for a moment only.
"""

from dataclasses import dataclass

import stamina
from sqlalchemy import func, insert, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import tables
from db.errors import StockshiftError
from db.shape import load_shape
from migration import verify
from migration.copy import copy_chunk
from migration.expand import Existing, Step, existing, flag_to_add, keys_to_add, tables_to_make
from migration.locks import explain_lock, is_lock_timeout, is_serialization_failure, set_local
from migration.plan import Blocked, make_plan
from migration.progress import Progress, Report, silent
from migration.verify import one_snapshot

CHUNK = 5_000
LOCK_ATTEMPTS = 5


class NotVerified(StockshiftError):
    """The copy did not verify, so nothing was kept: the database is as it was."""


@dataclass(frozen=True)
class Migrated:
    """What a migration did, in items. `verification` is None when there was nothing to do."""

    copied: int
    adopted: int
    held_back: int
    verification: int | None


async def migrate_atomic(
    engine: AsyncEngine, *, driver: str, lock_timeout_ms: int = 2_000, progress: Report = silent
) -> Migrated:
    """Carries every item that can be copied over, or changes nothing at all.

    Raises Blocked, MigrationRunning, LockNotHad, NotVerified.
    """
    plan = await make_plan(engine)
    if plan.blockers:
        raise Blocked("the migration cannot run: " + "; ".join(plan.blockers))
    held_back = sum(decision.count for decision in plan.decisions if decision.held_back)
    if not plan.steps:
        return Migrated(0, 0, held_back, None)
    try:
        async for attempt in stamina.retry_context(on=_may_try_again, attempts=LOCK_ATTEMPTS, timeout=None):
            with attempt:
                async with engine.connect() as connection:
                    there = await existing(connection)
                async with one_snapshot(engine) as connection:
                    await _lock(connection, there, lock_timeout_ms)
                    return await _migrate(connection, plan.to_copy, driver, progress)
    except DBAPIError as error:
        if is_lock_timeout(error):
            raise await explain_lock(engine) from error
        raise
    raise AssertionError  # the loop above returns or raises


def _may_try_again(error: Exception) -> bool:
    return isinstance(error, DBAPIError) and (is_lock_timeout(error) or is_serialization_failure(error))


async def _lock(connection: AsyncConnection, there: Existing, lock_timeout_ms: int) -> None:
    """Keeps writers out of both tables, before the transaction's snapshot is taken. LOCK and SET take none."""
    await set_local(connection, lock_timeout=lock_timeout_ms, statement_timeout=0)
    await connection.exec_driver_sql("LOCK TABLE public.items IN SHARE ROW EXCLUSIVE MODE")
    if tables.stock_batches.fullname in there.relations:
        await connection.exec_driver_sql("LOCK TABLE public.stock_batches IN SHARE ROW EXCLUSIVE MODE")


async def _migrate(connection: AsyncConnection, to_copy: int, driver: str, progress: Report) -> Migrated:
    there = await existing(connection)
    await _run(connection, tables_to_make(there))
    run: int = (
        await connection.execute(
            insert(tables.migration_run)
            .values(kind="atomic", driver=driver, started_at=func.now())
            .returning(tables.migration_run.c.id)
        )
    ).scalar_one()
    shape = await load_shape(connection)
    copied = adopted = held_back = 0
    after = None
    while True:
        chunk = await copy_chunk(connection, shape, run=run, after=after, size=CHUNK)
        if chunk.last_id is None:
            break
        copied, adopted = copied + chunk.copied, adopted + chunk.adopted
        held_back, after = held_back + chunk.held_back, chunk.last_id
        progress(Progress("copy", copied, to_copy))
    await _run(connection, keys_to_add(there))
    progress(Progress("verify", 0, copied))
    await connection.exec_driver_sql("ANALYZE public.stock_batches, stockshift.copy_ledger")
    verification = await verify.begin(connection, None, driver)
    verified = await verify.compare(connection, shape, verification, None)
    if not verified.clean or await verify.count_inexact(connection, shape, run):
        failed = [
            f"{check.name}: {check.actual}, not {check.expected}" for check in verified.checks if not check.passed
        ]
        raise NotVerified(f"the copy did not verify ({'; '.join(failed)}); nothing was kept, the database is as it was")
    progress(Progress("verify", copied, copied))
    await connection.execute(
        update(tables.migration_run)
        .where(tables.migration_run.c.id == run)
        .values(finished_at=func.clock_timestamp(), items_copied=copied, items_held_back=held_back)
    )
    await _add_flag(connection, flag_to_add(there))
    return Migrated(copied, adopted, held_back, verification)


async def _run(connection: AsyncConnection, steps: list[Step]) -> None:
    for step in steps:
        await connection.exec_driver_sql(step.sql)


async def _add_flag(connection: AsyncConnection, steps: list[Step]) -> None:
    """Waits for the readers of `items`, briefly and again, so that nobody queues behind us for long."""
    async for attempt in stamina.retry_context(on=_may_try_again, attempts=LOCK_ATTEMPTS, timeout=None):
        with attempt:
            async with connection.begin_nested():
                await _run(connection, steps)
