"""The movements that an item lacks: with these, what was copied and what moved since is what is there."""

from decimal import Decimal

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Double,
    FromClause,
    Numeric,
    Text,
    case,
    cast,
    func,
    null,
    or_,
    select,
    union_all,
)

from db import tables
from db.shape import Shape
from migration.conservation import LARGEST, counts

MOVED = ("delta", "status", "location_id", "unit_cost", "freight")
"""The columns of a movement that say what moved."""


def unmoved(shape: Shape, items: FromClause) -> FromClause:
    """The movements that these items lack, by the columns MOVED: with what was copied and what moved since they sum
    up to what is there. `total` units of the item; `placed`: the status of each is known."""
    ledger, movement = shape.relation(tables.copy_ledger, "ledger"), shape.relation(tables.movement, "movement")
    batch = shape.relation(tables.stock_batches, "batch")
    mine = select(items.c.item_id)

    def kept(name: str) -> ColumnElement[str]:
        return func.json_extract_path_text(ledger.c.original, tables.OPENING_COLUMNS[name])

    copied = select(
        ledger.c.item_id,
        func.coalesce(kept("status"), ledger.c.choices["status"].astext).label("status"),
        kept("locationId").label("location_id"),
        cast(func.coalesce(kept("costPerUnitUSD"), ledger.c.choices["costPerUnitUSD"].astext), Double).label(
            "unit_cost"
        ),
        (-func.coalesce(cast(kept("quantity"), BigInteger), 0)).label("units"),
        (-_usd(cast(kept("freightCostUSD"), Double))).label("freight"),
    ).where(ledger.c.item_id.in_(mine))
    moved = (
        select(
            movement.c.item_id,
            movement.c.status,
            movement.c.location_id,
            movement.c.unit_cost,
            -movement.c.delta,
            -_usd(movement.c.freight),
        )
        .join(ledger, ledger.c.item_id == movement.c.item_id)
        .where(ledger.c.item_id.in_(mine), counts(shape, movement, ledger))
    )
    there = select(
        batch.c.itemId,
        cast(batch.c.status, Text),
        batch.c.locationId,
        batch.c.costPerUnitUSD,
        cast(batch.c.quantity, BigInteger),
        _usd(batch.c.freightCostUSD),
    ).where(batch.c.itemId.in_(mine))
    each = union_all(copied, moved, there).subquery("each")
    units, freight = func.sum(each.c.units), func.sum(each.c.freight)
    at = [each.c.item_id, each.c.status, each.c.location_id, each.c.unit_cost]
    line = (
        select(*at, units.label("delta"), freight.label("freight"))
        .group_by(*at)
        .having(or_(units != 0, freight != 0))
        .subquery("line")
    )
    return select(
        line,
        func.sum(line.c.delta).over(partition_by=line.c.item_id).label("total"),
        func.bool_and(line.c.status.is_not(null())).over(partition_by=line.c.item_id).label("placed"),
    ).subquery("unmoved")


def _usd(amount: ColumnElement[float]) -> ColumnElement[Decimal]:
    """As conservation counts it."""
    return case((func.abs(amount) <= LARGEST, cast(amount, Numeric)), else_=0)
