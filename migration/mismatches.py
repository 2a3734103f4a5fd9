"""What is wrong with an item that does not match: of which kind, by whom, its likely cause, a proposed repair (R21).

| kind | what is wrong |
|---|---|
| COPIED_WRONG | the opening batch differs from the legacy columns, and neither was touched since the copy |
| OPENING_BATCH_CHANGED | the opening batch was changed, though the item is not cut over |
| LEGACY_WRITE_NOT_FOLLOWED | a recorded write of the legacy columns, which the opening batch could not take |
| LEGACY_CHANGED_UNRECORDED | the legacy columns were written while the trigger was off |
| BOTH_CHANGED | the opening batch was changed, and the legacy columns written without it |
| BATCH_LOST | the opening batch is gone, or is another item's |
| COPIED_TWICE | a second batch is a copy of the item |
| NOT_COPIED | the item could have been copied, and nothing says why it was not |
| HIDDEN_LEGACY_STOCK | the item has batches but was never copied |

Those of migration/findings.py are of items that may match otherwise.

Evidence is JSON: `who` (the actor of ours, else the role), `when`, `application`, `role` and `reason` of the latest
write that explains it, each null where nobody recorded one; `old` and `new` are what was there before and what is there
now, by column.
"""

import json
from collections.abc import Mapping

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Double,
    FromClause,
    Numeric,
    Select,
    Subquery,
    Text,
    and_,
    case,
    cast,
    column,
    exists,
    false,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import JSONB, aggregate_order_by, distinct_on

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
DIFFERENT = {
    "BOTH_CHANGED": "the legacy columns and the opening batch were both changed after the copy",
    "LEGACY_CHANGED_UNRECORDED": "the legacy columns were written after the copy, and nothing recorded it",
    "COPIED_WRONG": "the opening batch was copied so, and not changed since",
    "OPENING_BATCH_CHANGED": "the opening batch was changed after the copy",
}
REPAIRS = {
    "BATCH_LOST": "put the opening batch back from the copy ledger",
    "NOT_COPIED": "run `stockshift migrate` again: it copies what is new",
    "HIDDEN_LEGACY_STOCK": "leave one batch that equals the item, or none; then run `stockshift migrate` again",
}
EMPTY: ColumnElement[object] = cast(literal("{}", Text), JSONB)
JSON_NULL: ColumnElement[object] = cast(literal("null", Text), JSONB)
_NO_VALUES: ColumnElement[object] = cast(
    literal(json.dumps(dict.fromkeys(tables.COMPARED_COLUMNS.values())), Text), JSONB
)
INSTANT = 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'


def listing(compared: FromClause, shape: Shape, verification_id: int) -> Select[int, str]:
    """The mismatches, each with its kind, likely cause, evidence and a proposed repair, as rows of
    `verification_mismatch`."""
    item = shape.relation(tables.items, "listed_item")
    ledger = shape.relation(tables.copy_ledger, "listed_ledger")
    opening = shape.relation(tables.stock_batches, "listed_opening")
    differing_items = select(compared.c.item_id).where(compared.c.outcome.in_(["FIELDS_DIFFER", "NOT_COPIED"]))
    record = recorded(shape, differing_items.subquery("differing_items"))
    moved = _moved(shape, compared)
    now = whole(item)
    known = last_known(ledger, record, now)
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
    # Rows of one transaction that nobody wrote since: the copy made the batch as it is.
    as_copied = (
        literal_column("listed_opening.xmin::text = listed_ledger.xmin::text")
        if shape.has(tables.stock_batches) and shape.has(tables.copy_ledger)
        else false()
    )
    outcome = compared.c.outcome
    kind = case(
        (outcome != "FIELDS_DIFFER", outcome),
        (and_(legacy_changed, batch_changed), "BOTH_CHANGED"),
        (who_wrote.is_not(null()), "LEGACY_WRITE_NOT_FOLLOWED"),
        (legacy_changed, "LEGACY_CHANGED_UNRECORDED"),
        (and_(as_copied, moved.c.batch_id.is_(null())), "COPIED_WRONG"),
        else_="OPENING_BATCH_CHANGED",
    ).label("kind")
    seconds = _seconds(shape, item)
    in_legacy = _object({name: case((differs[name], func.to_jsonb(values[name]))) for name in differs}, differs)
    in_batch = _object({name: case((differs[name], func.to_jsonb(opening.c[name]))) for name in differs}, differs)
    row = (
        select(
            compared.c.item_id,
            compared.c.item_name,
            compared.c.legacy,
            compared.c.batches,
            compared.c.fields,
            kind,
            who_wrote.label("who_wrote"),
            func.concat_ws(", ", *changes).label("changes"),
            opening.c.id.label("opening_id"),
            ledger.c.batch_id.label("copied_id"),
            seconds.label("seconds"),
            only_copies(shape, item, ledger).label("only_copies"),
            in_legacy.label("in_legacy"),
            in_batch.label("in_batch"),
            record.c.writer,
            moved.c.mover,
        )
        .select_from(compared)
        .join(item, item.c.id == compared.c.item_id)
        .outerjoin(ledger, ledger.c.item_id == compared.c.item_id)
        .outerjoin(opening, opening.c.id == ledger.c.batch_id)
        .outerjoin(record, record.c.item_id == compared.c.item_id)
        .outerjoin(moved, moved.c.item_id == compared.c.item_id)
        .where(outcome.not_in([*MATCHING, *APART]))
        .subquery("mismatched")
    )
    return _told(row, verification_id)


