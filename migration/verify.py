"""Verification: both systems compared item by item, in one snapshot, the report kept (R19-R23).

An item *matches* when its opening batch equals its legacy columns. Batches received since explain a difference; they
are no mismatch.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import BigInteger, ColumnElement, Select, case, cast, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import tables
from db.errors import StockshiftError
from db.shape import Shape, load_shape
from migration.candidates import opening_values
from migration.comparison import CAUSES, MATCHING, comparison, count_named, dangling, listing
from migration.expand import rendered

LOCK_SPACE = 0x57C5
"""The advisory locks of running verifications: (LOCK_SPACE, id). A RUNNING report without its lock was interrupted."""


class MigrationNotStarted(StockshiftError):
    """The database has not been expanded yet. Run `stockshift migrate` first; `stockshift plan` shows what it does."""


@dataclass(frozen=True)
class Check:
    name: str
    passed: bool
    expected: str | None
    actual: str | None
    detail: str | None = None


@dataclass(frozen=True)
class Verified:
    """What one verification found. `clean` is `passed` but for items that were held back before it."""

    id: int
    checks: tuple[Check, ...]
    clean: bool

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)


class ByteSink(Protocol):
    def write(self, data: bytes, /) -> object: ...


async def compare(connection: AsyncConnection, shape: Shape, verification_id: int, company: str | None) -> Verified:
    """Compares everything that the caller's transaction sees, and completes the report. REPEATABLE READ, or locks."""
    compared = comparison(shape, company).cte("compared")
    columns = [column.name for column in tables.verification_mismatch.columns]
    listed = insert(tables.verification_mismatch).from_select(columns, listing(compared, shape, verification_id))
    outcome = compared.c.outcome
    count = {
        key: func.count().filter(outcome == key).label(key)
        for key in (*MATCHING, "HELD_BACK", "FIELDS_DIFFER", *CAUSES)
    }
    apart = outcome.in_(["HELD_BACK", "NOTHING_TO_COPY"])
    found = (
        await connection.execute(
            select(
                func.count().label("items"),
                _total(compared.c.legacy).label("legacy"),
                _total(compared.c.batches).label("batches"),
                _total(case((outcome == "BATCHES_WITHOUT_COPY", 0), else_=compared.c.received)).label("received"),
                _total(case((apart, compared.c.legacy), else_=0)).label("apart"),
                *count.values(),
            ).add_cte(listed.cte("listed"))
        )
    ).one()
    number = {key: int(getattr(found, key)) for key in count}
    matched = sum(number[key] for key in MATCHING)
    mismatched = found.items - matched - number["HELD_BACK"]
    explained = found.received - found.apart
    copied = number["MATCH"] + number["FIELDS_DIFFER"] + number["OPENING_BATCH_LOST"] + number["COPIED_TWICE"]
    lost, held_back = number["OPENING_BATCH_LOST"], number["HELD_BACK"]
    checks = (
        Check("items copied", number["NOT_COPIED"] == 0, str(copied + number["NOT_COPIED"]), str(copied)),
        Check("opening batches", lost == 0, str(copied), str(copied - lost)),
        Check(
            "quantities",
            found.legacy + explained == found.batches,
            str(found.legacy + explained),
            str(found.batches),
            f"legacy {found.legacy}, received since {found.received}, not on batches {found.apart}",
        ),
        Check("items match", mismatched == 0, str(found.items - number["HELD_BACK"]), str(matched)),
        Check("copied twice", number["COPIED_TWICE"] == 0, "0", str(number["COPIED_TWICE"])),
        Check("hidden legacy stock", number["BATCHES_WITHOUT_COPY"] == 0, "0", str(number["BATCHES_WITHOUT_COPY"])),
        *[await _none_found(connection, name, query) for name, query in dangling(shape, company).items()],
        Check("held back", True, None, str(held_back), "`stockshift plan` says why" if held_back else None),
    )
    verified = Verified(
        verification_id,
        checks,
        clean=mismatched == number["BATCHES_WITHOUT_COPY"]
        and all(check.passed for check in checks if check.name.startswith("batches with")),
    )
    await connection.execute(
        insert(tables.verification_check),
        [
            {"verification_id": verification_id, "position": position, **vars(check)}
            for position, check in enumerate(checks)
        ],
    )
    await connection.execute(
        update(tables.verification)
        .where(tables.verification.c.id == verification_id)
        .values(
            state="PASSED" if verified.passed else "FAILED",
            finished_at=func.clock_timestamp(),
            items_checked=found.items,
            items_matched=matched,
            items_mismatched=mismatched,
            legacy_quantity=found.legacy,
            batch_quantity=found.batches,
            explained_difference=explained,
        )
    )
    return verified


