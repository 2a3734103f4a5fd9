"""The query that sets both systems side by side: one row an item, and what it says of it.

Quantities are summed before they are joined, so no join can multiply them (R22).
"""

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Select,
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
    text,
    true,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by, array
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from db.shape import Shape
from migration.candidates import candidates, differing, opening_values, status_text, unwanted

MATCHING = ("MATCH", "NOTHING_TO_COPY")
CAUSES = {
    "OPENING_BATCH_LOST": "the opening batch was deleted, or given to another item, or the item itself was deleted"
    " and made again",
    "NOT_COPIED": "the item was not copied: it is new, or became copyable, since the migration",
    "BATCHES_WITHOUT_COPY": "the item has batches but was never copied, so its legacy stock is hidden",
    "COPIED_TWICE": "a second batch has the item's own time of creation: the item was copied twice",
}
REPAIRS = {
    "OPENING_BATCH_LOST": "put the opening batch back from the copy ledger",
    "NOT_COPIED": "run `stockshift migrate` again: it copies what is new",
    "BATCHES_WITHOUT_COPY": "leave one batch that equals the item, or none; then run `stockshift migrate` again",
}
EXAMPLES = 5


def comparison(shape: Shape, company: str | None) -> Select[str, str, int, int | None, int, list[str], str]:
    """One row an item: `legacy` and `batches` quantities, `received` since the copy, differing `fields`, `outcome`."""
    item = shape.relation(tables.items, "item")
    ledger = shape.relation(tables.copy_ledger, "ledger")
    opening = shape.relation(tables.stock_batches, "opening")
    batch = shape.relation(tables.stock_batches, "batch")
    known = shape.relation(tables.copy_ledger, "known")
    source = shape.relation(tables.items, "source")
    candidate = candidates(shape, shape.relation(tables.items, "uncopied")).subquery("candidate")
    is_opening = func.coalesce(known.c.item_id == batch.c.itemId, false())
    no_opening = known.c.batch_id.is_(null())
    stock = (
        select(
            batch.c.itemId,
            func.sum(batch.c.quantity).label("quantity"),
            func.coalesce(func.sum(batch.c.quantity).filter(~is_opening), 0).label("received"),
            # A batch that is received is created then; only a copy is as old as its item.
            func.bool_or(and_(no_opening, batch.c.createdAt == source.c.createdAt)).label("twice"),
        )
        .join(source, source.c.id == batch.c.itemId)
        .outerjoin(known, known.c.batch_id == batch.c.id)
        .group_by(batch.c.itemId)
        .subquery("stock")
    )
    differs = [
        case((differs, literal(name, Text)), else_=null())
        for name, differs in differing(opening, item, ledger.c.choices).items()
    ]
    fields = func.array_remove(array(differs), null())
    copied = ledger.c.item_id.is_not(null())
    outcome = case(
        (and_(copied, opening.c.id.is_(null())), "OPENING_BATCH_LOST"),
        (and_(copied, stock.c.twice), "COPIED_TWICE"),
        (and_(copied, func.cardinality(fields) > 0), "FIELDS_DIFFER"),
        (copied, "MATCH"),
        (stock.c.itemId.is_not(null()), "BATCHES_WITHOUT_COPY"),
        (unwanted(item), "NOTHING_TO_COPY"),
        (candidate.c.reason.is_not(null()), "HELD_BACK"),
        else_="NOT_COPIED",
    )
    return (
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
        .where(true() if company is None else item.c.companyId == company)
    )