def _told(row: FromClause, verification_id: int) -> Select[int, str]:
    """What a row of the classification says to a person, and to a program."""
    found = row.c.kind
    cause = case(
        *[(found == key, words) for key, words in (CAUSES | DIFFERENT).items()],
        else_=func.format(
            "the legacy columns were written by %s, and the opening batch could not take it", row.c.who_wrote
        ),
    )
    repair = case(
        *[(found == key, words) for key, words in REPAIRS.items()],
        (and_(found == "COPIED_TWICE", row.c.only_copies), func.format("delete batch %s", row.c.seconds)),
        (
            found == "COPIED_TWICE",
            func.format(
                "decide: delete batch %s if it is a copy; if it is stock, give it a createdAt of its own",
                row.c.seconds,
            ),
        ),
        else_=func.format("set batch %s to the legacy columns: %s", row.c.opening_id, row.c.changes),
    )
    # A batch that was changed was as the legacy columns are; legacy columns that were written, as the batch is.
    by_batch = found.in_(["OPENING_BATCH_CHANGED", "COPIED_WRONG", "BOTH_CHANGED"])
    by_legacy = found.in_(["LEGACY_WRITE_NOT_FOLLOWED", "LEGACY_CHANGED_UNRECORDED"])
    old = case(
        (by_batch, row.c.in_legacy), (by_legacy, row.c.in_batch), (found == "BATCH_LOST", one("batch", row.c.copied_id))
    )
    new = case(
        (by_batch, row.c.in_batch), (by_legacy, row.c.in_legacy), (found == "COPIED_TWICE", one("batch", row.c.seconds))
    )
    by_whom = case(
        (found.in_(["LEGACY_WRITE_NOT_FOLLOWED", "NOT_COPIED"]), row.c.writer),
        (found.not_in(["LEGACY_CHANGED_UNRECORDED", "COPIED_WRONG"]), row.c.mover),
    )
    return select(
        literal(verification_id, BigInteger),
        func.row_number().over(order_by=row.c.item_id),
        row.c.item_id,
        row.c.item_name,
        row.c.legacy,
        row.c.batches,
        func.coalesce(row.c.batches, 0) - row.c.legacy,
        row.c.fields,
        cause,
        repair,
        found,
        evidence(by_whom, old, new),
    )


def evidence(
    by_whom: ColumnElement[object], old: ColumnElement[object], new: ColumnElement[object]
) -> ColumnElement[object]:
    """`by_whom` is of `writer_of`, or NULL where nobody recorded it."""
    return func.coalesce(by_whom, func.jsonb_build_object(*NOBODY)).op("||")(
        func.jsonb_build_object(literal("old", Text), old, literal("new", Text), new)
    )


NOBODY = [part for key in ("who", "when", "application", "role", "reason") for part in (literal(key, Text), null())]


def writer_of(record: FromClause) -> ColumnElement[object]:
    """Who wrote a row of `movement` or `legacy_write`, when, and by what."""
    actor = record.c.actor if "actor" in record.c else cast(null(), Text)
    reason = record.c.reason if "reason" in record.c else record.c.operation
    return func.jsonb_build_object(
        *[literal("who", Text), func.coalesce(actor, record.c.role)],
        *[literal("when", Text), func.to_char(func.timezone("UTC", record.c.at), INSTANT)],
        *[literal("application", Text), record.c.application],
        *[literal("role", Text), record.c.role],
        *[literal("reason", Text), reason],
    )


def one(key: str, value: ColumnElement[object]) -> ColumnElement[object]:
    """A JSON object of one value; NULL for NULL."""
    return case((value.is_not(null()), func.jsonb_build_object(literal(key, Text), value)))


def object_of(values: Mapping[str, ColumnElement[object]]) -> ColumnElement[object]:
    return func.jsonb_build_object(*[part for name, value in values.items() for part in (literal(name, Text), value)])


