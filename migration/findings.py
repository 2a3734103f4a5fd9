"""What is wrong beside the items that do not match, each named with its evidence and a proposed repair (R20, R21).

| kind | what is wrong | the check |
|---|---|---|
| FLAG_WITHOUT_COPY | the flag says that the item is on batches, but it was never copied | flagged but never copied |
| UNBALANCED | what was copied and what moved since is not what is there | baseline plus movements |
| DRIFT | the legacy columns were written after the cut-over | drift |
| UNRECORDED_DRIFT | the same, and nothing recorded it | originals |
| WRITE_BACK_WRONG | write-back is on, and the legacy columns are not what the batches say | write-back |
| ITEM_LOST | a copied item is gone, and nothing recorded who deleted it | items lost |
| ORPHAN | a batch of an item that is not there | batches with an unknown itemId |
| UNKNOWN_LOCATION, UNKNOWN_USER | a batch refers to a location or user that is not there | ... an unknown locationId |

An item can match and be found here all the same. Where the flag's default is true, it says nothing.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    FromClause,
    Integer,
    Select,
    Text,
    case,
    cast,
    column,
    exists,
    func,
    insert,
    literal,
    literal_column,
    null,
    select,
    table,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, aggregate_order_by, array
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from db.shape import Shape
from migration.candidates import Among
from migration.checks import Check, drifted, unbalanced
from migration.comparison import EXAMPLES, dangling
from migration.fingerprint import fingerprint, legacy_hash, text_hash
from migration.mismatches import EMPTY, evidence, last_known, object_of, recorded, unrecorded, whole, writer_of
from migration.sieve import Sifted
from migration.written_back import write_back_wrong

CHECKED = {
    "UNBALANCED": "baseline plus movements",
    "FLAG_WITHOUT_COPY": "flagged but never copied",
    "ITEM_LOST": "items lost",
    "ORPHAN": "batches with an unknown itemId",
    "UNKNOWN_LOCATION": "batches with an unknown locationId",
    "UNKNOWN_USER": "batches with an unknown assignedUserId",
    "DRIFT": "drift",
    "UNRECORDED_DRIFT": "originals",
    "WRITE_BACK_WRONG": "write-back",
}
"""By kind: the check that says there is none."""
BROKEN = {"itemId": "ORPHAN", "locationId": "UNKNOWN_LOCATION", "assignedUserId": "UNKNOWN_USER"}

# Where every new row has the flag, it tells nothing of the item.
FLAG_OFF_BY_DEFAULT: ColumnElement[bool] = literal_column(
    """
    NOT EXISTS (
        SELECT FROM pg_catalog.pg_attrdef d
        JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
        WHERE d.adrelid = to_regclass('public.items') AND a.attname = 'useBatchSystem'
          AND pg_get_expr(d.adbin, d.adrelid) = 'true'
    )
    """
)


KEPT = ("name", "quantityInStock", "companyId")

UNKNOWN: ColumnElement[object] = cast(null(), JSONB)


async def list_findings(
    connection: AsyncConnection,
    shape: Shape,
    verification_id: int,
    company: str | None,
    sifted: Sifted,
    broken: Collection[str],
    *,
    may_be_lost: bool,
) -> Mapping[str, Check]:
    """Lists them behind the report's mismatches, and answers the check of each kind.

    Items that the sieve proved plain are none of these. Only references in these columns can be `broken`; copied items
    may be lost only if `may_be_lost`.
    """
    queries = _broken(shape, company, broken)
    if not sifted.clean:
        queries += [
            _drift(shape, company),
            _unbalanced(shape, company, sifted.rest),
            _unwritten(shape, company),
            *_flagged(shape, company),
        ]
        if shape.has_legacy_columns:
            queries.append(_unrecorded_drift(shape, company, sifted.rest))
    if shape.has_legacy_columns and may_be_lost:
        queries.append(_lost(shape, company, await _unseen_until(connection)))
    count = await _list(connection, verification_id, queries) if queries else {}
    checks = {}
    for kind, name in CHECKED.items():
        number, examples = count.get(kind, (0, None))
        checks[kind] = Check(name, number == 0, "0", str(number), examples)
    return checks


async def _list(
    connection: AsyncConnection, verification_id: int, queries: Sequence[Select[str]]
) -> Mapping[str, tuple[int, str]]:
    """By kind: how many there are, and some examples."""
    mismatch = tables.verification_mismatch
    found = union_all(*queries).subquery("finding")
    mine = mismatch.c.verification_id == verification_id
    last = select(func.coalesce(func.max(mismatch.c.position), 0)).where(mine).scalar_subquery()
    rows = select(
        literal(verification_id, BigInteger),
        last + func.row_number().over(order_by=(found.c.item_id, found.c.kind, found.c.cause)),
        found.c.item_id,
        func.coalesce(found.c.item_name, ""),
        found.c.legacy,
        found.c.batches,
        func.coalesce(found.c.batches, 0) - func.coalesce(found.c.legacy, 0),
        found.c.fields,
        found.c.cause,
        found.c.repair,
        found.c.kind,
        found.c.evidence,
    )
    await connection.execute(insert(mismatch).from_select([column.name for column in mismatch.columns], rows))
    number = func.row_number().over(partition_by=mismatch.c.kind, order_by=mismatch.c.position)
    listed = (
        select(mismatch.c.kind, mismatch.c.item_id, mismatch.c.cause, number.label("number"))
        .where(mine, mismatch.c.kind.in_(CHECKED))
        .subquery("listed")
    )
    example = func.format("item %s: %s", listed.c.item_id, listed.c.cause)
    counted = select(
        listed.c.kind,
        func.count(),
        func.string_agg(example, aggregate_order_by(literal("; ", Text), listed.c.number)).filter(
            listed.c.number <= EXAMPLES
        ),
    ).group_by(listed.c.kind)
    return {kind: (found, examples) for kind, found, examples in await connection.execute(counted)}


def _row(
    kind: str,
    item: FromClause,
    *,
    item_id: ColumnElement[str],
    batches: ColumnElement[int],
    cause: ColumnElement[str],
    repair: ColumnElement[str],
    proof: ColumnElement[object],
    fields: tuple[str, ...] = (),
) -> Select[str]:
    """A selection of findings, from `item` and what the caller joins to it."""
    return select(
        item_id.label("item_id"),
        item.c.name.label("item_name"),
        cast(item.c.quantityInStock, BigInteger).label("legacy"),
        cast(batches, BigInteger).label("batches"),
        cast(array([literal(name, Text) for name in fields], type_=Text), ARRAY(Text)).label("fields"),
        cast(cause, Text).label("cause"),
        cast(repair, Text).label("repair"),
        literal(kind, Text).label("kind"),
        proof.label("evidence"),
    )


def _broken(shape: Shape, company: str | None, columns: Collection[str]) -> list[Select[str]]:
    """Batches that refer to what is not there. Who took an item away is in the legacy writes; a location, nowhere."""
    rows = []
    item, owner = (shape.relation(tables.items, name) for name in ("broken_item", "opening_item"))
    ledger = shape.relation(tables.copy_ledger, "opening_ledger")
    for name, query in dangling(shape, company).items():
        reference = name.rpartition(" ")[2]
        if reference not in columns:
            continue
        batch = query.subquery("broken")
        write = shape.relation(tables.legacy_write, "deleted")
        deleted: ColumnElement[object] = (
            select(writer_of(write))
            .where(write.c.item_id == batch.c.item_id, write.c.operation.in_(["DELETE", "TRUNCATE"]))
            .order_by(write.c.id.desc())
            .limit(1)
            .scalar_subquery()
        )
        orphan = reference == "itemId"
        repair: ColumnElement[str] = func.format(
            "archive batch %s: its item is gone" if orphan else f"set {reference} of batch %s to NULL", batch.c.batch_id
        )
        if orphan:
            back = func.format("give batch %s back to item %s, which it is a copy of", batch.c.batch_id, owner.c.id)
            repair = case((owner.c.id.is_not(null()), back), else_=repair)
        rows.append(
            _row(
                BROKEN[reference],
                item,
                item_id=batch.c.item_id,
                batches=batch.c.quantity,
                cause=func.format(
                    "batch %s (%s units) refers to %s, which is not there",
                    batch.c.batch_id,
                    batch.c.quantity,
                    batch.c.value,
                ),
                repair=repair,
                proof=evidence(
                    deleted if orphan else UNKNOWN,
                    UNKNOWN,
                    object_of({"batch": batch.c.batch_id, reference: batch.c.value}),
                ),
                fields=() if orphan else (reference,),
            )
            .select_from(batch)
            .outerjoin(item, item.c.id == batch.c.item_id)
            .outerjoin(ledger, ledger.c.batch_id == batch.c.batch_id)
            .outerjoin(owner, owner.c.id == ledger.c.item_id)
        )
    return rows


def _drift(shape: Shape, company: str | None) -> Select[str]:
    """By item: its legacy columns before the first write that was not settled, and after the last."""
    item = shape.relation(tables.items, "drift_item")
    write = drifted(shape, company).subquery("drift")
    change = func.jsonb_each(write.c.after).table_valued(column("key", Text), column("value", JSONB), name="change")
    before = write.c.before[change.c.key]
    by_item = (
        select(
            write.c.item_id,
            func.jsonb_object_agg(change.c.key, aggregate_order_by(before, write.c.id.desc())).label("old"),
            func.jsonb_object_agg(change.c.key, aggregate_order_by(change.c.value, write.c.id)).label("new"),
            func.array_agg(aggregate_order_by(writer_of(write), write.c.id.desc()))[1].label("writer"),
            func.count(write.c.id.distinct()).label("writes"),
        )
        .join(change, true())
        .group_by(write.c.item_id)
        .subquery("drifted")
    )
    return (
        _row(
            "DRIFT",
            item,
            item_id=item.c.id,
            batches=_there(shape, item.c.id),
            cause=func.format(
                "the legacy columns were written %s times since the cut-over: %s -> %s",
                by_item.c.writes,
                by_item.c.old,
                by_item.c.new,
            ),
            repair=func.format(
                "decide: `stockshift repair --accept-drift %s` writes it into the batches, `--keep-batches %s` lets"
                " the batches stand",
                item.c.id,
                item.c.id,
            ),
            proof=evidence(by_item.c.writer, by_item.c.old, by_item.c.new),
        )
        .select_from(item)
        .join(by_item, by_item.c.item_id == item.c.id)
    )


def _unrecorded_drift(shape: Shape, company: str | None, among: Among) -> Select[str]:
    """Of items that are cut over: their legacy columns are not as they were when they were last seen."""
    item, ledger = shape.relation(tables.items, "unseen_item"), shape.relation(tables.copy_ledger, "unseen_ledger")
    touched = (
        select(ledger.c.item_id)
        .join(item, item.c.id == ledger.c.item_id)
        .where(
            ledger.c.cut_over_at.is_not(null()),
            among(ledger.c.item_id),
            (fingerprint(legacy_hash(item), text_hash(ledger.c.original)) == ledger.c.fingerprint).is_not(true()),
            true() if company is None else item.c.companyId == company,
        )
        .cte("touched", nesting=True)
    )
    record = recorded(shape, touched)
    row = (
        select(item, last_known(ledger, record, whole(item)).label("was"), whole(item).label("now"))
        .select_from(touched)
        .join(item, item.c.id == touched.c.item_id)
        .join(ledger, ledger.c.item_id == touched.c.item_id)
        .outerjoin(record, record.c.item_id == touched.c.item_id)
        .offset(0)  # a fence: the JSON once a row, not once a column
        .subquery("unseen")
    )
    before, after = unrecorded(row, row.c.was, row.c.now)
    return _row(
        "UNRECORDED_DRIFT",
        row,
        item_id=row.c.id,
        batches=_there(shape, row.c.id),
        cause=func.format(
            "the legacy columns were written since the cut-over, and nothing recorded it: %s -> %s", before, after
        ),
        repair=literal("record the write; then it is drift, which can be decided", Text),
        proof=evidence(UNKNOWN, before, after),
    ).where(after != EMPTY)


async def _unseen_until(connection: AsyncConnection) -> datetime | None:
    """While a contract stood, nothing was captured of items: who deletes one then is not recorded."""
    archive = tables.archive
    if await connection.scalar(select(func.to_regclass(archive.fullname))) is None:
        return None  # expanded by an earlier version
    until = select(func.max(archive.c.undone_at)).where(archive.c.kind == "CONTRACT")
    found: datetime | None = await connection.scalar(until)
    return found


def _lost(shape: Shape, company: str | None, since: datetime | None) -> Select[str]:
    """Copied items that are not there, though the last that is recorded of them is not that they were deleted."""
    item, ledger = shape.relation(tables.items, "present_item"), shape.relation(tables.copy_ledger, "lost_ledger")
    write, movement = (
        shape.relation(tables.legacy_write, "last_write"),
        shape.relation(tables.movement, "last_movement"),
    )
    kept = {name: func.json_extract_path_text(ledger.c.original, literal(name, Text)) for name in KEPT}
    last = (
        select(write.c.operation)
        .where(
            write.c.item_id == ledger.c.item_id,
            write.c.at > ledger.c.copied_at,
            write.c.operation.in_(["INSERT", "DELETE", "TRUNCATE"]),
        )
        .order_by(write.c.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    lost = (
        select(
            ledger.c.item_id,
            ledger.c.batch_id,
            ledger.c.original,
            kept["name"].label("name"),
            cast(kept["quantityInStock"], Integer).label("quantityInStock"),
        )
        .where(
            ~exists().where(item.c.id == ledger.c.item_id),
            func.coalesce(last, "").not_in(["DELETE", "TRUNCATE"]),
            true() if since is None else ledger.c.copied_at > since,
            true() if company is None else kept["companyId"] == company,
        )
        .subquery("lost")
    )
    by_whom = (
        select(writer_of(movement))
        .where(movement.c.batch_id == lost.c.batch_id, movement.c.reason.in_(["DELETED", "TRUNCATED"]))
        .order_by(movement.c.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    return _row(
        "ITEM_LOST",
        lost,
        item_id=lost.c.item_id,
        batches=_there(shape, lost.c.item_id),
        cause=literal("the item was copied and is not there any more, and nothing recorded that it was deleted", Text),
        repair=literal("decide: put the item back as the evidence has it, or let it be gone", Text),
        proof=evidence(by_whom, cast(lost.c.original, JSONB), UNKNOWN),
    )


def _unbalanced(shape: Shape, company: str | None, among: Among) -> Select[str]:
    item = shape.relation(tables.items, "balanced_item")
    found = unbalanced(shape, company, among).subquery("unbalanced")
    return (
        _row(
            "UNBALANCED",
            item,
            item_id=item.c.id,
            batches=found.c.there,
            cause=func.format("%s copied, %s moved, %s there", found.c.copied, found.c.moved, found.c.there),
            repair=func.format(
                "record a movement of %s units, REPAIRED, that names the difference",
                found.c.there - found.c.copied - found.c.moved,
            ),
            proof=evidence(
                UNKNOWN,
                object_of({"quantity": found.c.copied + found.c.moved}),
                object_of({"quantity": found.c.there}),
            ),
        )
        .select_from(item)
        .join(found, found.c.item_id == item.c.id)
    )


def _unwritten(shape: Shape, company: str | None) -> Select[str]:
    item = shape.relation(tables.items, "unwritten_item")
    found = write_back_wrong(shape, company).subquery("unwritten")
    is_now = {"quantity": item.c.quantityInStock, "status": cast(item.c.status, Text), "locationId": item.c.locationId}
    ought = {"quantity": found.c.quantity, "status": found.c.status, "locationId": found.c.place}
    return (
        _row(
            "WRITE_BACK_WRONG",
            item,
            item_id=item.c.id,
            batches=found.c.quantity,
            cause=literal("write-back is on, and the legacy columns are not what the batches say", Text),
            repair=literal("write the legacy quantity, status and location anew", Text),
            proof=evidence(UNKNOWN, object_of(ought), object_of(is_now)),
        )
        .select_from(item)
        .join(found, found.c.item_id == item.c.id)
    )


def _flagged(shape: Shape, company: str | None) -> list[Select[str]]:
    """Nothing where there is no flag. Nothing records who sets it."""
    name = tables.USE_BATCH_SYSTEM.name
    if not shape.has_columns(tables.items, [name]):
        return []
    item = shape.relation(tables.items, "flagged_item")
    flag = table("items", column("id", Text), column(name, Boolean), schema="public").alias("flag")
    ledger = shape.relation(tables.copy_ledger, "flagged_ledger")
    return [
        _row(
            "FLAG_WITHOUT_COPY",
            item,
            item_id=item.c.id,
            batches=_there(shape, item.c.id),
            cause=literal("the flag says that the item is on batches, but it was never copied", Text),
            repair=literal("copy the item, or take the flag off where it cannot be copied", Text),
            proof=evidence(UNKNOWN, UNKNOWN, object_of({name: flag.c[name]})),
        )
        .select_from(flag)
        .join(item, item.c.id == flag.c.id)
        .where(
            flag.c[name],
            ~exists().where(ledger.c.item_id == flag.c.id),
            FLAG_OFF_BY_DEFAULT,
            true() if company is None else item.c.companyId == company,
        )
    ]


def _there(shape: Shape, item_id: ColumnElement[str]) -> ColumnElement[int]:
    batch = shape.relation(tables.stock_batches, "there")
    return select(func.sum(batch.c.quantity)).where(batch.c.itemId == item_id).scalar_subquery()
