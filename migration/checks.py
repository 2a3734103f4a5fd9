"""The checks of a verification that are not of one item's fields (R20): what is there, what moved, what drifted."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Select,
    Text,
    and_,
    cast,
    exists,
    false,
    func,
    literal,
    not_,
    null,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from db.indexes import BATCH_INDEXES, ITEM_INDEXES
from db.shape import Shape, load_shape
from migration.archive import contracted
from migration.candidates import Among, everything
from migration.capture import FUNCTIONS, TRIGGERS, Captured, Trigger, needed
from migration.comparison import count_named
from migration.expand import existing, indexes_to_make, keys_to_add, tables_to_make
from migration.run import unfinished_run
from migration.written_back import is_write_back_on, missing_write_back


@dataclass(frozen=True)
class Check:
    name: str
    passed: bool
    expected: str | None
    actual: str | None
    detail: str | None = None


async def none_found(connection: AsyncConnection, name: str, query: Select[str]) -> Check:
    """That the query, of rows `named` for a person, finds none."""
    count, examples = await count_named(connection, query)
    return Check(name, count == 0, "0", str(count), ", ".join(examples) or None)


async def all_in_place(connection: AsyncConnection) -> Check:
    """Tables, keys, indexes and triggers: present, valid, enabled, and as this version makes them.

    What a run that is under way makes valid before it verifies is named, and not held against it.
    """
    there = await existing(connection)
    steps = (*tables_to_make(there), *keys_to_add(there), *indexes_to_make(there, BATCH_INDEXES))
    on = await is_write_back_on(connection, await load_shape(connection))
    expected = needed(contracted=await contracted(connection) is not None)
    wrong = [
        *[step.why for step in steps],
        *_wrong_with(there.capture, expected),
        *missing_write_back(there.capture, on=on),
    ]
    half_made = there.invalid & {str(index.name) for index in ITEM_INDEXES.values()}
    invalid = [
        *[f"key {name} was not validated: it holds for new batches only" for name in sorted(there.unvalidated)],
        *[f"index {name} is invalid, and used by nobody" for name in sorted(half_made)],
    ]
    run = await unfinished_run(connection)
    if run is None or run.stage == "verify":
        wrong += invalid
    named = dict.fromkeys([*wrong, *invalid])
    return Check("tables, keys and indexes", not wrong, "0", str(len(wrong)), "; ".join(named) or None)


def _wrong_with(there: Captured, expected: Mapping[str, Trigger]) -> list[str]:
    missing = [name for name in expected if name not in there.triggers]
    lame = [name for name in expected if name in there.triggers and name not in there.enabled]
    return [
        *[f"function stockshift.{name} is missing or altered" for name in FUNCTIONS if name not in there.functions],
        *[f"trigger {name} on {TRIGGERS[name].table} is missing" for name in missing],
        *[f"trigger {name} on {TRIGGERS[name].table} is disabled, or not always enabled" for name in lame],
    ]


def unbalanced(shape: Shape, company: str | None, among: Among = everything) -> Select[str, int, int, int]:
    """Copied items of which baseline and movements do not sum up to what is in their batches: how many units were
    `copied`, have `moved`, and are `there`.

    The baseline is what was copied; what is there and was never copied has none. So an item is judged once it is
    copied, which it is only while it has no other batches: of those that had gone by then, no movement counts. Not
    judged is an item whose opening batch was adopted and had moved before: its baseline has some of these movements.
    """
    item = shape.relation(tables.items, "item")
    ledger = shape.relation(tables.copy_ledger, "ledger")
    batch = shape.relation(tables.stock_batches, "batch")
    movement = shape.relation(tables.movement, "movement")
    by_batch = (
        select(
            movement.c.item_id,
            movement.c.batch_id,
            func.sum(movement.c.delta).label("delta"),
            func.min(movement.c.at).label("first"),
            func.max(movement.c.at).label("last"),
        )
        .where(among(movement.c.item_id))
        .group_by(movement.c.item_id, movement.c.batch_id)
        .subquery("by_batch")
    )
    mover = shape.relation(tables.copy_ledger, "mover")
    present = shape.relation(tables.stock_batches, "present")
    counts = or_(by_batch.c.last >= mover.c.copied_at, present.c.id.is_not(null()))
    moved_before = and_(mover.c.adopted, by_batch.c.batch_id == mover.c.batch_id, by_batch.c.first < mover.c.copied_at)
    moved = (
        select(
            by_batch.c.item_id,
            func.sum(by_batch.c.delta).filter(counts).label("delta"),
            func.bool_or(moved_before).label("moved_before"),
        )
        .join(mover, mover.c.item_id == by_batch.c.item_id)
        .outerjoin(present, and_(present.c.id == by_batch.c.batch_id, present.c.itemId == by_batch.c.item_id))
        .group_by(by_batch.c.item_id)
        .subquery("moved")
    )
    stock = select(batch.c.itemId, func.sum(batch.c.quantity).label("quantity")).where(among(batch.c.itemId))
    there = stock.group_by(batch.c.itemId).subquery("there")
    original = cast(func.json_extract_path_text(ledger.c.original, "quantityInStock"), BigInteger)
    baseline, delta, quantity = (func.coalesce(value, 0) for value in (original, moved.c.delta, there.c.quantity))
    return (
        select(item.c.id.label("item_id"), baseline.label("copied"), delta.label("moved"), quantity.label("there"))
        .select_from(ledger)
        .join(item, item.c.id == ledger.c.item_id)
        .outerjoin(moved, moved.c.item_id == ledger.c.item_id)
        .outerjoin(there, there.c.itemId == ledger.c.item_id)
        .where(
            among(ledger.c.item_id),
            baseline + delta != quantity,
            not_(func.coalesce(moved.c.moved_before, false())),
            true() if company is None else item.c.companyId == company,
        )
    )


def drifted(shape: Shape, company: str | None) -> Select[*tuple[Any, ...]]:
    """The writes of the legacy columns of items that are cut over, since then (R10), but for those that were settled.

    Rows of `legacy_write`. What a key wrote, of a location or user that is gone, is none: the batches lost it alike.
    """
    item = shape.relation(tables.items, "item")
    ledger = shape.relation(tables.copy_ledger, "ledger")
    write = shape.relation(tables.legacy_write, "write")
    references = {"locationId": tables.locations, "assignedUserId": tables.users}
    by_a_key = [write.c.after.op("-")(literal(list(references), ARRAY(Text))) == cast(literal("{}", Text), JSONB)]
    for name, table in references.items():
        target = shape.relation(table, f"target_of_{name}")
        there = exists().where(target.c.id == write.c.before[name].astext)
        by_a_key.append(and_(write.c.after[name].astext.is_(null()), ~there))
    return (
        select(write)
        .join(ledger, ledger.c.item_id == write.c.item_id)
        .join(item, item.c.id == write.c.item_id)
        .where(
            write.c.at >= ledger.c.cut_over_at,
            ~write.c.followed,
            write.c.settled.is_(null()),
            func.coalesce(not_(and_(*by_a_key)), true()),
            or_(write.c.operation != "UPDATE", ~write.c.after.has_key("id")),
            true() if company is None else item.c.companyId == company,
        )
    )
