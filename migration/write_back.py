"""Write-back (R10): the legacy quantity, status and location of items that are cut over follow their batches, so that
old readers stay right. Off unless somebody asks for it. What the triggers do: db/sql/capture.sql.

It is on while its triggers are. They are put on behind every write of a batch that is under way, in one transaction
with the setting; from then on each write of a batch brings its own item up to date, and we the others, chunk by chunk.
"""

import stamina
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import tables
from db.engine import connecting
from db.shape import Shape, load_shape
from migration import audit
from migration.capture import WRITE_BACK_TRIGGERS, Captured, captured, functions_to_make
from migration.cut_over import KEPT, is_cut_over
from migration.drive import TURN_MS
from migration.failures import explained
from migration.in_chunks import Chunk, InChunks, Outcome, Selection, all_items, require_prepared
from migration.locks import WRITERS_WAIT, is_lock_refused
from migration.progress import Report, silent
from migration.step import Step
from migration.transaction import settle
from migration.written_back import BATCHES, WRITE_BACK

PATIENCE_SECONDS = 10
ATTEMPTS_BEFORE_OUR_TURN = 5


async def set_write_back(
    engine: AsyncEngine, *, on: bool, actor: str, lock_timeout_ms: int = 2_000, progress: Report = silent
) -> Outcome:
    """Turns it on, and brings every item that is cut over up to date; or off, which leaves the columns as they are.

    Raises MigrationNotStarted, NotPrepared, LegacyColumnsGone, and what `explained` says. Killed between the two, or
    when some items were locked for too long, it is on: the same command again does the rest.
    """
    async with explained(engine, kept=KEPT):
        await _switch(engine, on=on, actor=actor)
        if not on:
            return Outcome(0, {})
        everything = Selection(all_items())
        chunks = InChunks(engine, everything, is_cut_over, _bring_up_to_date, "write-back", lock_timeout_ms, progress)
        return await chunks.run()


async def _switch(engine: AsyncEngine, *, on: bool, actor: str) -> None:
    """One short transaction, in which nobody writes a batch. The lock is tried for, as `Drive.having` does."""
    async for attempt in stamina.retry_context(
        on=is_lock_refused, attempts=None, timeout=PATIENCE_SECONDS, wait_initial=0.01, wait_max=0.5, wait_jitter=0.1
    ):
        with attempt:
            async with connecting(engine) as connection, connection.begin():
                await connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED READ WRITE")
                await require_prepared(connection, await load_shape(connection))
                await connection.exec_driver_sql(f"SET LOCAL lock_timeout = {TURN_MS:d}")
                how = " NOWAIT" if attempt.num <= ATTEMPTS_BEFORE_OUR_TURN else ""
                await connection.exec_driver_sql(f"LOCK TABLE {BATCHES} IN {WRITERS_WAIT} MODE{how}")
                await settle(connection)
                there = await captured(connection)
                for step in write_back_to_put(there) if on else _to_take_off(there):
                    await connection.exec_driver_sql(step.sql)
                await connection.execute(update(tables.setting).values(write_back=on))
                await audit.record(connection, "WRITE_BACK_SET", actor, on=on)


def write_back_to_put(there: Captured) -> list[Step]:
    """What is missing of it, once it is to be on."""
    steps = functions_to_make(there)
    for name, trigger in WRITE_BACK_TRIGGERS.items():
        if name not in there.triggers:
            steps.append(Step(trigger.why, trigger.make(name)))
        if name not in there.enabled:
            always = f"ALTER TABLE {BATCHES} ENABLE ALWAYS TRIGGER {name}"
            steps.append(Step(f"{name} fires for a replicated write too", always))
    return steps


def _to_take_off(there: Captured) -> list[Step]:
    """Disabled, not dropped, for which readers would have to wait."""
    return [
        Step("the legacy columns are left alone", f"ALTER TABLE {BATCHES} DISABLE TRIGGER {name}")
        for name in WRITE_BACK_TRIGGERS
        if name in there.triggers
    ]


async def _bring_up_to_date(connection: AsyncConnection, _: Shape, ids: list[str]) -> Chunk:
    await connection.execute(WRITE_BACK, {"ids": ids})
    return Chunk(len(ids))
