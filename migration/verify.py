"""Verification: both systems compared item by item, in one snapshot, the report kept (R19-R23).

An item *matches* when its opening batch equals its legacy columns. Batches received since explain a difference, and so
does being new, or cut over; they are no mismatch. So nothing is wrong with a copy that is under way.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    Text,
    case,
    cast,
    func,
    insert,
    null,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import tables
from db.errors import StockshiftError
from db.shape import Shape, load_shape
from migration import audit
from migration.archive import rolled_back
from migration.candidates import Among, candidates, everything, opening_values
from migration.checks import Check, all_in_place, none_found
from migration.choices import Chosen
from migration.comparison import APART, MATCHING, NONE, comparison
from migration.conservation import Conserved, check_of, prove
from migration.expand import rendered
from migration.explanations import OF_ITEMS, Explained, explain_items
from migration.failures import explained
from migration.findings import BROKEN, list_findings
from migration.mismatches import CAUSES, listing
from migration.originals import unrecorded
from migration.readers import PLANNED, beside, both
from migration.seen import Seen, keep, look
from migration.sieve import Sifted, proven, sift
from migration.transaction import one_snapshot, settle

NOT_YET = "answered from their legacy columns until `stockshift migrate` is run again"
LOCK_SPACE = 0x57C5
"""The advisory locks of running verifications: (LOCK_SPACE, id). A RUNNING report without its lock was interrupted."""


class MigrationNotStarted(StockshiftError):
    """The database has not been expanded yet. Run `stockshift migrate` first; `stockshift plan` shows what it does."""


@dataclass(frozen=True)
class Verified:
    """What one verification found, in items: every check, those that do not match, `differing` of them copied; and
    those that were not copied and can be, whether that is a mismatch or explained."""

    id: int
    checks: tuple[Check, ...]
    mismatched: int
    differing: int
    not_copied: int

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)


class ByteSink(Protocol):
    def write(self, data: bytes, /) -> object: ...


async def compare(
    connection: AsyncConnection,
    shape: Shape,
    verification_id: int,
    company: str | None,
    reader: AsyncConnection | None = None,
) -> Verified:
    """Compares everything that the caller's transaction sees, and completes the report. REPEATABLE READ, or locks.

    `reader` is another connection with the same snapshot, where there is one.
    """
    for each in filter(None, (connection, reader)):
        await each.execute(PLANNED)
    sifted, seen = await both(
        connection, reader, lambda one: sift(one, shape, company), lambda other: look(other, shape, company)
    )
    sifted = await proven(connection, shape, company, sifted, seen.facts.items, seen.stock.batches)
    compared = (NONE if sifted.clean else comparison(shape, company, sifted.rest)).cte("compared")
    outcome = compared.c.outcome
    count = {
        key: func.count().filter(outcome == key).label(key) for key in (*MATCHING, *APART, "FIELDS_DIFFER", *CAUSES)
    }
    explaining = {
        f"{what} {key}": value.filter(outcome == key).label(f"{what} {key}")
        for key in OF_ITEMS
        for what, value in {
            "units": func.sum(compared.c.explained),
            "first": func.min(compared.c.item_id),
            "last": func.max(compared.c.item_id),
        }.items()
    }
    not_on_batches = outcome.in_([*APART, "NOTHING_TO_COPY"])
    received = outcome.not_in([*APART, "NOTHING_TO_COPY", "CUT_OVER"])
    counted = select(
        func.count().label("items"),
        _total(compared.c.legacy).label("legacy"),
        _total(compared.c.batches).label("batches"),
        _total(case((received, compared.c.explained), else_=0)).label("received"),
        _total(case((not_on_batches, compared.c.legacy), else_=0)).label("not_on_batches"),
        _total(compared.c.explained).label("explained"),
        *count.values(),
        *explaining.values(),
    )
    if not sifted.clean:
        columns = [column.name for column in tables.verification_mismatch.columns]
        listed = insert(tables.verification_mismatch).from_select(columns, listing(compared, shape, verification_id))
        counted = counted.add_cte(listed.cte("listed"))
    result, (conserved, originals) = await both(
        connection,
        reader,
        lambda one: one.execute(counted),
        lambda other: _proofs(other, shape, company, sifted, seen),
    )
    found = result.one()
    # What the sieve proved is not among them: it is all that there is, less what was looked at.
    plain, plain_legacy = seen.facts.items - found.items, seen.facts.legacy - found.legacy
    plain_received = seen.stock.units - found.batches - plain_legacy
    items, legacy, batches = seen.facts.items, seen.facts.legacy, seen.stock.units
    in_all, explained_units = found.received + plain_received, found.explained + plain_received
    number = {key: int(getattr(found, key)) for key in count}
    number["MATCH"] += plain
    matched = sum(number[key] for key in MATCHING)
    apart = sum(number[key] for key in APART)
    mismatched = items - matched - apart
    copied = sum(number[key] for key in ("MATCH", "CUT_OVER", "FIELDS_DIFFER", "BATCH_LOST", "COPIED_TWICE"))
    lost, held_back, new = number["BATCH_LOST"], number["HELD_BACK"], number["NOT_YET_COPIED"]
    cut_over = found.explained - found.received + found.not_on_batches
    beside = await list_findings(
        connection,
        shape,
        verification_id,
        company,
        sifted,
        seen.broken,
        may_be_lost=seen.facts.row_counts.get("copy_ledger") != copied,
    )
    checks = (
        Check(
            "items copied",
            number["NOT_COPIED"] == 0,
            str(copied + number["NOT_COPIED"]),
            str(copied),
            f"{new} new since the copy; {NOT_YET}" if new else None,
        ),
        Check("opening batches", lost == 0, str(copied), str(copied - lost)),
        Check(
            "quantities",
            legacy + explained_units == batches,
            str(legacy + explained_units),
            str(batches),
            f"legacy {legacy}, received since {in_all}, not on batches {found.not_on_batches}"
            + (f", changed since their cut-over {cut_over}" if number["CUT_OVER"] else ""),
        ),
        beside["UNBALANCED"],
        check_of(conserved),
        originals,
        Check("items match", mismatched == 0, str(items - apart), str(matched)),
        Check("copied twice", number["COPIED_TWICE"] == 0, "0", str(number["COPIED_TWICE"])),
        Check("hidden legacy stock", number["HIDDEN_LEGACY_STOCK"] == 0, "0", str(number["HIDDEN_LEGACY_STOCK"])),
        *[beside[kind] for kind in ("FLAG_WITHOUT_COPY", "ITEM_LOST", *BROKEN.values(), "DRIFT", "WRITE_BACK_WRONG")],
        await all_in_place(connection),
        Check("held back", True, None, str(held_back), "`stockshift plan` says why" if held_back else None),
    )
    not_copied = number["NOT_COPIED"]
    verified = Verified(verification_id, checks, mismatched, mismatched - not_copied, not_copied + new)
    told_of = found._asdict()
    of_items = {
        key: Explained(
            number[key],
            int(told_of[f"units {key}"] or 0),
            tuple(told_of[f"{which} {key}"] for which in ("first", "last") if number[key]),
        )
        for key in OF_ITEMS
    }
    explanations = [*seen.explanations, *await explain_items(connection, shape, company, of_items)]
    await keep(connection, verification_id, checks, conserved, explanations)
    facts = seen.facts
    kept = (
        update(tables.verification)
        .where(tables.verification.c.id == verification_id)
        .values(
            state="PASSED" if verified.passed else "FAILED",
            finished_at=func.clock_timestamp(),
            items_checked=items,
            items_matched=matched,
            items_mismatched=mismatched,
            legacy_quantity=legacy,
            batch_quantity=batches,
            explained_difference=explained_units,
            database=facts.database,
            server_version=facts.server_version,
            row_counts={**facts.row_counts, "stock_batches": seen.stock.batches},
            fingerprint=facts.fingerprint,
        )
        .returning(tables.verification.c.requested_by)
    )
    by: str | None = await connection.scalar(kept)
    told: dict[str, object] = {} if company is None else {"company": company}
    told |= {"verification": verification_id, "passed": verified.passed}
    await audit.record(connection, "VERIFIED", by or "", **told, items=items, mismatched=mismatched)
    return verified


async def _proofs(
    connection: AsyncConnection, shape: Shape, company: str | None, sifted: Sifted, seen: Seen
) -> tuple[list[Conserved], Check]:
    """Conservation, and that the originals are as they were or were written to on record."""
    conserved = await prove(connection, shape, company, sifted, seen.stock, seen.moved)
    if sifted.clean or not shape.has_legacy_columns:
        return conserved, Check("originals", True, "0", "0")
    return conserved, await none_found(connection, "originals", unrecorded(shape, company, sifted.rest))


def _total(value: ColumnElement[int]) -> ColumnElement[int]:
    return cast(func.coalesce(func.sum(value), 0), BigInteger)


async def find_wrong(
    connection: AsyncConnection,
    shape: Shape,
    verification_id: int,
    run: int,
    among: Among = everything,
    chosen: Chosen = None,
) -> list[str]:
    """What a run of the items `among` did wrong, or left undone, each as words: mismatches, and inexact copies.

    A copy is exact when it is its item bit for bit, times of creation and update included, and the ledger has the
    item's row as it is. A mismatch from before the run is none of its doing.
    """
    mismatch, ledger, batch = tables.verification_mismatch, tables.copy_ledger, tables.stock_batches
    left = select(func.format("item %s: %s", mismatch.c.item_id, mismatch.c.cause)).where(
        mismatch.c.verification_id == verification_id,
        mismatch.c.item_id.in_(select(ledger.c.item_id).where(ledger.c.run_id == run)),
    )
    candidate = candidates(shape, shape.relation(tables.items, "uncopied"), among, chosen).subquery("candidate")
    forgotten = select(func.format("item %s: it was not copied", candidate.c.id)).where(candidate.c.reason.is_(null()))
    item = shape.relation(tables.items, "item")
    row = tables.items.alias("row")
    values = opening_values(item, ledger.c.choices)
    # record_image_ne compares bits: 0 and -0 differ, and so do texts that a collation holds for equal.
    copy_differs = func.record_image_ne(
        func.row(*[batch.c[name] for name in values]),
        func.row(*[cast(value, batch.c[name].type) for name, value in values.items()]),
    )
    original_differs = cast(ledger.c.original, Text).is_distinct_from(cast(func.row_to_json(text('"row"')), Text))
    inexact = (
        select(func.format("item %s: the copy is not exact", ledger.c.item_id))
        .select_from(ledger)
        .join(batch, batch.c.id == ledger.c.batch_id)
        .join(item, item.c.id == ledger.c.item_id)
        .join(row, row.c.id == ledger.c.item_id)
        .where(ledger.c.run_id == run, or_(original_differs, ~ledger.c.adopted & copy_differs))
    )
    return [name for query in (left, forgotten, inexact) for name in (await connection.execute(query)).scalars()]


async def begin(connection: AsyncConnection, company: str | None, requested_by: str) -> int:
    """A report that is RUNNING; `compare` completes it."""
    made = insert(tables.verification).values(company_id=company, requested_by=requested_by)
    verification_id: int = (await connection.execute(made.returning(tables.verification.c.id))).scalar_one()
    return verification_id


async def start(engine: AsyncEngine, *, company: str | None = None, requested_by: str) -> int:
    """Begins a report, for all to see, and answers its id. Raises MigrationNotStarted before the expansion, and after
    a rollback."""
    async with explained(engine), one_snapshot(engine) as connection:
        words = await rolled_back(connection)
        if words or not (await load_shape(connection)).expanded:
            raise MigrationNotStarted(words)
        return await begin(connection, company, requested_by)


async def complete(
    engine: AsyncEngine, verification_id: int, *, company: str | None = None, items_csv: ByteSink | None = None
) -> Verified:
    """Verifies for a report that was begun for the same company. One that fails or is killed reads as INTERRUPTED."""
    async with explained(engine), one_snapshot(engine) as connection:
        await connection.execute(select(func.pg_advisory_xact_lock(LOCK_SPACE, verification_id)))
        await settle(connection)
        shape = await load_shape(connection)
        async with beside(engine, connection) as reader:
            verified = await compare(connection, shape, verification_id, company, reader)
        if items_csv is not None:
            await _write_csv(connection, comparison(shape, company), items_csv)
    return verified


async def verify(
    engine: AsyncEngine, *, company: str | None = None, requested_by: str, items_csv: ByteSink | None = None
) -> Verified:
    """One verification of all items, or of one company's. Raises MigrationNotStarted before the expansion,
    ConnectionFailed, and what `explained` says.

    `items_csv` takes one line an item, of the same snapshot as the report.
    """
    verification_id = await start(engine, company=company, requested_by=requested_by)
    return await complete(engine, verification_id, company=company, items_csv=items_csv)


async def _write_csv(connection: AsyncConnection, rows: Select[*tuple[object, ...]], sink: ByteSink) -> None:
    compared = rows.subquery("compared")
    matches = compared.c.outcome.in_(MATCHING)
    query = select(
        compared.c.item_id,
        compared.c.item_name,
        compared.c.legacy.label("legacy_quantity"),
        compared.c.batches.label("batch_quantity"),
        (func.coalesce(compared.c.batches, 0) - compared.c.legacy).label("difference"),
        case((matches, "MATCH"), (compared.c.outcome.in_(APART), compared.c.outcome), else_="MISMATCH").label("result"),
        func.array_to_string(compared.c.fields, " ").label("fields"),
        compared.c.outcome,
    ).order_by(compared.c.item_id)
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    await driver.copy_from_query(rendered(query), output=sink, format="csv", header=True)