def _total(value: ColumnElement[int]) -> ColumnElement[int]:
    return cast(func.coalesce(func.sum(value), 0), BigInteger)


async def _none_found(connection: AsyncConnection, name: str, query: Select[str]) -> Check:
    count, examples = await count_named(connection, query)
    return Check(name, count == 0, "0", str(count), ", ".join(examples) or None)


async def count_inexact(connection: AsyncConnection, shape: Shape, run: int) -> int:
    """How many batches that a run copied are not their item bit for bit, times of creation and update included."""
    item = shape.relation(tables.items, "item")
    batch, ledger = tables.stock_batches, tables.copy_ledger
    differs = or_(*[batch.c[name].is_distinct_from(value) for name, value in opening_values(item).items()])
    query = (
        select(func.count())
        .select_from(ledger)
        .join(batch, batch.c.id == ledger.c.batch_id)
        .join(item, item.c.id == ledger.c.item_id)
        .where(ledger.c.run_id == run, ~ledger.c.adopted, differs)
    )
    return (await connection.execute(query)).scalar_one()


async def begin(connection: AsyncConnection, company: str | None, requested_by: str) -> int:
    """A report that is RUNNING; `compare` completes it."""
    made = insert(tables.verification).values(company_id=company, requested_by=requested_by)
    verification_id: int = (await connection.execute(made.returning(tables.verification.c.id))).scalar_one()
    return verification_id


@asynccontextmanager
async def one_snapshot(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction in which every statement sees the same instant."""
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ")
        async with connection.begin():
            yield connection


async def verify(
    engine: AsyncEngine, *, company: str | None = None, requested_by: str, items_csv: ByteSink | None = None
) -> Verified:
    """One verification of all items, or of one company's. Raises MigrationNotStarted before the expansion.

    `items_csv` takes one line an item, of the same snapshot as the report.
    """
    async with engine.begin() as connection:
        if not (await load_shape(connection)).expanded:
            raise MigrationNotStarted
        verification_id = await begin(connection, company, requested_by)
    async with one_snapshot(engine) as connection:
        await connection.execute(select(func.pg_advisory_xact_lock(LOCK_SPACE, verification_id)))
        shape = await load_shape(connection)
        verified = await compare(connection, shape, verification_id, company)
        if items_csv is not None:
            await _write_csv(connection, comparison(shape, company), items_csv)
    return verified


async def _write_csv(connection: AsyncConnection, rows: Select[*tuple[object, ...]], sink: ByteSink) -> None:
    compared = rows.subquery("compared")
    matches = compared.c.outcome.in_(MATCHING)
    query = select(
        compared.c.item_id,
        compared.c.item_name,
        compared.c.legacy.label("legacy_quantity"),
        compared.c.batches.label("batch_quantity"),
        (func.coalesce(compared.c.batches, 0) - compared.c.legacy).label("difference"),
        case((matches, "MATCH"), (compared.c.outcome == "HELD_BACK", "HELD_BACK"), else_="MISMATCH").label("result"),
        func.array_to_string(compared.c.fields, " ").label("fields"),
        compared.c.outcome,
    ).order_by(compared.c.item_id)
    raw = await connection.get_raw_connection()
    driver: Any = raw.driver_connection
    await driver.copy_from_query(rendered(query), output=sink, format="csv", header=True)