def listing(compared: FromClause, shape: Shape, verification_id: int) -> Select[int, str]:
    """The mismatches, each with its likely cause and a proposed repair, as rows of `verification_mismatch`."""
    item = shape.relation(tables.items, "listed_item")
    ledger = shape.relation(tables.copy_ledger, "listed_ledger")
    opening = shape.relation(tables.stock_batches, "listed_opening")
    now = func.row_to_json(text("listed_item"))
    values = opening_values(item, ledger.c.choices) | {"status": status_text(item, ledger.c.choices)}
    differs = differing(opening, item, ledger.c.choices)
    written = {
        name: func.json_extract_path_text(now, column).is_distinct_from(
            func.json_extract_path_text(ledger.c.original, column)
        )
        for name, column in tables.COMPARED_COLUMNS.items()
    }
    legacy_changed = or_(*[and_(differs[name], written[name]) for name in differs])
    batch_changed = or_(*[and_(differs[name], ~written[name]) for name in differs])
    changes = [
        case((differs[name], func.format("%s %s -> %s", name, _shown(opening.c[name]), _shown(values[name]))))
        for name in differs
    ]
    second = shape.relation(tables.stock_batches, "second")
    known = shape.relation(tables.copy_ledger, "known_second")
    seconds = (
        select(func.string_agg(second.c.id, aggregate_order_by(literal(", ", Text), second.c.id)))
        .where(
            second.c.itemId == item.c.id,
            second.c.createdAt == item.c.createdAt,
            ~exists().where(known.c.batch_id == second.c.id),
        )
        .scalar_subquery()
    )
    outcome = compared.c.outcome
    cause = case(
        *[(outcome == key, value) for key, value in CAUSES.items()],
        (
            and_(legacy_changed, batch_changed),
            "the legacy columns and the opening batch were both changed after the copy",
        ),
        (legacy_changed, "the legacy columns were written after the copy"),
        else_="the opening batch was changed after the copy",
    )
    repair = case(
        *[(outcome == key, value) for key, value in REPAIRS.items()],
        (outcome == "COPIED_TWICE", func.format("delete batch %s", seconds)),
        else_=func.format("set batch %s to the legacy columns: %s", opening.c.id, func.concat_ws(", ", *changes)),
    )
    return (
        select(
            literal(verification_id, BigInteger),
            func.row_number().over(order_by=compared.c.item_id),
            compared.c.item_id,
            compared.c.item_name,
            compared.c.legacy,
            compared.c.batches,
            func.coalesce(compared.c.batches, 0) - compared.c.legacy,
            compared.c.fields,
            cause,
            repair,
        )
        .select_from(compared)
        .join(item, item.c.id == compared.c.item_id)
        .outerjoin(ledger, ledger.c.item_id == compared.c.item_id)
        .outerjoin(opening, opening.c.id == ledger.c.batch_id)
        .where(outcome.not_in([*MATCHING, "HELD_BACK"]))
    )


def _shown(value: ColumnElement[object]) -> ColumnElement[str]:
    return func.coalesce(cast(value, Text), "NULL")


def dangling(shape: Shape, company: str | None) -> dict[str, Select[str]]:
    """Batches that refer to what is not there, each named as a person looks for it."""
    batch = shape.relation(tables.stock_batches, "batch")
    item = shape.relation(tables.items, "item")
    named = func.format("batch %s of item %s (%s units)", batch.c.id, batch.c.itemId, batch.c.quantity)
    found: dict[str, Select[str]] = {}
    for column, (table, _) in tables.STOCK_BATCHES_REFERENCES.items():
        target = shape.relation(table, "target")
        query = select(named.label("named")).where(
            batch.c[column].is_not(null()), ~exists().where(target.c.id == batch.c[column])
        )
        if company is not None:  # an orphan belongs to no company: only who may see all of them sees it
            query = query.where(exists().where(item.c.id == batch.c.itemId, item.c.companyId == company))
        found[f"batches with an unknown {column}"] = query
    return found


async def count_named(connection: AsyncConnection, query: Select[str]) -> tuple[int, list[str]]:
    """How many rows a query of `dangling` finds, and the names of the first few."""
    found = query.subquery()
    first = select(found.c.named).order_by(found.c.named).limit(EXAMPLES).scalar_subquery()
    count = select(func.count()).select_from(found).scalar_subquery()
    row = (await connection.execute(select(count, func.array(first)))).one()
    return row[0], row[1]
