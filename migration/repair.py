"""Repair (R21): what a verification found is put right, each change shown before it is made, and proven in its
transaction.

The verification, the changes and the verification that proves them are one transaction. The items are locked first,
in the order of their ids, as the shop's own writes do; whoever wrote one since the snapshot makes it begin anew. When
an item does not match afterwards, or another is worse than before, nothing is kept. Triggers that are off come first,
by themselves: what they do not record could be no part of a proof.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import stamina
from sqlalchemy import (
    ColumnElement,
    FromClause,
    Row,
    Select,
    and_,
    case,
    exists,
    func,
    or_,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import tables
from db.engine import connecting
from db.errors import StockshiftError
from db.shape import Shape, load_shape
from migration import audit, verify
from migration.candidates import HELD_BACK
from migration.capture import functions_to_make, triggers_to_put
from migration.carry_out import ARCHIVE, carry_out, change_of, items_with
from migration.checks import Check, drifted
from migration.expand import existing, tables_to_make
from migration.failures import explained
from migration.findings import BROKEN
from migration.locks import WRITERS_WAIT, is_lock_refused, is_serialization_failure
from migration.proposals import Proposals
from migration.status import read_phase
from migration.step import Step
from migration.transaction import one_snapshot, settle
from migration.write_back import write_back_to_put
from migration.written_back import is_write_back_on

ATTEMPTS = 8
SHOWN = 20
"""So many changes, and items that are left, are named; the archive and the report have all."""
UNNAMED = ("conservation", "originals", "tables, keys and indexes")
"""Checks that can fail though no item is named; the others count what is named."""
OF_A_BATCH = tuple(BROKEN.values())
"""Kinds of which an item can have several, one a batch."""

MISMATCH = tables.verification_mismatch


class Outdated(StockshiftError):
    """An earlier version expanded this database; run `stockshift migrate`, which makes what is missing."""


class NoDrift(StockshiftError):
    """The item has no drift that can be decided so; `stockshift verify` names those that have."""


class NotRepaired(StockshiftError):
    """The changes did not make their items match, so none was kept: the database is as it was."""


@dataclass(frozen=True)
class Change:
    """`before` and `after` are the columns that change, by name; of a batch that comes or goes, all of them."""

    item_id: str
    kind: str
    act: str
    batch_id: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None


@dataclass(frozen=True)
class Left:
    """What is not repaired by itself, and what to do."""

    item_id: str
    kind: str
    what: str


@dataclass(frozen=True)
class Repair:
    """What was proposed, or `made`: `steps` on triggers, `changes` in all, by kind, of which the first are `shown`;
    `left` items are not repaired by themselves. `proof` is the verification that proves it; `failed` are checks that
    nothing of this mends."""

    made: bool
    steps: tuple[str, ...]
    changes: dict[str, int]
    shown: tuple[Change, ...]
    left_number: int
    left: tuple[Left, ...]
    proof: int | None
    failed: tuple[Check, ...]

    @property
    def proposed(self) -> bool:
        return bool(self.steps or self.changes)


@dataclass(frozen=True)
class Asked:
    """`accepted` and `kept` are the items whose drift is decided: written into the batches, or not."""

    actor: str
    make: bool = False
    accepted: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    lock_timeout_ms: int = 2_000


async def repair(engine: AsyncEngine, asked: Asked) -> Repair:
    """Shows what it would change, or changes it. Raises MigrationNotStarted, Outdated, NoDrift, NotRepaired, and
    what `explained` says."""
    async with explained(engine):
        steps = await _put_on(engine, asked)
        async for attempt in stamina.retry_context(on=_may_try_again, attempts=ATTEMPTS, timeout=None):
            with attempt:
                return await _transaction(engine, asked, steps)
    raise AssertionError  # the loop above returns or raises


def _may_try_again(error: Exception) -> bool:
    return is_lock_refused(error) or is_serialization_failure(error)


async def _put_on(engine: AsyncEngine, asked: Asked) -> tuple[str, ...]:
    """Tables of ours that lack something, functions that were altered, triggers that are off or gone."""
    async with one_snapshot(engine) as connection:
        phase = await read_phase(connection, None)
        if phase in ("NOT_STARTED", "ROLLED_BACK"):
            raise verify.MigrationNotStarted
        if await connection.scalar(select(func.to_regclass(ARCHIVE.fullname))) is None:
            raise Outdated
        steps = await _missing(connection)
    if steps and asked.make:
        async for attempt in stamina.retry_context(on=is_lock_refused, attempts=ATTEMPTS, timeout=None):
            with attempt:
                async with connecting(engine) as connection, connection.begin():
                    await connection.exec_driver_sql(f"SET LOCAL lock_timeout = {asked.lock_timeout_ms:d}")
                    for table in (tables.items, tables.stock_batches):
                        if await connection.scalar(select(func.to_regclass(table.fullname))) is not None:
                            await connection.exec_driver_sql(
                                f"LOCK TABLE {table.fullname} IN {WRITERS_WAIT} MODE NOWAIT"
                            )
                    for step in await _missing(connection):
                        await connection.exec_driver_sql(step.sql)
                    await audit.record(connection, "REPAIRED", asked.actor, put_on=[step.why for step in steps])
    return tuple(step.why for step in steps)


async def _missing(connection: AsyncConnection) -> list[Step]:
    there = await existing(connection)
    steps = [*tables_to_make(there), *functions_to_make(there.capture)]
    if await read_phase(connection, None) != "CONTRACTED":  # else there are no legacy columns to follow
        steps += triggers_to_put(there.capture, tables.items.fullname)
    steps += triggers_to_put(there.capture, tables.stock_batches.fullname)
    if await is_write_back_on(connection, await load_shape(connection)):
        steps += [step for step in write_back_to_put(there.capture) if step not in steps]
    return steps


async def _transaction(engine: AsyncEngine, asked: Asked, steps: tuple[str, ...]) -> Repair:
    async with one_snapshot(engine) as connection:
        await connection.exec_driver_sql(f"SET LOCAL lock_timeout = {asked.lock_timeout_ms:d}")
        if asked.make:  # one repair at a time, and its snapshot is of after the one before
            await connection.exec_driver_sql(f"LOCK TABLE {ARCHIVE.fullname} IN EXCLUSIVE MODE")
        await settle(connection)
        found = await _repair(connection, asked, steps)
        if not found.made:
            await connection.rollback()  # what was only looked at leaves nothing
        return found


async def _repair(connection: AsyncConnection, asked: Asked, steps: tuple[str, ...]) -> Repair:
    shape = await load_shape(connection)
    found = await _verified(connection, shape, asked.actor)
    report = found.id
    await _have_drift(connection, shape, (*asked.accepted, *asked.kept))
    if asked.make:
        await _lock_items(connection, report)
    proposals = Proposals(shape, report, asked.actor)
    for statement in proposals.all(asked.accepted, asked.kept):
        await connection.execute(statement)
    await _have_batches(connection, report, asked.accepted)
    changes = await _changes(connection, report)
    shown = await _shown(connection, report)
    if not (asked.make and changes):
        made = asked.make and bool(steps)
        number, left = await _left(connection, report, proposals)
        failed = () if (changes or steps) and not made else _unnamed(found)
        return Repair(made, steps, changes, shown, number, left, None, failed)
    await carry_out(connection, shape, report, asked.actor)
    shape = await load_shape(connection)
    proof = await _verified(connection, shape, asked.actor)
    if wrong := await _unproven(connection, report, proof.id):
        raise NotRepaired(f"the repair did not prove right: {wrong}; nothing was changed")
    await audit.record(
        connection,
        "REPAIRED",
        asked.actor,
        verification=report,
        proof=proof.id,
        changes=changes,
        items=sorted({change.item_id for change in shown}),
        accepted=list(asked.accepted),
        kept=list(asked.kept),
    )
    number, left = await _left(connection, proof.id, Proposals(shape, proof.id, asked.actor))
    return Repair(True, steps, changes, shown, number, left, proof.id, _unnamed(proof))


async def _verified(connection: AsyncConnection, shape: Shape, actor: str) -> verify.Verified:
    return await verify.compare(connection, shape, await verify.begin(connection, None, actor), None)


def _unnamed(found: verify.Verified) -> tuple[Check, ...]:
    return tuple(check for check in found.checks if not check.passed and check.name in UNNAMED)


async def _lock_items(connection: AsyncConnection, report: int) -> None:
    item = tables.items
    wanted = select(MISMATCH.c.item_id).where(MISMATCH.c.verification_id == report)
    locked = select(item.c.id).where(item.c.id.in_(wanted)).order_by(item.c.id).with_for_update(key_share=True)
    await connection.execute(select(func.count()).select_from(locked.cte("locked")))


async def _have_drift(connection: AsyncConnection, shape: Shape, items: Sequence[str]) -> None:
    write = drifted(shape, None).subquery("drift")
    readable = select(write.c.item_id).group_by(write.c.item_id).having(func.bool_and(write.c.operation == "UPDATE"))
    known = set((await connection.execute(readable.where(write.c.item_id.in_(list(items))))).scalars())
    if unknown := [item for item in items if item not in known]:
        raise NoDrift(
            f"item {unknown[0]!r} has no drift that can be decided so; `stockshift repair` names the items that have"
        )


async def _have_batches(connection: AsyncConnection, report: int, accepted: Sequence[str]) -> None:
    """Drift that no batch takes would be lost."""
    taken = set(await items_with(connection, report, "SET", kind="DRIFT"))
    if lost := [item for item in accepted if item not in taken]:
        raise NoDrift(
            f"item {lost[0]!r} has no batch that could take its drift; make one, or let it be with --keep-batches"
        )


async def _unproven(connection: AsyncConnection, report: int, proof: int) -> str | None:
    """Some of what is wrong after the repair and was not left as it was before; None: there is nothing."""
    was = MISMATCH.alias("was")
    same = and_(
        *[was.c[name] == MISMATCH.c[name] for name in ("item_id", "kind")],
        or_(was.c.kind.not_in(OF_A_BATCH), _batch_of(was) == _batch_of(MISMATCH)),
    )
    left = exists().where(was.c.verification_id == report, same, ~_is_repaired(was, report))
    becomes_drift = exists().where(
        change_of(report, "RECORD"),
        ARCHIVE.c.item_id == MISMATCH.c.item_id,
        and_(ARCHIVE.c.kind == "UNRECORDED_DRIFT", MISMATCH.c.kind == "DRIFT"),
    )
    wrong = (
        select(func.format("item %s is %s (%s)", MISMATCH.c.item_id, MISMATCH.c.kind, MISMATCH.c.cause))
        .where(MISMATCH.c.verification_id == proof, ~left, ~becomes_drift)
        .order_by(MISMATCH.c.position)
        .limit(5)
    )
    named = list((await connection.execute(wrong)).scalars())
    return ", ".join(named) or None


def _is_repaired(found: FromClause, report: int) -> ColumnElement[bool]:
    """A change is for it. A copy is for all that is wrong with an item that is none."""
    done = ARCHIVE.alias("done")
    of_a_batch = and_(done.c.batch_id == _batch_of(found), done.c.kind != "DRIFT")
    of_an_item = or_(done.c.kind == found.c.kind, done.c.act == "COPY")
    for_it = case((found.c.kind.in_(OF_A_BATCH), of_a_batch), else_=of_an_item)
    return exists().where(done.c.verification_id == report, done.c.item_id == found.c.item_id, for_it)


def _batch_of(found: FromClause) -> ColumnElement[str]:
    """That a finding of a kind OF_A_BATCH is about."""
    batch: ColumnElement[str] = found.c.evidence["new"]["batch"].astext
    return batch


async def _changes(connection: AsyncConnection, report: int) -> dict[str, int]:
    counted = (
        select(ARCHIVE.c.kind, func.count().label("number"))
        .where(ARCHIVE.c.verification_id == report)
        .group_by(ARCHIVE.c.kind)
        .order_by(ARCHIVE.c.kind)
    )
    return {row.kind: row.number for row in await connection.execute(counted)}


async def _shown(connection: AsyncConnection, report: int) -> tuple[Change, ...]:
    columns = [ARCHIVE.c[name] for name in ("item_id", "kind", "act", "batch_id", "before", "after")]
    query = select(*columns).where(ARCHIVE.c.verification_id == report).order_by(ARCHIVE.c.id).limit(SHOWN)
    return tuple(_change(row) for row in await connection.execute(query))


def _change(row: Row[Any]) -> Change:
    before, after = row.before, row.after
    if before is not None and after is not None:
        names = [name for name in after if before.get(name) != after[name]]
        before, after = ({name: side.get(name) for name in names} for side in (before, after))
    return Change(row.item_id, row.kind, row.act, row.batch_id, before, after)


async def _left(connection: AsyncConnection, report: int, proposals: Proposals) -> tuple[int, tuple[Left, ...]]:
    can = proposals.judged().subquery("can")
    what = case(
        *[
            (can.c.reason == reason, words.replace("migrate", "repair"))
            for reason, words in HELD_BACK.items()
            if reason != "UNKNOWN_BATCHES"
        ],
        else_=func.coalesce(MISMATCH.c.repair, ""),
    )
    rows: Select[str, str, str] = (
        select(MISMATCH.c.item_id, MISMATCH.c.kind, what)
        .outerjoin(can, and_(can.c.id == MISMATCH.c.item_id, MISMATCH.c.kind != "DRIFT"))
        .where(MISMATCH.c.verification_id == report, ~_is_repaired(MISMATCH, report))
        .order_by(MISMATCH.c.position)
    )
    number = await connection.scalar(select(func.count()).select_from(rows.subquery()))
    return number or 0, tuple(Left(*row) for row in await connection.execute(rows.limit(SHOWN)))
