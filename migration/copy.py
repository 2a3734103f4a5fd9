"""Copying: opening batches out of items, and the ledger row that makes it happen once (R6, R14, R17, R18).

The ledger's primary key is what makes a copy idempotent: a batch is inserted only for a ledger row that this very
statement inserted. An item's row is read, never written, but locked until the copy is committed: a writer waits that
long, and its trigger then sees the copy. A row that a writer has locked is skipped, to be looked at again later; so
the copy waits for nobody while it has locks.
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, Table, Text, all_, cast, exists, func, insert, literal, null, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from db.errors import StockshiftError
from db.shape import Shape
from migration.candidates import HELD_BACK, Among, candidates, everything, judged, opening_values, status_text
from migration.choices import Chosen, taken
from migration.fingerprint import fingerprint, legacy_hash, text_hash

ITEM = tables.items.alias("item")
"""The row itself, not what a shape makes of it: it is locked, and kept whole."""
BECAUSE = text(
    "SELECT set_config('stockshift.reason', :reason, true), set_config('stockshift.actor', coalesce(:actor, ''), true)"
)
# A random UUID that begins so is one of version 7 (RFC 9562). Those of a chunk are neighbours in the indexes on them;
# at random, a chunk writes to every page of an index that no longer fits in memory.
UUID_NOW = text(
    "(SELECT left(now.hex, 8) || '-' || right(now.hex, 4) || '-7' FROM (SELECT lpad(to_hex((extract(epoch FROM"
    " statement_timestamp()) * 1000)::bigint), 12, '0') AS hex) AS now)"
)
BASELINE = "COPY"
"""The reason of what is no movement: it is what the movements begin from."""


class ItemHeldBack(StockshiftError):
    """The item cannot be copied as it stands; `stockshift plan` says why."""

    def __init__(self, item_id: str, reason: str) -> None:
        self.reason = reason
        super().__init__(f"item {item_id!r} cannot be copied to batches: {HELD_BACK[reason]}")


@dataclass(frozen=True)
class Copied:
    """What one copy statement did, in items: `adopted` of the copied ones had their batch already."""

    copied: int
    adopted: int
    held_back: int


async def because(connection: AsyncConnection, reason: str, actor: str | None = None) -> None:
    """Says, until the transaction ends, why its batches' quantities change and who wants it, for their movements."""
    await connection.execute(BECAUSE, {"reason": reason, "actor": actor})


def copy_statement(
    chosen_items: Select[str, str | None, str | None],
    run: int | None,
    chosen: Chosen = None,
    *,
    table_locked: bool = False,
) -> Select[int, int, int]:
    """Copies the items of `chosen_items`, a selection from ITEM, whose reason is NULL; answers the columns of `Copied`.

    Everything comes from the row as it was locked, which may be newer than the statement's snapshot. `table_locked`:
    nobody can write any item, so none need be locked, and none is skipped.
    """
    # A status is of its type once it is known to be of one: not where rows that are held back are looked at too.
    values = opening_values(ITEM, chosen) | {"status": status_text(ITEM, chosen)}
    rows = chosen_items.add_columns(
        func.overlay(cast(func.gen_random_uuid(), Text), UUID_NOW, 1, 15).label("made"),
        func.row_to_json(text("item")).label("original"),
        taken(ITEM, chosen).label("choices"),
        legacy_hash(ITEM).label("hashed"),
        *[value.label(f"opening_{name}") for name, value in values.items()],
    )
    locked = rows if table_locked else rows.with_for_update(key_share=True, skip_locked=True, of=ITEM)
    choice = locked.cte("choice")
    entry = (
        postgresql.insert(tables.copy_ledger)
        .from_select(
            ["item_id", "batch_id", "run_id", "adopted", "original", "choices", "fingerprint"],
            select(
                choice.c.id,
                func.coalesce(choice.c.adopt, choice.c.made),
                literal(run, tables.copy_ledger.c.run_id.type),
                choice.c.adopt.is_not(null()),
                choice.c.original,
                choice.c.choices,
                fingerprint(choice.c.hashed, text_hash(choice.c.original)),
            ).where(choice.c.reason.is_(null())),
        )
        .on_conflict_do_nothing()
        .returning(tables.copy_ledger.c.item_id, tables.copy_ledger.c.batch_id, tables.copy_ledger.c.adopted)
        .cte("entry")
    )
    opening = (
        insert(tables.stock_batches)
        .from_select(
            ["id", "itemId", *values],
            select(
                entry.c.batch_id,
                choice.c.id,
                *[cast(choice.c[f"opening_{name}"], tables.stock_batches.c[name].type) for name in values],
            )
            .join(choice, choice.c.id == entry.c.item_id)
            .where(~entry.c.adopted),
        )
        .cte("opening")
    )
    return select(
        select(func.count()).select_from(entry).scalar_subquery(),
        select(func.count()).select_from(entry).where(entry.c.adopted).scalar_subquery(),
        select(func.count()).select_from(choice).where(choice.c.reason.is_not(null())).scalar_subquery(),
    ).add_cte(opening)


