"""What there is of write-back (R10): whether it is on, whether its triggers are, and what it has not written."""

from typing import Any

from sqlalchemy import Select, Text, and_, cast, exists, func, literal, literal_column, null, or_, select, text, true
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from db.shape import Shape
from migration.capture import WRITE_BACK_TRIGGERS, Captured

WRITE_BACK = text("SELECT stockshift.write_back(CAST(:ids AS text[]))")
BATCHES = tables.stock_batches.fullname


async def is_write_back_on(connection: AsyncConnection, shape: Shape) -> bool:
    if not shape.has_columns(tables.setting, [tables.setting.c.write_back.name]):
        return False
    return bool(await connection.scalar(select(tables.setting.c.write_back)))


async def write_back_of(connection: AsyncConnection, ids: list[str]) -> None:
    """Brings items that the caller has locked up to date, if write-back is on and they are cut over."""
    on = select(tables.setting.c.write_back)
    if ids and await connection.scalar(on):
        await connection.execute(WRITE_BACK, {"ids": ids})


def missing_write_back(there: Captured, *, on: bool) -> list[str]:
    """What write-back needs and is not there, or is not enabled, each as words; nothing while it is off."""
    needed = WRITE_BACK_TRIGGERS.keys() - (there.triggers & there.enabled) if on else ()
    return [f"trigger {name} on {BATCHES} is missing or disabled" for name in sorted(needed)]


def write_back_wrong(shape: Shape, company: str | None) -> Select[*tuple[Any, ...]]:
    """The items whose legacy columns are not what their batches say, although write-back is on, each `named`, with what
    they ought to be: `quantity`, `status` and `place`.

    Not those that somebody else has written since their cut-over: that is drift. Nothing is looked at while it is off.
    """
    item = shape.relation(tables.items, "item")
    ledger = shape.relation(tables.copy_ledger, "ledger")
    batch = shape.relation(tables.stock_batches, "batch")
    write = shape.relation(tables.legacy_write, "write")
    setting = shape.relation(tables.setting, "setting")
    first = (batch.c.quantity.desc(), batch.c.createdAt, batch.c.id)
    stock = (
        select(
            batch.c.itemId,
            func.sum(batch.c.quantity).label("quantity"),
            func.array_agg(aggregate_order_by(cast(batch.c.status, Text), *first), type_=ARRAY(Text)).label("statuses"),
            func.array_agg(aggregate_order_by(batch.c.locationId, *first), type_=ARRAY(Text)).label("places"),
        )
        .group_by(batch.c.itemId)
        .subquery("stock")
    )
    units = func.coalesce(stock.c.quantity, 0)
    differs = or_(
        item.c.quantityInStock.is_distinct_from(units),
        and_(
            stock.c.itemId.is_not(null()),
            or_(
                cast(item.c.status, Text).is_distinct_from(stock.c.statuses[1]),
                item.c.locationId.is_distinct_from(stock.c.places[1]),
            ),
        ),
    )
    named = func.format(
        "item %s: %s, %s, %s in the legacy columns; %s, %s, %s in the batches",
        item.c.id,
        item.c.quantityInStock,
        item.c.status,
        item.c.locationId,
        units,
        stock.c.statuses[1],
        stock.c.places[1],
    )
    drift = exists().where(
        write.c.item_id == item.c.id, write.c.at >= ledger.c.cut_over_at, ~write.c.followed, write.c.settled.is_(null())
    )
    return (
        select(
            named.label("named"),
            item.c.id.label("item_id"),
            units.label("quantity"),
            stock.c.statuses[1].label("status"),
            stock.c.places[1].label("place"),
        )
        .select_from(ledger)
        .join(item, item.c.id == ledger.c.item_id)
        .outerjoin(stock, stock.c.itemId == item.c.id)
        .where(
            exists(select(literal_column("1")).select_from(setting).where(setting.c.write_back)),
            ledger.c.cut_over_at.is_not(null()),
            differs,
            ~drift,
            true() if company is None else item.c.companyId == literal(company, Text),
        )
    )
