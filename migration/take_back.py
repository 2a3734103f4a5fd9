"""Taking items back (R9): the way back from a cut-over, item by item.

What is not cut over is answered for by its legacy columns and its opening batch alike (R7). So the legacy columns take
what became of the opening batch since; that is recorded like every write of them. An opening batch that is gone, sold
out, comes back with nothing in it. While drift is unsettled it is not for us to say which of the two is right: refused.
"""

from sqlalchemy import (
    Text,
    and_,
    any_,
    case,
    cast,
    column,
    exists,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import tables
from db.shape import Shape
from migration import audit
from migration.candidates import differing, opening_values
from migration.copy import because
from migration.cut_over import FLAGGED, KEPT, LEDGER, NAMED, is_cut_over
from migration.failures import explained
from migration.in_chunks import Chunk, InChunks, Outcome, Refusal, Selection
from migration.progress import Report, silent

TAKE_BACK = "TAKE_BACK"
"""Under which the writes of the legacy columns are recorded."""
BATCH = tables.stock_batches
WRITE = tables.legacy_write


async def take_back(
    engine: AsyncEngine,
    selection: Selection,
    *,
    actor: str,
    lock_timeout_ms: int = 2_000,
    progress: Report = silent,
) -> Outcome:
    """Takes back what is cut over of the selection, and says of each other such item why not; safe to run again.

    Raises MigrationNotStarted, NotPrepared, LegacyColumnsGone, and what `explained` says; what was done before stays.
    """

    async def work(connection: AsyncConnection, shape: Shape, ids: list[str]) -> Chunk:
        return await _take_back(connection, shape, ids, actor, selection.company)

    async with explained(engine, kept=KEPT):
        chunks = InChunks(engine, selection, is_cut_over, work, "take-back", lock_timeout_ms, progress)
        return await chunks.run()


async def _take_back(
    connection: AsyncConnection, shape: Shape, ids: list[str], actor: str, company: str | None
) -> Chunk:
    asked = literal(ids, ARRAY(Text))
    entered = select(LEDGER.c.item_id).where(LEDGER.c.item_id == any_(asked), LEDGER.c.cut_over_at.is_not(None))
    held = (
        select(LEDGER.c.item_id, BATCH.c.id)
        .join(BATCH, and_(BATCH.c.id == LEDGER.c.batch_id, BATCH.c.itemId == LEDGER.c.item_id))
        .where(LEDGER.c.item_id == any_(asked), LEDGER.c.cut_over_at.is_not(None))
    )
    lock = held.with_for_update(key_share=True, skip_locked=True, of=BATCH)
    ours = set((await connection.execute(entered)).scalars())
    has_opening = {row.item_id for row in await connection.execute(held)}
    locked = {row.item_id for row in await connection.execute(lock)}
    busy = has_opening - locked
    refused = await _drifted(connection, sorted(ours - busy))
    going = sorted(ours - busy - refused.keys())
    await because(connection, TAKE_BACK, actor)
    await _put_back(connection, sorted(set(going) - has_opening))
    await _write_legacy_columns(connection, shape, going)
    await connection.execute(
        update(LEDGER).where(LEDGER.c.item_id == any_(literal(going, ARRAY(Text)))).values(cut_over_at=None)
    )
    if going:
        await audit.record(connection, "TAKEN_BACK", actor, items=len(going), named=going[:NAMED], company=company)
    return Chunk(len(going), refused, frozenset(busy))


async def _drifted(connection: AsyncConnection, ids: list[str]) -> dict[str, Refusal]:
    """The items with drift that nobody settled: a legacy column that was written last by somebody else, and that the
    opening batch does not agree with."""
    change = func.jsonb_each(WRITE.c.after).table_valued(column("key", Text), name="change")
    later = WRITE.alias("later")
    overwritten = exists().where(
        later.c.item_id == WRITE.c.item_id,
        later.c.id > WRITE.c.id,
        later.c.followed,
        later.c.after.has_key(change.c.key),
    )
    item = tables.items.alias("item")
    disagrees = differing(BATCH, item, LEDGER.c.choices)
    differs = or_(
        BATCH.c.id.is_(null()),
        *[and_(change.c.key == name, disagrees[batch]) for batch, name in tables.COMPARED_COLUMNS.items()],
    )
    query = (
        select(
            WRITE.c.item_id,
            func.string_agg(change.c.key.distinct(), literal(", ", Text)).label("columns"),
            func.array_agg(
                aggregate_order_by(func.coalesce(WRITE.c.application, ""), WRITE.c.id.desc()), type_=ARRAY(Text)
            )[1].label("application"),
            func.to_char(func.timezone("UTC", func.max(WRITE.c.at)), "YYYY-MM-DD HH24:MI:SS").label("at"),
        )
        .join(LEDGER, LEDGER.c.item_id == WRITE.c.item_id)
        .join(item, item.c.id == LEDGER.c.item_id)
        .outerjoin(BATCH, and_(BATCH.c.id == LEDGER.c.batch_id, BATCH.c.itemId == LEDGER.c.item_id))
        .join(change, true())
        .where(
            WRITE.c.item_id == any_(literal(ids, ARRAY(Text))),
            WRITE.c.at >= LEDGER.c.cut_over_at,
            WRITE.c.operation == "UPDATE",
            ~WRITE.c.followed,
            WRITE.c.settled.is_(null()),
            change.c.key.in_(tables.COMPARED_COLUMNS.values()),
            ~overwritten,
            differs,
        )
        .group_by(WRITE.c.item_id)
    )
    return {
        row.item_id: Refusal(
            "DRIFT",
            f"{row.columns} was written past its batches since the cut-over, last by application {row.application!r} at"
            f" {row.at} UTC; settle that first, with `stockshift repair --accept-drift`"
            " or `--keep-batches`",
        )
        for row in await connection.execute(query)
    }


async def _put_back(connection: AsyncConnection, ids: list[str]) -> None:
    """The opening batches that are gone: with no units and no freight, which the movements say have gone."""
    item = tables.items.alias("item")
    values = opening_values(item, LEDGER.c.choices)
    values |= {"quantity": literal(0), "freightCostUSD": literal(0.0)}
    rows = (
        select(LEDGER.c.batch_id, item.c.id, *values.values())
        .join(item, item.c.id == LEDGER.c.item_id)
        .where(item.c.id == any_(literal(ids, ARRAY(Text))))
    )
    await connection.execute(insert(BATCH).from_select(["id", "itemId", *values], rows))


async def _write_legacy_columns(connection: AsyncConnection, shape: Shape, ids: list[str]) -> None:
    """Each that the opening batch has otherwise; what agrees stays as it is, NULL for 0 too. And the flag."""
    differs = differing(BATCH, FLAGGED, LEDGER.c.choices)
    status = BATCH.c.status if shape.status_is_enum else cast(BATCH.c.status, Text)
    values = {
        item: case((differs[batch], status if batch == "status" else BATCH.c[batch]), else_=FLAGGED.c[item])
        for batch, item in tables.COMPARED_COLUMNS.items()
    }
    await connection.execute(
        update(FLAGGED)
        .where(
            FLAGGED.c.id == any_(literal(ids, ARRAY(Text))),
            LEDGER.c.item_id == FLAGGED.c.id,
            BATCH.c.id == LEDGER.c.batch_id,
        )
        .values({**values, tables.USE_BATCH_SYSTEM.name: False})
    )
