"""Whether every copied item is as it was copied, or was changed by writes that are recorded (R20)."""

from sqlalchemy import (
    ColumnElement,
    Double,
    FromClause,
    Numeric,
    Select,
    Text,
    case,
    cast,
    func,
    literal,
    or_,
    select,
    true,
)

from db import tables
from db.shape import Shape
from migration.candidates import Among
from migration.fingerprint import fingerprint, legacy_hash, text_hash
from migration.mismatches import last_known, recorded, whole


def unrecorded(shape: Shape, company: str | None, among: Among) -> Select[str]:
    """The copied items among these whose legacy columns are neither, each `named` with the columns."""
    item = shape.relation(tables.items, "original_item")
    ledger = shape.relation(tables.copy_ledger, "original_ledger")
    same = fingerprint(legacy_hash(item), text_hash(ledger.c.original)) == ledger.c.fingerprint
    changed = (
        select(ledger.c.item_id)
        .join(item, item.c.id == ledger.c.item_id)
        .where(
            same.is_not(true()),
            among(ledger.c.item_id),
            true() if company is None else item.c.companyId == company,
        )
        .cte("changed")
    )
    write = recorded(shape, changed)
    now = whole(item)
    row = (
        select(
            item.c.id,
            *[item.c[name] for name in tables.COMPARED_COLUMNS.values()],
            now.label("now"),
            last_known(ledger, write, now).label("known"),
        )
        .select_from(changed)
        .join(item, item.c.id == changed.c.item_id)
        .join(ledger, ledger.c.item_id == changed.c.item_id)
        .outerjoin(write, write.c.item_id == changed.c.item_id)
        .offset(0)  # a fence: the JSON once a row, not once a column
        .subquery("changed_row")
    )
    differs = {name: _differs(row, name) for name in tables.COMPARED_COLUMNS.values()}
    columns = func.concat_ws(", ", *[case((differs_here, name)) for name, differs_here in differs.items()])
    named = func.format("item %s: %s changed, and no write of it is recorded", row.c.id, columns)
    return select(named.label("named")).where(or_(*differs.values()))


def _differs(row: FromClause, name: str) -> ColumnElement[bool]:
    """Of a number fifteen digits, which is what a session that wrote it shows at least."""
    known = func.jsonb_extract_path_text(row.c.known, literal(name, Text))
    if isinstance(row.c[name].type, Double):
        return cast(cast(known, Double), Numeric).is_distinct_from(cast(row.c[name], Numeric))
    return func.jsonb_extract_path_text(row.c.now, literal(name, Text)).is_distinct_from(known)
