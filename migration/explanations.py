"""What explains that batches are no longer what was copied (R21), by kind, with examples.

A kind is the reason of movements, and NOT_YET_COPIED, HELD_BACK, NOTHING_TO_COPY and CUT_OVER of items. An example says
item, who, when, by what application, and what was there before (`old`) and after (`new`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Select, Text, and_, cast, func, literal, or_, select, true
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from db.shape import Shape
from migration.mismatches import INSTANT


@dataclass(frozen=True)
class Explanation:
    """`units` are those that came, less those that went."""

    kind: str
    items: int
    units: int
    examples: list[Any]


async def explain_movements(connection: AsyncConnection, shape: Shape, company: str | None) -> Sequence[Explanation]:
    """Since the items were copied."""
    rows = await connection.execute(_by_reason(shape, company))
    return [Explanation(row.kind, row.items, row.units, row.examples) for row in rows]


def _by_reason(shape: Shape, company: str | None) -> Select[*tuple[object, ...]]:
    """The examples are the first and the latest movement of each reason."""
    item, ledger = shape.relation(tables.items, "item"), shape.relation(tables.copy_ledger, "ledger")
    movement, write = shape.relation(tables.movement, "movement"), shape.relation(tables.legacy_write, "write")
    by_item = (
        select(
            movement.c.reason,
            movement.c.item_id,
            func.sum(movement.c.delta).label("units"),
            func.min(movement.c.id).label("first"),
            func.max(movement.c.id).label("latest"),
        )
        .join(ledger, ledger.c.item_id == movement.c.item_id)
        .join(item, item.c.id == movement.c.item_id)
        .where(movement.c.at >= ledger.c.copied_at, true() if company is None else item.c.companyId == company)
        .group_by(movement.c.reason, movement.c.item_id)
        .subquery("by_item")
    )
    by_reason = (
        select(
            by_item.c.reason,
            func.count().label("items"),
            cast(func.sum(by_item.c.units), BigInteger).label("units"),
            func.min(by_item.c.first).label("first"),
            func.max(by_item.c.latest).label("latest"),
        )
        .group_by(by_item.c.reason)
        .cte("by_reason")
    )
    # What a movement followed is written in the same transaction, right behind it.
    followed = (
        select(write.c.before, write.c.after)
        .where(
            movement.c.reason == "LEGACY_WRITE",
            write.c.item_id == movement.c.item_id,
            write.c.at >= movement.c.at,
        )
        .order_by(write.c.id)
        .limit(1)
        .lateral("followed")
    )
    example = func.jsonb_build_object(
        *[literal("item", Text), movement.c.item_id],
        *[literal("batch", Text), movement.c.batch_id],
        *[literal("units", Text), movement.c.delta],
        *[literal("who", Text), func.coalesce(movement.c.actor, movement.c.role)],
        *[literal("when", Text), func.to_char(func.timezone("UTC", movement.c.at), literal(INSTANT, Text))],
        *[literal("application", Text), movement.c.application],
        *[literal("old", Text), followed.c.before],
        *[literal("new", Text), followed.c.after],
    )
    return (
        select(
            by_reason.c.reason.label("kind"),
            by_reason.c["items"],
            by_reason.c.units,
            func.jsonb_agg(example, type_=JSONB).label("examples"),
        )
        .select_from(by_reason)
        .join(
            movement,
            and_(
                movement.c.reason == by_reason.c.reason,
                or_(movement.c.id == by_reason.c.first, movement.c.id == by_reason.c.latest),
            ),
        )
        .outerjoin(followed, true())
        .group_by(by_reason.c.reason, by_reason.c["items"], by_reason.c.units)
        .order_by(by_reason.c.reason)
    )
