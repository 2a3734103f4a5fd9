"""What explains that batches are no longer what was copied (R21), by kind, with examples.

A kind is the reason of movements, and NOT_YET_COPIED, HELD_BACK, NOTHING_TO_COPY and CUT_OVER of items. An example says
item, who, when, by what application, and what was there before (`old`) and after (`new`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Select, Text, and_, case, cast, func, literal, null, or_, select, true
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from db.shape import Shape
from migration.candidates import among_ids
from migration.comparison import APART, comparison
from migration.conservation import counts
from migration.mismatches import INSTANT, object_of

OF_ITEMS = (*APART, "NOTHING_TO_COPY", "CUT_OVER")
"""The outcomes of `comparison` that explain a difference by themselves."""


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


@dataclass(frozen=True)
class Explained:
    """So many `items` of one outcome, with so many `units` more in batches than in legacy columns; the ids of a few."""

    items: int
    units: int
    examples: tuple[str, ...]


async def explain_items(
    connection: AsyncConnection, shape: Shape, company: str | None, found: Mapping[str, Explained]
) -> Sequence[Explanation]:
    """`found` is by outcome. Who: whoever wrote the item last, of those that were not cut over."""
    ids = {item_id for one in found.values() for item_id in one.examples}
    if not ids:
        return []
    compared = comparison(shape, company, among_ids(sorted(ids))).subquery("compared")
    ledger, write = shape.relation(tables.copy_ledger, "ledger"), shape.relation(tables.legacy_write, "write")
    latest = select(write).where(write.c.item_id == compared.c.item_id).order_by(write.c.id.desc()).limit(1)
    last = latest.lateral("last")
    here = compared.c.outcome != "CUT_OVER"
    example = _example(
        item=compared.c.item_id,
        batch=cast(null(), Text),
        units=compared.c.explained,
        who=case((here, last.c.role)),
        at=case((here, last.c.at), else_=ledger.c.cut_over_at),
        application=case((here, last.c.application)),
        old=object_of({"quantity": compared.c.legacy}),
        new=object_of({"quantity": compared.c.batches}),
    )
    rows = await connection.execute(
        select(compared.c.outcome, example)
        .select_from(compared)
        .outerjoin(ledger, ledger.c.item_id == compared.c.item_id)
        .outerjoin(last, true())
        .order_by(compared.c.item_id)
    )
    examples: dict[str, list[Any]] = {kind: [] for kind in found}
    for kind, told in rows:
        examples[kind].append(told)
    return [Explanation(kind, one.items, one.units, examples[kind]) for kind, one in found.items() if one.items]


def _example(
    *,
    item: ColumnElement[Any],
    batch: ColumnElement[Any],
    units: ColumnElement[Any],
    who: ColumnElement[Any],
    at: ColumnElement[Any],
    application: ColumnElement[Any],
    old: ColumnElement[Any],
    new: ColumnElement[Any],
) -> ColumnElement[object]:
    when = func.to_char(func.timezone("UTC", at), literal(INSTANT, Text))
    return object_of(
        {
            "item": item,
            "batch": batch,
            "units": units,
            "who": who,
            "when": when,
            "application": application,
            "old": old,
            "new": new,
        }
    )


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
        .where(counts(shape, movement, ledger), true() if company is None else item.c.companyId == company)
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
    example = _example(
        item=movement.c.item_id,
        batch=movement.c.batch_id,
        units=movement.c.delta,
        who=func.coalesce(movement.c.actor, movement.c.role),
        at=movement.c.at,
        application=movement.c.application,
        old=followed.c.before,
        new=followed.c.after,
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
