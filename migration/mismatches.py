"""What is wrong with an item that does not match: its likely cause, and a proposed repair (R21)."""

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Select,
    Subquery,
    Text,
    and_,
    case,
    cast,
    column,
    exists,
    func,
    literal,
    null,
    or_,
    select,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import JSONB, aggregate_order_by

from db import tables
from db.shape import Shape
from migration.candidates import differing, opening_values, status_text
from migration.comparison import APART, MATCHING, WRITES

CAUSES = {
    "BATCH_LOST": "the opening batch was deleted, or given to another item, or the item itself was deleted"
    " and made again",
    "NOT_COPIED": "the item was not copied, and no write of it since the last run is recorded: it became copyable by"
    " another way, or nothing recorded it",
    "HIDDEN_LEGACY_STOCK": "the item has batches but was never copied, so its legacy stock is hidden",
    "COPIED_TWICE": "a second batch has the item's own time of creation: the item was copied twice",
}
REPAIRS = {
    "BATCH_LOST": "put the opening batch back from the copy ledger",
    "NOT_COPIED": "run `stockshift migrate` again: it copies what is new",
    "HIDDEN_LEGACY_STOCK": "leave one batch that equals the item, or none; then run `stockshift migrate` again",
}


def listing(compared: FromClause, shape: Shape, verification_id: int) -> Select[int, str]:
    """The mismatches, each with its likely cause and a proposed repair, as rows of `verification_mismatch`."""
    item = shape.relation(tables.items, "listed_item")
    ledger = shape.relation(tables.copy_ledger, "listed_ledger")
    opening = shape.relation(tables.stock_batches, "listed_opening")
    record = _recorded(shape, compared)
    now = func.to_jsonb(text("listed_item"))
    known = cast(ledger.c.original, JSONB).op("||")(func.coalesce(record.c.known, cast(literal("{}", Text), JSONB)))
    values = opening_values(item, ledger.c.choices) | {"status": status_text(item, ledger.c.choices)}
    differs = differing(opening, item, ledger.c.choices)
    not_taken = {name: record.c.not_taken[column].astext for name, column in tables.COMPARED_COLUMNS.items()}
    unrecorded = {
        name: func.jsonb_extract_path_text(now, column).is_distinct_from(func.jsonb_extract_path_text(known, column))
        for name, column in tables.COMPARED_COLUMNS.items()
    }
    written = {name: or_(unrecorded[name], not_taken[name].is_not(null())) for name in differs}
    legacy_changed = or_(*[and_(differs[name], written[name]) for name in differs])
    batch_changed = or_(*[and_(differs[name], ~written[name]) for name in differs])
    who_wrote = func.coalesce(*[case((differs[name], not_taken[name])) for name in differs])
    changes = [
        case((differs[name], func.format("%s %s -> %s", name, _shown(opening.c[name]), _shown(values[name]))))
        for name in differs
    ]
    second = shape.relation(tables.stock_batches, "second")
    other = shape.relation(tables.copy_ledger, "known_second")
    seconds = (
        select(func.string_agg(second.c.id, aggregate_order_by(literal(", ", Text), second.c.id)))
        .where(
            second.c.itemId == item.c.id,
            second.c.createdAt == item.c.createdAt,
            ~exists().where(other.c.batch_id == second.c.id),
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
        (
            who_wrote.is_not(null()),
            func.format("the legacy columns were written by %s, and the opening batch could not take it", who_wrote),
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
            outcome.label("kind"),
            cast(null(), JSONB).label("evidence"),
        )
        .select_from(compared)
        .join(item, item.c.id == compared.c.item_id)
        .outerjoin(ledger, ledger.c.item_id == compared.c.item_id)
        .outerjoin(opening, opening.c.id == ledger.c.batch_id)
        .outerjoin(record, record.c.item_id == compared.c.item_id)
        .where(outcome.not_in([*MATCHING, *APART]))
    )


def _recorded(shape: Shape, compared: FromClause) -> Subquery:
    """Of the items whose fields differ: what each legacy column was last written to since the copy, as `known`; and who
    wrote it, and when, where the opening batch did not take that, as `not_taken`. Both are JSON by column."""
    write = shape.relation(tables.legacy_write, "write")
    ledger = shape.relation(tables.copy_ledger, "written_ledger")
    change = func.jsonb_each(write.c.after).table_valued(column("key", Text), column("value", JSONB), name="change")
    at = func.to_char(func.timezone("UTC", write.c.at), "YYYY-MM-DD HH24:MI:SS UTC")
    by = func.coalesce(func.nullif(write.c.application, ""), "without a name")
    who = case((~write.c.followed, func.to_jsonb(func.format("application %s at %s", by, at))))
    return (
        select(
            write.c.item_id,
            func.jsonb_object_agg(change.c.key, aggregate_order_by(change.c.value, write.c.id)).label("known"),
            func.jsonb_object_agg(change.c.key, aggregate_order_by(who, write.c.id), type_=JSONB).label("not_taken"),
        )
        .join(compared, and_(compared.c.item_id == write.c.item_id, compared.c.outcome == "FIELDS_DIFFER"))
        .join(ledger, ledger.c.item_id == write.c.item_id)
        .join(change, true())
        .where(write.c.at > ledger.c.copied_at, write.c.operation.in_(WRITES))
        .group_by(write.c.item_id)
        .subquery("record")
    )


def _shown(value: ColumnElement[object]) -> ColumnElement[str]:
    return func.coalesce(cast(value, Text), "NULL")