async def next_bound(connection: AsyncConnection, after: str | None, size: int) -> str | None:
    """The last of the next `size` items behind `after`, in the order of the database's own text keys; None: no more."""
    item = tables.items
    following = select(item.c.id).order_by(item.c.id).limit(size)
    if after is not None:
        following = following.where(item.c.id > after)
    chunk = following.subquery("chunk")
    bound: str | None = await connection.scalar(select(chunk.c.id).order_by(chunk.c.id.desc()).limit(1))
    return bound


def between(after: str | None, upto: str) -> Among:
    """Items behind `after`, up to and with `upto`."""
    if after is None:
        return lambda item_id: item_id <= upto
    return lambda item_id: (item_id > after) & (item_id <= upto)


async def copy_items(
    connection: AsyncConnection,
    shape: Shape,
    *,
    run: int | None,
    among: Among = everything,
    chosen: Chosen = None,
    table_locked: bool = False,
) -> Copied:
    """Copies those of the items that can be, and were not, and, unless the table is, that nobody has locked."""
    await because(connection, BASELINE)
    found = candidates(shape, ITEM, among, chosen)
    if not table_locked:
        for table, column in ((tables.locations, ITEM.c.locationId), (tables.users, ITEM.c.assignedUserId)):
            found = found.where(await _kept(connection, table, column, among))
    statement = copy_statement(found, run, chosen, table_locked=table_locked)
    return Copied(*(await connection.execute(statement)).one())


async def _kept(
    connection: AsyncConnection, table: Table, column: ColumnElement[str], among: Among
) -> ColumnElement[bool]:
    """Locks the rows of `table` that these items refer to, so that they are kept; the condition on an item to refer to
    none but these, or to none that exists.

    Whoever deletes one has it locked and wants the items next. Were the items locked first, both would wait for ever.
    """
    referred = select(column).where(among(ITEM.c.id))
    lock = (
        select(table.c.id).where(table.c.id.in_(referred)).with_for_update(read=True, key_share=True, skip_locked=True)
    )
    kept = list((await connection.execute(lock)).scalars())
    other = table.alias()
    return ~exists().where(other.c.id == column, other.c.id != all_(literal(kept, ARRAY(Text))))


async def copy_item(connection: AsyncConnection, shape: Shape, item_id: str) -> None:
    """Copies one item, whose row the caller has locked. Raises ItemHeldBack when it cannot be."""
    if not shape.has_columns(tables.items, tables.OPENING_COLUMNS.values()):
        raise ItemHeldBack(item_id, "MISSING_COLUMN")
    chosen_items = judged(shape, ITEM, lambda column: column == item_id)
    why = (await connection.execute(chosen_items)).one().reason
    if why is not None:
        raise ItemHeldBack(item_id, why)
    await because(connection, BASELINE)
    await connection.execute(copy_statement(chosen_items, None))
