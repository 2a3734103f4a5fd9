"""Making what a repair has written down: each row of `repair_archive` of a report is a change, by its act."""

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Text,
    and_,
    cast,
    column,
    delete,
    func,
    insert,
    literal,
    select,
    text,
    true,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from db.shape import Shape
from migration.candidates import among_ids
from migration.checks import drifted
from migration.copy import because, copy_items
from migration.unmoved import MOVED
from migration.written_back import write_back_of

ARCHIVE = tables.repair_archive


def change_of(report: int, *acts: str) -> ColumnElement[bool]:
    """Rows of the archive."""
    return and_(ARCHIVE.c.verification_id == report, ARCHIVE.c.act.in_(acts))


async def carry_out(connection: AsyncConnection, shape: Shape, report: int, actor: str) -> None:
    """In a transaction that has locked the items."""
    batch = tables.stock_batches
    await because(connection, "REPAIRED", actor)
    gone = select(ARCHIVE.c.batch_id).where(change_of(report, "REMOVE"))
    await connection.execute(delete(batch).where(batch.c.id.in_(gone)))
    new = _as_batches(change_of(report, "SET"))
    await connection.execute(
        update(batch)
        .where(batch.c.id == new.c.batch_id)
        .values({column.name: new.c[column.name] for column in batch.columns if column.name != "id"})
    )
    back = _as_batches(change_of(report, "PUT_BACK"))
    names = [column.name for column in batch.columns]
    await connection.execute(insert(batch).from_select(names, select(*[back.c[name] for name in names])))
    await _record_movements(connection, report, actor)
    await _record_writes(connection, report)
    await _settle_drift(connection, shape, report)
    if flagged := await items_with(connection, report, "FLAG"):
        flag = text('UPDATE public.items SET "useBatchSystem" = false WHERE id = ANY(:ids)')
        await connection.execute(flag, {"ids": flagged})
    await write_back_of(connection, await items_with(connection, report, "WRITE_BACK", "SETTLE"))
    if copied := await items_with(connection, report, "COPY"):
        await copy_items(connection, shape, run=None, among=among_ids(copied))


def _as_batches(condition: ColumnElement[bool]) -> FromClause:
    """The batches of archive rows as they are to be, with their `batch_id`."""
    columns = [column(each.name, each.type) for each in tables.stock_batches.columns]
    populated = func.jsonb_populate_record(text("NULL::public.stock_batches"), ARCHIVE.c.after)
    row = populated.table_valued(*columns, name="row")
    values = [row.c[each.name] for each in tables.stock_batches.columns]
    return (
        select(ARCHIVE.c.batch_id, *values).select_from(ARCHIVE).join(row, true()).where(condition).subquery("becomes")
    )


async def _record_movements(connection: AsyncConnection, report: int, actor: str) -> None:
    movement = tables.movement
    rows = select(
        ARCHIVE.c.batch_id,
        ARCHIVE.c.item_id,
        *[cast(ARCHIVE.c.after[name].astext, movement.c[name].type) for name in MOVED],
        literal("REPAIRED", Text),
        literal(actor, Text),
        func.current_setting("application_name"),
        text("session_user"),
    ).where(change_of(report, "MOVE"))
    names = ["batch_id", "item_id", *MOVED, "reason", "actor", "application", "role"]
    await connection.execute(insert(movement).from_select(names, rows))


async def _record_writes(connection: AsyncConnection, report: int) -> None:
    """Whoever wrote is not known: application and role are ours, who wrote it down."""
    rows = select(
        ARCHIVE.c.item_id,
        literal("UPDATE", Text),
        ARCHIVE.c.kind != "UNRECORDED_DRIFT",
        ARCHIVE.c.before,
        ARCHIVE.c.after,
        func.current_setting("application_name"),
        text("session_user"),
    ).where(change_of(report, "RECORD"))
    names = ["item_id", "operation", "followed", "before", "after", "application", "role"]
    await connection.execute(insert(tables.legacy_write).from_select(names, rows))


async def _settle_drift(connection: AsyncConnection, shape: Shape, report: int) -> None:
    write = tables.legacy_write
    drift = drifted(shape, None).subquery("drift")
    await connection.execute(
        update(write)
        .where(write.c.id == drift.c.id, write.c.item_id == drift.c.item_id)
        .where(ARCHIVE.c.item_id == write.c.item_id, change_of(report, "SETTLE"))
        .values(settled=ARCHIVE.c.after["settled"].astext)
    )


async def items_with(connection: AsyncConnection, report: int, *acts: str, kind: str | None = None) -> list[str]:
    """Items of such changes, for mismatches of a kind, or of all."""
    of_kind = true() if kind is None else ARCHIVE.c.kind == kind
    return list(
        (await connection.execute(select(ARCHIVE.c.item_id).where(change_of(report, *acts), of_kind))).scalars()
    )
