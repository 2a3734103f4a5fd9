"""The query that sets both systems side by side: one row an item, and what it says of it.

Quantities are summed before they are joined, so no join can multiply them (R22).

| outcome | meaning |
|---|---|
| MATCH | the opening batch equals the legacy columns |
| NOTHING_TO_COPY | not copied, and not to be: answered from the legacy columns |
| CUT_OVER | the batches are the truth; what the legacy columns say is compared no more |
| HELD_BACK | it cannot be copied as it stands |
| NOT_YET_COPIED | no run of all items finished yet, or it was inserted or written since the last one began |
| NOT_COPIED | it could have been copied, and nothing recorded says why it was not |
| others | causes in migration/mismatches.py |
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    FromClause,
    ScalarSelect,
    Select,
    Subquery,
    Text,
    and_,
    case,
    cast,
    exists,
    false,
    func,
    literal,
    null,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, array
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from db.shape import Shape
from migration.candidates import Among, candidates, differing, everything, unwanted

MATCHING = ("MATCH", "NOTHING_TO_COPY", "CUT_OVER")
APART = ("HELD_BACK", "NOT_YET_COPIED")
"""Neither a match nor a mismatch: answered from the legacy columns, and it is known why."""
WRITES = ("INSERT", "UPDATE", "UNREADABLE", "WRITE_BACK", "TAKE_BACK")
"""The recorded operations that leave an item as it is now."""
EXAMPLES = 5
NONE: Select[*tuple[Any, ...]] = select(
    *[cast(null(), Text).label(name) for name in ("item_id", "item_name")],
    *[cast(null(), BigInteger).label(name) for name in ("legacy", "batches", "explained")],
    cast(null(), ARRAY(Text)).label("fields"),
    cast(null(), Text).label("outcome"),
).where(false())
"""What `comparison` says of no item, which PostgreSQL need not look at any table for."""


def comparison(
    shape: Shape, company: str | None, among: Among = everything
) -> Select[str, str, int, int | None, int, list[str], str]:
    """One row an item `among` these: `legacy` and `batches` quantities, what of their difference is `explained`,
    differing `fields`, `outcome`."""
    item = shape.relation(tables.items, "item")
    ledger = shape.relation(tables.copy_ledger, "ledger")
    opening = shape.relation(tables.stock_batches, "opening")
    stock = _stock(shape, among)
    candidate = candidates(shape, shape.relation(tables.items, "uncopied"), among).cte("candidate", nesting=True)
    written = _written_since(shape, candidate)
    differs = [
        case((differs, literal(name, Text)), else_=null())
        for name, differs in differing(opening, item, ledger.c.choices).items()
    ]
    fields = func.array_remove(array(differs), null())
    copied = ledger.c.item_id.is_not(null())
    outcome = case(
        (and_(copied, stock.c.twice), "COPIED_TWICE"),
        (ledger.c.cut_over_at.is_not(null()), "CUT_OVER"),
        (and_(copied, opening.c.id.is_(null())), "BATCH_LOST"),
        (and_(copied, func.cardinality(fields) > 0), "FIELDS_DIFFER"),
        (copied, "MATCH"),
        # Without legacy columns there is no stock that batches could hide.
        (stock.c.itemId.is_not(null()), "HIDDEN_LEGACY_STOCK" if shape.has_legacy_columns else "CUT_OVER"),
        (unwanted(item), "NOTHING_TO_COPY"),
        (candidate.c.reason.is_not(null()), "HELD_BACK"),
        (or_(_last_run().is_(null()), written.c.item_id.is_not(null())), "NOT_YET_COPIED"),
        else_="NOT_COPIED",
    )
    each = (
        select(
            item.c.id.label("item_id"),
            item.c.name.label("item_name"),
            cast(func.coalesce(item.c.quantityInStock, 0), BigInteger).label("legacy"),
            stock.c.quantity.label("batches"),
            cast(func.coalesce(stock.c.received, 0), BigInteger).label("received"),
            case((and_(copied, opening.c.id.is_not(null())), fields), else_=array([], type_=Text)).label("fields"),
            outcome.label("outcome"),
        )
        .select_from(item)
        .outerjoin(ledger, ledger.c.item_id == item.c.id)
        .outerjoin(opening, and_(opening.c.id == ledger.c.batch_id, opening.c.itemId == item.c.id))
        .outerjoin(stock, stock.c.itemId == item.c.id)
        .outerjoin(candidate, candidate.c.id == item.c.id)
        .outerjoin(written, written.c.item_id == item.c.id)
        .where(among(item.c.id), true() if company is None else item.c.companyId == company)
    ).subquery("each")
    explained = case(
        (each.c.outcome == "CUT_OVER", func.coalesce(each.c.batches, 0) - each.c.legacy),
        (each.c.outcome.in_([*APART, "NOTHING_TO_COPY"]), -each.c.legacy),
        (each.c.outcome == "HIDDEN_LEGACY_STOCK", 0),
        else_=each.c.received,
    )
    return select(
        each.c.item_id,
        each.c.item_name,
        each.c.legacy,
        each.c.batches,
        cast(explained, BigInteger).label("explained"),
        each.c.fields,
        each.c.outcome,
    )


def _stock(shape: Shape, among: Among) -> Subquery:
    """By item: units in its batches, `received` beside the opening batch, and whether it was copied `twice`."""
    batch = shape.relation(tables.stock_batches, "batch")
    known = shape.relation(tables.copy_ledger, "known")
    source = shape.relation(tables.items, "source")
    is_opening = func.coalesce(known.c.item_id == batch.c.itemId, false())
    no_opening = known.c.batch_id.is_(null())
    return (
        select(
            batch.c.itemId,
            func.sum(batch.c.quantity).label("quantity"),
            func.coalesce(func.sum(batch.c.quantity).filter(~is_opening), 0).label("received"),
            # A batch that is received is created then; only a copy is as old as its item.
            func.bool_or(and_(no_opening, batch.c.createdAt == source.c.createdAt)).label("twice"),
        )
        .join(source, source.c.id == batch.c.itemId)
        .outerjoin(known, known.c.batch_id == batch.c.id)
        .where(among(batch.c.itemId))
        .group_by(batch.c.itemId)
        .subquery("stock")
    )


def _last_run() -> ScalarSelect[datetime | None]:
    """When the last run of all items began that finished, and was not rolled back since; NULL if none did.

    What is written while a run sweeps up, and after, is for the next one: so it is the beginning that counts.
    """
    run = tables.migration_run.alias("run")
    some_items = func.jsonb_array_length(run.c.options["items"]) > 0
    counts = and_(run.c.state == "FINISHED", run.c.options["rolled_back"].is_(null()))
    return select(func.max(run.c.started_at)).where(counts, some_items.is_not(true())).scalar_subquery()


def _written_since(shape: Shape, candidate: FromClause) -> Subquery:
    """The items among the candidates that were inserted, or written, since the last run began."""
    write = shape.relation(tables.legacy_write, "recent")
    return (
        select(write.c.item_id)
        .join(candidate, candidate.c.id == write.c.item_id)
        .where(write.c.at >= _last_run(), write.c.operation.in_(WRITES))
        .group_by(write.c.item_id)
        .subquery("written")
    )


def dangling(shape: Shape, company: str | None) -> dict[str, Select[str, str, str, int, str]]:
    """Batches that refer to what is not there, each `named` as a person looks for it."""
    batch = shape.relation(tables.stock_batches, "batch")
    item = shape.relation(tables.items, "item")
    named = func.format("batch %s of item %s (%s units)", batch.c.id, batch.c.itemId, batch.c.quantity)
    found: dict[str, Select[str, str, str, int, str]] = {}
    for column, (table, _) in tables.STOCK_BATCHES_REFERENCES.items():
        target = shape.relation(table, "target")
        query = select(
            named.label("named"),
            batch.c.id.label("batch_id"),
            batch.c.itemId.label("item_id"),
            batch.c.quantity,
            batch.c[column].label("value"),
        ).where(batch.c[column].is_not(null()), ~exists().where(target.c.id == batch.c[column]))
        if company is not None:  # an orphan belongs to no company: only who may see all of them sees it
            query = query.where(exists().where(item.c.id == batch.c.itemId, item.c.companyId == company))
        found[f"batches with an unknown {column}"] = query
    return found


async def unknown_references(connection: AsyncConnection, shape: Shape) -> set[str]:
    """The columns of batches, but for itemId, that refer to what is not there: each value is looked up once."""
    batch = shape.relation(tables.stock_batches, "batch")
    found = set()
    for column, (table, _) in tables.STOCK_BATCHES_REFERENCES.items():
        if table is not tables.items:
            target = shape.relation(table, "target")
            values = select(batch.c[column].label("value")).distinct().subquery("values")
            unknown = exists().where(values.c.value.is_not(null()), ~exists().where(target.c.id == values.c.value))
            if (await connection.execute(select(unknown))).scalar_one():
                found.add(column)
    return found


async def count_named(connection: AsyncConnection, query: Select[str, *tuple[Any, ...]]) -> tuple[int, list[str]]:
    """How many rows a query of `dangling` finds, and the names of the first few."""
    found = query.cte("found")
    first = select(found.c.named).order_by(found.c.named).limit(EXAMPLES).scalar_subquery()
    count = select(func.count()).select_from(found).scalar_subquery()
    row = (await connection.execute(select(count, func.array(first)))).one()
    return row[0], row[1]
