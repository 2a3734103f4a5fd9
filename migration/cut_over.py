"""Cutting items over (R9): from then on their batches are the truth, and a write of the legacy columns is drift.

An item is locked, copied if it never was, and verified; then the ledger says that it is cut over, which is what the
triggers go by, and its flag is set, which is for the shop's ORM. All in one transaction, so a writer comes wholly
before it, and is verified, or wholly after it. The row is written even where its flag was true: a writer whose snapshot
is older than the cut-over must meet a row that changed since, and try again.
"""

from sqlalchemy import (
    ColumnElement,
    Select,
    Text,
    and_,
    any_,
    case,
    column,
    exists,
    func,
    literal,
    or_,
    select,
    table,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import tables
from db.shape import Shape
from migration import audit
from migration.candidates import HELD_BACK, among_ids, judged, wanted
from migration.checks import unbalanced
from migration.comparison import comparison
from migration.copy import ITEM, copy_items
from migration.failures import explained
from migration.in_chunks import Chunk, InChunks, Outcome, Refusal, Selection
from migration.mismatches import CAUSES
from migration.progress import Report, silent
from migration.written_back import write_back_of

LEDGER = tables.copy_ledger
FLAGGED = table(
    "items",
    *[column(each.name, each.type) for each in (*tables.items.columns, tables.USE_BATCH_SYSTEM)],
    schema="public",
)
KEPT = "what was done before stays"
NAMED = 20
"""So many of the items of a chunk are named in the audit."""
LATER = ("NOT_YET_COPIED", "NOT_COPIED")
"""What the copy has just passed over: a location, or a user, of such an item is being written."""
REASONS = {
    "FIELDS_DIFFER": "its opening batch and its legacy columns differ in {fields}",
    "NOTHING_TO_COPY": "it has neither stock nor a status, so there is nothing to copy",
    "UNBALANCED": "what was copied of it and what moved since are not what is in its batches",
}


async def cut_over(
    engine: AsyncEngine,
    selection: Selection,
    *,
    actor: str,
    lock_timeout_ms: int = 2_000,
    progress: Report = silent,
) -> Outcome:
    """Cuts over what verifies of the selection, and says of each other item why it does not; safe to run again.

    Raises MigrationNotStarted, NotPrepared, LegacyColumnsGone, and what `explained` says; what was done before stays.
    """

    async def work(connection: AsyncConnection, shape: Shape, ids: list[str]) -> Chunk:
        return await _cut_over(connection, shape, ids, actor, selection.company)

    async with explained(engine, kept=KEPT):
        chunks = InChunks(engine, selection, _pending, work, "cut-over", lock_timeout_ms, progress)
        return await chunks.run()


def is_cut_over(shape: Shape, item_id: ColumnElement[str]) -> ColumnElement[bool]:
    """By the ledger, which decides."""
    ledger = shape.relation(LEDGER, "entry")
    return exists().where(ledger.c.item_id == item_id, ledger.c.cut_over_at.is_not(None))


def _pending(shape: Shape, item_id: ColumnElement[str]) -> ColumnElement[bool]:
    """To be cut over, or to be told why not; of an item that has nothing to copy nobody need be told."""
    item = FLAGGED.alias("pending")
    ledger = shape.relation(LEDGER, "entry")
    copied = exists().where(ledger.c.item_id == item.c.id)
    done = and_(copied.where(ledger.c.cut_over_at.is_not(None)), item.c.useBatchSystem.is_(True))
    return exists().where(item.c.id == item_id, or_(copied, wanted(item)), ~done)


async def _cut_over(
    connection: AsyncConnection, shape: Shape, ids: list[str], actor: str, company: str | None
) -> Chunk:
    await copy_items(connection, shape, run=None, among=among_ids(ids))
    refused = await _refusals(connection, shape, ids)
    busy = frozenset(item_id for item_id, refusal in refused.items() if refusal.kind in LATER)
    verified = [item_id for item_id in ids if item_id not in refused]
    asked = literal(verified, ARRAY(Text))
    entered = (
        update(LEDGER)
        .where(LEDGER.c.item_id == any_(asked), LEDGER.c.cut_over_at.is_(None))
        .values(cut_over_at=func.clock_timestamp())
        .returning(LEDGER.c.item_id)
    )
    done = sorted((await connection.execute(entered)).scalars())
    changed = or_(FLAGGED.c.id == any_(literal(done, ARRAY(Text))), FLAGGED.c.useBatchSystem.is_not(True))
    await connection.execute(update(FLAGGED).where(FLAGGED.c.id == any_(asked), changed).values(useBatchSystem=True))
    await write_back_of(connection, done)
    if done:
        await audit.record(connection, "CUT_OVER", actor, items=len(done), named=done[:NAMED], company=company)
    return Chunk(len(done), {item_id: each for item_id, each in refused.items() if item_id not in busy}, busy)


async def _refusals(connection: AsyncConnection, shape: Shape, ids: list[str]) -> dict[str, Refusal]:
    """Why items cannot be cut over, by id: those that do not verify."""
    among = among_ids(ids)
    compared = comparison(shape, None, among).subquery("compared")
    moved = unbalanced(shape, None, among).subquery("unbalanced")
    candidate = judged(shape, ITEM, among).subquery("candidate")
    sound = compared.c.outcome.in_(["MATCH", "CUT_OVER"])
    query: Select[str, str, str | None, list[str]] = (
        select(
            compared.c.item_id,
            case((sound, "UNBALANCED"), else_=compared.c.outcome).label("kind"),
            candidate.c.reason,
            compared.c.fields,
        )
        .select_from(compared)
        .outerjoin(moved, moved.c.item_id == compared.c.item_id)
        .outerjoin(candidate, candidate.c.id == compared.c.item_id)
        .where(or_(~sound, moved.c.item_id.is_not(None)))
    )
    return {
        row.item_id: Refusal(row.kind, _reason(row.kind, row.reason, row.fields))
        for row in await connection.execute(query)
    }


def _reason(kind: str, held_back: str | None, fields: list[str]) -> str:
    if kind == "HELD_BACK":
        return f"it cannot be copied: {HELD_BACK[held_back]}" if held_back else "it cannot be copied"
    words = REASONS.get(kind) or CAUSES[kind]
    return f"{words.format(fields=', '.join(fields))}; `stockshift verify` says more"
