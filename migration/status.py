"""How far the migration is, counted now."""

from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy import ColumnElement, FromClause, Select, and_, exists, func, or_, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from db.shape import ReadSource, Shape, load_shape
from migration.archive import latest_archive
from migration.candidates import candidates, differing
from migration.checks import drifted
from migration.run import Run, latest_run
from migration.written_back import is_write_back_on

Phase = Literal["NOT_STARTED", "EXPANDED", "COPYING", "DUAL_RUN", "CUT_OVER", "CONTRACTED", "ROLLED_BACK"]


@dataclass(frozen=True)
class Status:
    """`phase`, `read_source` and `write_back` are the database's. The items are those there are, or one company's.

    `copied` ones have a ledger row; `held_back` ones cannot be copied as they stand, which `plan` explains; `cut_over`
    ones are answered for by their batches alone; `drifted` ones had a legacy column written that their opening batch
    did not take, and still lacks. `run` is the latest, as `run_for` a company.
    """

    phase: Phase
    read_source: ReadSource
    write_back: bool
    items: int
    copied: int
    held_back: int
    cut_over: int
    drifted: int
    run: Run | None


async def read_status(connection: AsyncConnection, company: str | None) -> Status:
    """The items of one company, or of all."""
    shape = await load_shape(connection)
    item = shape.relation(tables.items, "item")
    ledger = shape.relation(tables.copy_ledger, "copied")
    mine: ColumnElement[bool] = true() if company is None else item.c.companyId == company
    stuck = candidates(shape, item).where(mine).subquery("candidate")
    row = (
        await connection.execute(
            select(
                select(func.count()).select_from(item).where(mine).scalar_subquery().label("items"),
                select(func.count())
                .select_from(item)
                .where(mine, exists().where(ledger.c.item_id == item.c.id))
                .scalar_subquery()
                .label("copied"),
                select(func.count())
                .select_from(stuck)
                .where(stuck.c.reason.is_not(None))
                .scalar_subquery()
                .label("held_back"),
                select(func.count())
                .select_from(item.join(ledger, ledger.c.item_id == item.c.id))
                .where(mine, ledger.c.cut_over_at.is_not(None))
                .scalar_subquery()
                .label("cut_over"),
                select(func.count())
                .select_from(_drifted(shape, item).where(mine).subquery("drift"))
                .scalar_subquery()
                .label("drifted"),
            )
        )
    ).one()
    run = await latest_run(connection)
    phase = await read_phase(connection, run)
    seen = run if run is None or company is None else await run_for(connection, run, company)
    write_back = await is_write_back_on(connection, shape)
    return Status(
        phase, shape.read_source, write_back, row.items, row.copied, row.held_back, row.cut_over, row.drifted, seen
    )


def _drifted(shape: Shape, item: FromClause) -> Select[str]:
    """Items with a write since their copy that was not followed and still differ; of those cut over, with drift.

    Only these few are compared: what is followed is equal, and what else went wrong is for a verification to find.
    """
    ledger = shape.relation(tables.copy_ledger, "entry")
    write = shape.relation(tables.legacy_write, "write")
    opening = shape.relation(tables.stock_batches, "opening")
    drift = drifted(shape, None).subquery("drift")
    unfollowed = (
        select(ledger.c.item_id, ledger.c.batch_id, ledger.c.choices, ledger.c.cut_over_at)
        .where(
            exists().where(write.c.item_id == ledger.c.item_id, ~write.c.followed, write.c.at > ledger.c.copied_at),
            or_(ledger.c.cut_over_at.is_(None), ledger.c.item_id.in_(select(drift.c.item_id))),
        )
        .subquery("unfollowed")
    )
    return (
        select(item.c.id)
        .join(unfollowed, unfollowed.c.item_id == item.c.id)
        .outerjoin(opening, and_(opening.c.id == unfollowed.c.batch_id, opening.c.itemId == item.c.id))
        .where(or_(unfollowed.c.cut_over_at.is_not(None), *differing(opening, item, unfollowed.c.choices).values()))
    )


async def read_phase(connection: AsyncConnection, run: Run | None) -> Phase:
    """The database's, given its latest run; nothing is counted."""
    shape = await load_shape(connection)
    if not shape.expanded:
        return "NOT_STARTED"
    if not shape.columns.get(tables.copy_ledger.fullname) and await latest_archive(connection, "ROLLBACK"):
        return "ROLLED_BACK"
    if not shape.has_legacy_columns and await latest_archive(connection, "CONTRACT"):
        return "CONTRACTED"
    if run is not None and run.kind == "online" and run.unfinished:
        return "COPYING"
    ledger = shape.relation(tables.copy_ledger, "copied")
    item = shape.relation(tables.items, "item")
    left = exists().where(ledger.c.cut_over_at.is_(None), ledger.c.item_id == item.c.id)
    # That none is left says little where the shop has deleted them all.
    some = exists().where(ledger.c.cut_over_at.is_not(None), ledger.c.item_id == item.c.id)
    row = (
        await connection.execute(select(exists().select_from(ledger).label("begun"), and_(some, ~left).label("done")))
    ).one()
    if not row.begun:
        return "EXPANDED"
    return "CUT_OVER" if row.done else "DUAL_RUN"


async def run_for(connection: AsyncConnection, run: Run, company: str) -> Run:
    """The run as one company may see it: its own items are counted; what would tell of others' is None."""
    shape = await load_shape(connection)
    item = shape.relation(tables.items, "item")
    ledger = shape.relation(tables.copy_ledger, "copied")
    mine = item.c.companyId == company
    stuck = candidates(shape, item).where(mine).subquery("candidate")
    counted = (
        await connection.execute(
            select(
                select(func.count()).select_from(item).where(mine).scalar_subquery().label("total"),
                select(func.count())
                .select_from(item.join(ledger, ledger.c.item_id == item.c.id))
                .where(mine, ledger.c.run_id == run.id)
                .scalar_subquery()
                .label("copied"),
                select(func.count())
                .select_from(stuck)
                .where(stuck.c.reason.is_not(None))
                .scalar_subquery()
                .label("held_back"),
            )
        )
    ).one()
    return replace(
        run,
        items_total=counted.total,
        items_copied=counted.copied,
        items_held_back=counted.held_back,
        rate=None,
        waiting=None,
        error=None,
    )
