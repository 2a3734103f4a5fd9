"""The sieve: one scan that proves most items right, so that only the rest is looked at closely.

An item is *plain* when nothing that a verification looks for can be wrong with it: copied and not cut over, its legacy
columns as they were copied (by the ledger's fingerprint), its opening batch equal to them, no batch copied twice, and
in its other batches the units that its movements brought since. The scan writes nothing, so PostgreSQL may run it in
parallel; and no row's JSON is read.
"""

from dataclasses import dataclass

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    Subquery,
    and_,
    false,
    func,
    not_,
    or_,
    select,
    true,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from db.shape import Shape
from migration.candidates import Among, among_ids, differing, everything
from migration.fingerprint import fingerprint, legacy_hash

MOST = 200_000
"""So many items are looked at by their ids at most; of more, all are, in scans of their own."""


@dataclass(frozen=True)
class Sifted:
    """`rest` are the items of which nothing is proven: all, when `plain` is false. `clean`: there are none.

    `alone`: there is no batch but opening ones.
    """

    rest: Among
    plain: bool
    clean: bool
    alone: bool


async def sift(connection: AsyncConnection, shape: Shape, company: str | None) -> Sifted:
    # Counted, not looked for with EXISTS, and no LIMIT: with these the planner hopes to find some soon.
    alone = (await connection.execute(select(func.count()).select_from(others(shape)))).scalar_one() == 0
    rest = list((await connection.execute(_not_plain(shape, company, alone=alone))).scalars())
    if len(rest) > MOST:
        return Sifted(everything, plain=False, clean=False, alone=alone)
    return Sifted(among_ids(rest), plain=True, clean=not rest, alone=alone)


def _not_plain(shape: Shape, company: str | None, *, alone: bool) -> Select[str]:
    item = shape.relation(tables.items, "item")
    ledger = shape.relation(tables.copy_ledger, "ledger")
    opening = shape.relation(tables.stock_batches, "opening")
    other, moved = _others(shape), _moved(shape)
    copied = (
        select(item.c.id)
        .select_from(item)
        .outerjoin(ledger, ledger.c.item_id == item.c.id)
        .outerjoin(opening, and_(opening.c.id == ledger.c.batch_id, opening.c.itemId == item.c.id))
        .outerjoin(moved, moved.c.item_id == item.c.id)
        .where(true() if company is None else item.c.companyId == company)
    )
    came: ColumnElement[int] = func.coalesce(moved.c.delta, 0)
    plain = [
        fingerprint(legacy_hash(item), ledger.c.original) == ledger.c.fingerprint,
        ledger.c.cut_over_at.is_(None),
        opening.c.id.is_not(None),
        *[not_(differs) for differs in differing(opening, item, ledger.c.choices).values()],
        or_(moved.c.first.is_(None), and_(moved.c.first >= ledger.c.copied_at, moved.c.placed)),
    ]
    if alone:
        return copied.where(and_(*plain, came == 0).is_not(true()))
    plain += [func.coalesce(other.c.quantity, 0) == came, not_(func.coalesce(other.c.twice, false()))]
    return copied.outerjoin(other, other.c.itemId == item.c.id).where(and_(*plain).is_not(true()))


def others(shape: Shape) -> FromClause:
    """Batches that are no item's own opening batch; `unknown`: the ledger does not know them at all."""
    batch = shape.relation(tables.stock_batches, "other")
    known = shape.relation(tables.copy_ledger, "known")
    return (
        select(batch, known.c.batch_id.is_(None).label("unknown"))
        .outerjoin(known, known.c.batch_id == batch.c.id)
        .where(known.c.item_id.is_distinct_from(batch.c.itemId))
        .subquery("others")
    )


def _others(shape: Shape) -> Subquery:
    """By item: units beside its opening batch, and whether one of these batches is a copy of it (`twice`)."""
    other = others(shape)
    source = shape.relation(tables.items, "source")
    return (
        select(
            other.c.itemId,
            func.sum(other.c.quantity).label("quantity"),
            func.bool_or(and_(other.c.unknown, other.c.createdAt == source.c.createdAt)).label("twice"),
        )
        .join(source, source.c.id == other.c.itemId)
        .group_by(other.c.itemId)
        .subquery("stock")
    )


def _moved(shape: Shape) -> Subquery:
    movement = shape.relation(tables.movement, "movement")
    return (
        select(
            movement.c.item_id,
            func.sum(movement.c.delta).label("delta"),
            func.min(movement.c.at).label("first"),
            func.bool_and(movement.c.status.is_not(None)).label("placed"),
        )
        .group_by(movement.c.item_id)
        .subquery("moved")
    )
