"""Copying: opening batches out of items, and the ledger row that makes it happen once (R6, R14, R17, R18).

The ledger's primary key is what makes a copy idempotent: a batch is inserted only for a ledger row that this very
statement inserted. The item's row is read, never written.
"""

from dataclasses import dataclass

from sqlalchemy import FromClause, Select, Text, cast, func, insert, literal, null, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from db.errors import StockshiftError
from db.shape import Shape
from migration.candidates import HELD_BACK, candidates, everything, judged, opening_values


class ItemHeldBack(StockshiftError):
    """The item cannot be copied as it stands; `stockshift plan` says why."""

    def __init__(self, item_id: str, reason: str) -> None:
        self.reason = reason
        super().__init__(f"item {item_id!r} cannot be copied to batches: {HELD_BACK[reason]}")


@dataclass(frozen=True)
class Copied:
    """What one copy statement did, in items: `adopted` of the copied ones had their batch already.

    `last_id` is the last item looked at, None when there was none left.
    """

    copied: int
    adopted: int
    held_back: int
    last_id: str | None


def copy_statement(
    item: FromClause, chosen: Select[str, str | None, str | None], run: int | None
) -> Select[int, int, int, str | None]:
    """Copies the items of `chosen` whose reason is NULL; answers the columns of `Copied`."""
    choice = chosen.cte("choice")
    source = tables.items.alias("source")
    entry = (
        postgresql.insert(tables.copy_ledger)
        .from_select(
            ["item_id", "batch_id", "run_id", "adopted", "original"],
            select(
                source.c.id,
                func.coalesce(choice.c.adopt, cast(func.gen_random_uuid(), Text)),
                literal(run, tables.copy_ledger.c.run_id.type),
                choice.c.adopt.is_not(null()),
                func.row_to_json(text("source")),
            )
            .join(choice, choice.c.id == source.c.id)
            .where(choice.c.reason.is_(null())),
        )
        .on_conflict_do_nothing()
        .returning(tables.copy_ledger.c.item_id, tables.copy_ledger.c.batch_id, tables.copy_ledger.c.adopted)
        .cte("entry")
    )
    values = opening_values(item)
    opening = (
        insert(tables.stock_batches)
        .from_select(
            ["id", "itemId", *values],
            select(entry.c.batch_id, item.c.id, *values.values())
            .join(item, item.c.id == entry.c.item_id)
            .where(~entry.c.adopted),
        )
        .cte("opening")
    )
    return select(
        select(func.count()).select_from(entry).scalar_subquery(),
        select(func.count()).select_from(entry).where(entry.c.adopted).scalar_subquery(),
        select(func.count()).select_from(choice).where(choice.c.reason.is_not(null())).scalar_subquery(),
        select(func.max(choice.c.id)).scalar_subquery(),
    ).add_cte(opening)


async def copy_chunk(
    connection: AsyncConnection, shape: Shape, *, run: int | None, after: str | None, size: int
) -> Copied:
    """Copies the next `size` items behind item `after`, in the order of the database's own text keys."""
    item = shape.relation(tables.items, "item")
    among = everything if after is None else lambda item_id: item_id > after
    chosen = candidates(shape, item, among).order_by(item.c.id).limit(size)
    return Copied(*(await connection.execute(copy_statement(item, chosen, run))).one())


async def copy_item(connection: AsyncConnection, shape: Shape, item_id: str) -> None:
    """Copies one item, whose row the caller has locked. Raises ItemHeldBack when it cannot be."""
    item = shape.relation(tables.items, "item")
    chosen = judged(shape, item, lambda column: column == item_id)
    why = (await connection.execute(chosen)).one().reason
    if why is not None:
        raise ItemHeldBack(item_id, why)
    await connection.execute(copy_statement(item, chosen, None))