def _object(values: dict[str, ColumnElement[object]], there: dict[str, ColumnElement[bool]]) -> ColumnElement[object]:
    """A JSON object of the values that are `there`, NULL ones with them."""
    pairs = [func.jsonb_build_object(literal(name, Text), values[name]) for name in values]
    built = EMPTY
    for name, pair in zip(values, pairs, strict=True):
        built = built.op("||")(case((there[name], pair), else_=EMPTY))
    return built


def _seconds(shape: Shape, item: FromClause) -> ColumnElement[str]:
    second = shape.relation(tables.stock_batches, "second")
    named = func.string_agg(second.c.id, aggregate_order_by(literal(", ", Text), second.c.id))
    return select(named).where(is_second(shape, second, item)).scalar_subquery()


def is_second(shape: Shape, batch: FromClause, item: FromClause) -> ColumnElement[bool]:
    """The batch is as old as its item, as a copy is, and no opening batch."""
    known = shape.relation(tables.copy_ledger, "known_second")
    own = and_(batch.c.itemId == item.c.id, batch.c.createdAt == item.c.createdAt)
    return and_(own, ~exists().where(known.c.batch_id == batch.c.id))


def only_copies(shape: Shape, item: FromClause, ledger: FromClause) -> ColumnElement[bool]:
    """All second batches of the item equal its legacy columns, which are its truth still. One that does not may be
    stock: a part that somebody split off, or what was sold from."""
    second = shape.relation(tables.stock_batches, "odd_second")
    differs = or_(*differing(second, item, ledger.c.choices).values())
    return and_(ledger.c.cut_over_at.is_(null()), ~exists().where(is_second(shape, second, item), differs))


def recorded(shape: Shape, items: FromClause) -> Subquery:
    """Of these items, by `item_id`: what each legacy column was last written to since the copy, as `known`; who wrote
    it, and when, where the opening batch did not take that, as `not_taken`; which were written last while they had
    another name, as `unread`, all JSON by column; and the latest such `writer`."""
    write = shape.relation(tables.legacy_write, "write")
    ledger = shape.relation(tables.copy_ledger, "written_ledger")
    shown = case((write.c.operation == "UNREADABLE", _NO_VALUES.op("||")(write.c.after)), else_=write.c.after)
    change = func.jsonb_each(shown).table_valued(column("key", Text), column("value", JSONB), name="change")
    known = _known(_steps(shape, items))
    at = func.to_char(func.timezone("UTC", write.c.at), "YYYY-MM-DD HH24:MI:SS UTC")
    by = func.coalesce(func.nullif(write.c.application, ""), "without a name")
    unread = case((~write.c.after.has_key(change.c.key), true()))
    who = case((~write.c.followed, func.to_jsonb(func.format("application %s at %s", by, at))))
    latest = func.array_agg(aggregate_order_by(writer_of(write), write.c.id.desc())).filter(~write.c.followed)
    writers = (
        select(
            write.c.item_id,
            func.jsonb_object_agg(change.c.key, aggregate_order_by(who, write.c.id), type_=JSONB).label("not_taken"),
            func.jsonb_strip_nulls(
                func.jsonb_object_agg(change.c.key, aggregate_order_by(unread, write.c.id)), type_=JSONB
            ).label("unread"),
            latest[1].label("writer"),
        )
        .join(items, items.c.item_id == write.c.item_id)
        .outerjoin(ledger, ledger.c.item_id == write.c.item_id)
        .join(change, true())
        .where(_is_since(write, ledger), write.c.operation.in_(WRITES))
        .group_by(write.c.item_id)
        .subquery("writers")
    )
    return (
        select(writers.c.item_id, known.c.known, writers.c.not_taken, writers.c.unread, writers.c.writer)
        .outerjoin(known, known.c.item_id == writers.c.item_id)
        .subquery("record")
    )


def _is_since(write: FromClause, ledger: FromClause) -> ColumnElement[bool]:
    return or_(ledger.c.item_id.is_(null()), write.c.at > ledger.c.copied_at)


def _steps(shape: Shape, items: FromClause) -> Subquery:
    """What was written over, and with what: each value that a column left (-1) or came to (1), by item."""
    write = shape.relation(tables.legacy_write, "step_write")
    ledger = shape.relation(tables.copy_ledger, "step_ledger")
    sides = union_all(
        *[
            select(write.c.item_id, write.c.id, literal(sign).label("sign"), changes.label("changes"))
            .join(items, items.c.item_id == write.c.item_id)
            .outerjoin(ledger, ledger.c.item_id == write.c.item_id)
            .where(_is_since(write, ledger))
            for sign, changes in ((-1, write.c.before), (1, write.c.after))
        ]
    ).subquery("sides")
    step = func.jsonb_each(sides.c.changes).table_valued(column("key", Text), column("value", JSONB), name="step")
    return (
        select(sides.c.item_id, sides.c.id, sides.c.sign, step.c.key, step.c.value).join(step, true()).subquery("steps")
    )


