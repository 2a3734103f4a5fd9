"""How far the migration is, counted now."""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import ColumnElement, exists, func, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from db.shape import ReadSource, load_shape
from migration.candidates import candidates

Phase = Literal["NOT_STARTED", "EXPANDED", "DUAL_RUN"]


@dataclass(frozen=True)
class Status:
    """`phase` and `read_source` are the database's. The items are those that exist now, perhaps of one company.

    `copied` ones have a ledger row; `held_back` ones cannot be copied as they stand, which `plan` explains.
    """

    phase: Phase
    read_source: ReadSource
    items: int
    copied: int
    held_back: int


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
                exists().select_from(ledger).label("begun"),
            )
        )
    ).one()
    phase: Phase = "DUAL_RUN" if row.begun else "EXPANDED" if shape.expanded else "NOT_STARTED"
    return Status(phase, shape.read_source, row.items, row.copied, row.held_back)
