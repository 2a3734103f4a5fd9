"""A kept verification (R23): as data, as JSON and CSV, and compared with another."""

import csv
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Any, TextIO

import orjson
from sqlalchemy import (
    ColumnElement,
    FromClause,
    Table,
    and_,
    case,
    cast,
    column,
    exists,
    func,
    literal,
    select,
    table,
    true,
)
from sqlalchemy.dialects.postgresql import INTERVAL, OID
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from db.shape import load_shape
from migration.checks import Check
from migration.explanations import Explanation
from migration.verify import LOCK_SPACE

GRACE = timedelta(seconds=10)
"""A report that is RUNNING has its lock after this long, unless whoever made it is gone."""

REPORTS = tables.verification
LOCKS = table(
    "pg_locks",
    *[column(name) for name in ("locktype", "database", "classid", "objid", "objsubid")],
    schema="pg_catalog",
)
DATABASES = table("pg_database", column("oid"), column("datname"), schema="pg_catalog")


@dataclass(frozen=True)
class Mismatch:
    """Quantities are in units; `difference` is batches less legacy. `fields` are the batch's columns that differ.

    `kind` and `evidence` are as migration/mismatches.py says; None in a report of an earlier version.
    """

    item_id: str
    item_name: str
    legacy_quantity: int | None
    batch_quantity: int | None
    difference: int | None
    fields: list[str]
    cause: str
    repair: str | None
    kind: str | None
    evidence: dict[str, Any] | None


@dataclass(frozen=True)
class Conservation:
    """At one place, units and USD: what was copied and what moved since; `conserved` if that is what batches have.

    USD are exact, and text for it.
    """

    company_id: str | None
    location_id: str | None
    status: str | None
    copied_units: int
    moved_units: int
    batch_units: int
    copied_value: str
    moved_value: str
    batch_value: str
    copied_freight: str
    moved_freight: str
    batch_freight: str
    conserved: bool

    @classmethod
    def of(cls, row: dict[str, Any]) -> "Conservation":
        units = {name: int(value) for name, value in row.items() if name.endswith("_units")}
        usd = {name: f"{value:f}" for name, value in row.items() if name.endswith(("_value", "_freight"))}
        return cls(**(row | units | usd))


@dataclass(frozen=True)
class VerificationReport:
    """`state` is RUNNING, PASSED, FAILED or INTERRUPTED. `company_id` None: all companies were verified.

    `row_counts` by table and `fingerprint` by column of items say what it was run against.
    """

    id: int
    company_id: str | None
    state: str
    started_at: datetime
    finished_at: datetime | None
    requested_by: str | None
    items_checked: int
    items_matched: int
    items_mismatched: int
    legacy_quantity: int
    batch_quantity: int
    explained_difference: int
    database: str | None
    server_version: str | None
    row_counts: dict[str, int] | None
    fingerprint: dict[str, str] | None
    checks: list[Check]
    mismatches: list[Mismatch]
    conservation: list[Conservation]
    explanations: list[Explanation]


@dataclass(frozen=True)
class Listed:
    """A report in a list of them; see VerificationReport."""

    id: int
    company_id: str | None
    state: str
    started_at: datetime
    finished_at: datetime | None
    requested_by: str | None
    items_checked: int
    items_mismatched: int


@dataclass(frozen=True)
class Compared:
    """The mismatches of two reports, by item and kind: in the later only, in the earlier only, in both (as later)."""

    new: list[Mismatch]
    gone: list[Mismatch]
    still_there: list[Mismatch]


def state(verification: FromClause) -> ColumnElement[str]:
    """A report's state: one that is RUNNING without the lock of a running verification is INTERRUPTED."""
    held = exists().where(
        LOCKS.c.locktype == "advisory",
        LOCKS.c.database
        == select(DATABASES.c.oid).where(DATABASES.c.datname == func.current_database()).scalar_subquery(),
        LOCKS.c.classid == cast(LOCK_SPACE, OID),
        LOCKS.c.objid == cast(verification.c.id, OID),
        LOCKS.c.objsubid == 2,
    )
    old = verification.c.started_at < func.clock_timestamp() - literal(GRACE, INTERVAL)
    return case((and_(verification.c.state == "RUNNING", old, ~held), "INTERRUPTED"), else_=verification.c.state)


async def latest_reports(connection: AsyncConnection, company: str | None, *, first: int) -> list[Listed]:
    """The latest reports, newest first: of everybody who may verify, or of one company's items alone."""
    if not (await load_shape(connection)).expanded:
        return []
    columns = [
        state(REPORTS).label(each.name) if each.name == "state" else REPORTS.c[each.name] for each in fields(Listed)
    ]
    query = select(*columns).where(_visible_to(company)).order_by(REPORTS.c.id.desc()).limit(first)
    return [Listed(**row._asdict()) for row in await connection.execute(query)]


async def load_report(
    connection: AsyncConnection, verification_id: int, company: str | None
) -> VerificationReport | None:
    """One report with all its mismatches. None when there is none, or when it is not `company`'s."""
    if not (await load_shape(connection)).expanded:
        return None
    columns = [state(REPORTS).label("state") if column.name == "state" else column for column in REPORTS.columns]
    query = select(*columns).where(REPORTS.c.id == verification_id, _visible_to(company))
    found = (await connection.execute(query)).one_or_none()
    if found is None:
        return None
    checks = await _rows_of(connection, tables.verification_check, verification_id)
    mismatches = await _rows_of(connection, tables.verification_mismatch, verification_id)
    conservation = await _rows_of(connection, tables.verification_conservation, verification_id)
    explanations = await _rows_of(connection, tables.verification_explanation, verification_id)
    return VerificationReport(
        **found._asdict(),
        checks=[Check(**row) for row in checks],
        mismatches=[Mismatch(**row) for row in mismatches],
        conservation=[Conservation.of(row) for row in conservation],
        explanations=[Explanation(**row) for row in explanations],
    )


def _visible_to(company: str | None) -> ColumnElement[bool]:
    return true() if company is None else REPORTS.c.company_id == company


async def _rows_of(connection: AsyncConnection, table: Table, verification_id: int) -> list[dict[str, Any]]:
    columns = [column for column in table.columns if column.name not in ("verification_id", "position")]
    query = select(*columns).where(table.c.verification_id == verification_id)
    query = query.order_by(*[column for column in table.primary_key if column.name != "verification_id"])
    return [row._asdict() for row in await connection.execute(query)]


def to_json(report: VerificationReport) -> bytes:
    return orjson.dumps(report, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def write_mismatches_csv(report: VerificationReport, file: TextIO) -> None:
    """One line a mismatch, with a heading; open `file` with newline="". Fields are separated by spaces, evidence is
    JSON."""
    writer = csv.writer(file)
    writer.writerow([column.name for column in fields(Mismatch)])
    for mismatch in report.mismatches:
        told = {"fields": " ".join(mismatch.fields), "evidence": orjson.dumps(mismatch.evidence).decode()}
        writer.writerow((asdict(mismatch) | told).values())


def compare_reports(earlier: VerificationReport, later: VerificationReport) -> Compared:
    """What became of the mismatches from one report to another, by item and kind."""
    before = {(mismatch.item_id, mismatch.kind): mismatch for mismatch in earlier.mismatches}
    after = {(mismatch.item_id, mismatch.kind): mismatch for mismatch in later.mismatches}
    return Compared(
        new=[mismatch for key, mismatch in after.items() if key not in before],
        gone=[mismatch for key, mismatch in before.items() if key not in after],
        still_there=[mismatch for key, mismatch in after.items() if key in before],
    )