def _known(steps: FromClause) -> Subquery:
    """By item the value that a column came to and did not leave: whatever order the writes were recorded in, for a
    trigger of the shop's writes a row again before the first write of it comes to ours."""
    ends = (
        select(steps.c.item_id, steps.c.key, steps.c.value, func.max(steps.c.id).label("id"))
        .group_by(steps.c.item_id, steps.c.key, steps.c.value)
        .having(func.sum(steps.c.sign) > 0)
        .subquery("ends")
    )
    return (
        select(
            ends.c.item_id,
            func.jsonb_object_agg(ends.c.key, aggregate_order_by(ends.c.value, ends.c.id), type_=JSONB).label("known"),
        )
        .group_by(ends.c.item_id)
        .subquery("known")
    )


def unrecorded(
    item: FromClause, was: ColumnElement[object], now: ColumnElement[object]
) -> tuple[ColumnElement[object], ColumnElement[object]]:
    """How a copied item's legacy columns differ from what `was` recorded of them last (`last_known`): what they were
    and what they are, JSON by column; `now` is the row. Of a number fifteen digits count, which is what a session that
    wrote it shows at least."""
    before, after = EMPTY, EMPTY
    for name in tables.COMPARED_COLUMNS.values():
        key = literal(name, Text)
        old, new = (func.jsonb_extract_path(side, key) for side in (was, now))
        differs = func.nullif(old, JSON_NULL).is_distinct_from(func.nullif(new, JSON_NULL))
        if isinstance(item.c[name].type, Double):
            number = cast(func.jsonb_extract_path_text(was, key), Double)
            differs = cast(number, Numeric).is_distinct_from(cast(item.c[name], Numeric))
        before = before.op("||")(case((differs, object_of({name: old})), else_=EMPTY))
        after = after.op("||")(case((differs, object_of({name: new})), else_=EMPTY))
    return before, after


def last_known(ledger: FromClause, record: FromClause, now: ColumnElement[object]) -> ColumnElement[object]:
    """An item as it was copied, with what was `recorded` since; `now` is the row. It alone knows what a column came to
    by a write that could not be read, and that there was such a write is on record."""
    name = func.jsonb_object_keys(record.c.unread).column_valued("name")
    unread = select(func.jsonb_object_agg(name, now.op("->")(name))).scalar_subquery()
    known: ColumnElement[object] = (
        cast(ledger.c.original, JSONB)
        .op("||")(func.coalesce(record.c.known, EMPTY))
        .op("||")(func.coalesce(case((record.c.unread != EMPTY, unread)), EMPTY))
    )
    return known


def whole(relation: FromClause) -> ColumnElement[object]:
    """A row as JSON, every column of it."""
    return func.to_jsonb(literal_column(relation.name))  # type: ignore[attr-defined]  # each is a table or an alias


def _moved(shape: Shape, compared: FromClause) -> Subquery:
    """Of the mismatches: who last moved the opening batch, or a batch that should not be there, otherwise than the
    legacy columns do, as `mover`."""
    ledger = shape.relation(tables.copy_ledger, "moved_ledger")
    batch = shape.relation(tables.stock_batches, "moved_batch")
    own = shape.relation(tables.copy_ledger, "own_ledger")
    movement = shape.relation(tables.movement, "moved")
    opening = (
        select(ledger.c.item_id, ledger.c.batch_id, ledger.c.copied_at)
        .join(compared, compared.c.item_id == ledger.c.item_id)
        .where(compared.c.outcome.in_(["FIELDS_DIFFER", "BATCH_LOST"]))
    )
    other = (
        select(batch.c.itemId, batch.c.id, null())
        .join(compared, compared.c.item_id == batch.c.itemId)
        .where(
            compared.c.outcome.in_(["COPIED_TWICE", "HIDDEN_LEGACY_STOCK"]),
            ~exists().where(own.c.batch_id == batch.c.id),
        )
    )
    suspect = union_all(opening, other).subquery("suspect")
    return (
        select(suspect.c.item_id, suspect.c.batch_id, writer_of(movement).label("mover"))
        .ext(distinct_on(suspect.c.item_id))
        .join(movement, movement.c.batch_id == suspect.c.batch_id)
        .where(
            movement.c.reason != "LEGACY_WRITE",
            or_(suspect.c.copied_at.is_(null()), movement.c.at > suspect.c.copied_at),
        )
        .order_by(suspect.c.item_id, movement.c.id.desc())
        .subquery("mover")
    )


def _shown(value: ColumnElement[object]) -> ColumnElement[str]:
    return func.coalesce(cast(value, Text), "NULL")
