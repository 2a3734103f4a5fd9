"""The sieve: one scan that proves most items right, so that only the rest is looked at closely.

An item is *plain* when nothing that a verification looks for can be wrong with it: copied and not cut over, its legacy
columns as they were copied (by the ledger's fingerprint), its opening batch equal to them, no batch copied twice, and
in its other batches the units that its movements brought since. The scan writes nothing, so PostgreSQL may run it in
parallel; and no row's JSON is read.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    Subquery,
    Table,
    and_,
    case,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    true,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from db.shape import Shape
from migration.candidates import Among, among_ids, everything, opening_values, status_text
from migration.fingerprint import fingerprint, legacy_hash, opening_hash, record_hash, text_hash

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
    """That it is `alone` is a guess, for it takes a scan to know: `proven` makes sure of it."""
    copied = await _count(connection, shape, tables.copy_ledger)
    batches = await _count(connection, shape, tables.stock_batches)
    return await _sift(connection, shape, company, alone=copied == batches)


async def proven(
    connection: AsyncConnection, shape: Shape, company: str | None, sifted: Sifted, items: int, batches: int
) -> Sifted:
    """Sifted anew if the guess was wrong. There are so many items and batches: a plain item has an opening batch of its
    own, so there is no other batch where plain items and the opening batches of the rest are as many."""
    if not sifted.alone:
        return sifted
    item, ledger = shape.relation(tables.items, "item"), shape.relation(tables.copy_ledger, "ledger")
    opening = shape.relation(tables.stock_batches, "opening")
    own = and_(opening.c.id == ledger.c.batch_id, opening.c.itemId == ledger.c.item_id)
    counted = (
        select(func.count(), func.count(opening.c.id))
        .select_from(item)
        .outerjoin(ledger, ledger.c.item_id == item.c.id)
        .outerjoin(opening, own)
        .where(sifted.rest(item.c.id), true() if company is None else item.c.companyId == company)
    )
    rest, openings = (0, 0) if sifted.clean else (await connection.execute(counted)).one()
    if items - rest + openings == batches:
        return sifted
    return await _sift(connection, shape, company, alone=False)


async def _sift(connection: AsyncConnection, shape: Shape, company: str | None, *, alone: bool) -> Sifted:
    rest = list((await connection.execute(_not_plain(shape, company, alone=alone))).scalars())
    if len(rest) > MOST:
        return Sifted(everything, plain=False, clean=False, alone=alone)
    return Sifted(among_ids(rest), plain=True, clean=not rest, alone=alone)


async def _count(connection: AsyncConnection, shape: Shape, table: Table) -> int:
    query = select(func.count()).select_from(shape.relation(table, "counted"))
    number: int = (await connection.execute(query)).scalar_one()
    return number


def _not_plain(shape: Shape, company: str | None, *, alone: bool) -> Select[str]:
    """Hashes are compared in place of values: before anything is joined, so that what is joined is narrow."""
    row, entry = shape.relation(tables.items, "item_row"), shape.relation(tables.copy_ledger, "ledger_row")
    batch = shape.relation(tables.stock_batches, "batch_row")
    defaulted = or_(row.c.quantityInStock.is_(None), row.c.freightCostUSD.is_(None))
    values = opening_values(row) | {"status": status_text(row, None)}
    becomes = case((defaulted, record_hash(values[name] for name in tables.COMPARED_COLUMNS)))
    of = true() if company is None else row.c.companyId == company
    item = _apart(
        select(row.c.id, legacy_hash(row).label("hashed"), becomes.label("becomes")).where(of),
        "item",
    )
    ledger = _apart(
        select(
            *[entry.c[name] for name in ("item_id", "batch_id", "copied_at", "cut_over_at", "fingerprint")],
            entry.c.choices.is_(None).label("unchosen"),
            text_hash(entry.c.original).label("kept"),
        ),
        "ledger",
    )
    opening = _apart(select(batch.c.id, batch.c.itemId, opening_hash(batch).label("hashed")), "opening")
    other, moved = _others(shape), _moved(shape)
    copied = (
        select(item.c.id)
        .select_from(item)
        .outerjoin(ledger, ledger.c.item_id == item.c.id)
        .outerjoin(opening, and_(opening.c.id == ledger.c.batch_id, opening.c.itemId == item.c.id))
        .outerjoin(moved, moved.c.item_id == item.c.id)
    )
    came: ColumnElement[int] = func.coalesce(moved.c.delta, 0)
    plain = [
        fingerprint(item.c.hashed, ledger.c.kept) == ledger.c.fingerprint,
        ledger.c.cut_over_at.is_(None),
        ledger.c.unchosen,
        opening.c.hashed == func.coalesce(item.c.becomes, item.c.hashed),
        or_(moved.c.first.is_(None), and_(moved.c.first >= ledger.c.copied_at, moved.c.placed)),
    ]
    if alone:
        return copied.where(and_(*plain, came == 0).is_not(true()))
    plain += [func.coalesce(other.c.quantity, 0) == came, not_(func.coalesce(other.c.twice, false()))]
    return copied.outerjoin(other, other.c.itemId == item.c.id).where(and_(*plain).is_not(true()))


def _apart(query: Select[*tuple[Any, ...]], name: str) -> Subquery:
    """Each value once a row, before it is joined to anything; in parallel too, which OFFSET 0 would prevent: what has a
    WITH clause, though nothing reads it, is not merged into the rest."""
    return query.add_cte(select(literal(1)).cte(f"{name}_apart"), nest_here=True).subquery(name)


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
