"""The tables, each said once: the shop's own as far as we read them, `stock_batches`, and those of schema `stockshift`.

The shop's tables are described, never created: a real one may have more columns, and its legacy columns may be
nullable. `stock_batches` is what an ORM that owns `public` will see, so its names and types are the shop's.
"""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    Identity,
    Index,
    Integer,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB, TIMESTAMP
from sqlalchemy.types import UserDefinedType


class StatusType(UserDefinedType[str]):
    """The shop's enum `Status`: its labels are the database's business, so they pass as text."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return 'public."Status"'


STATUS = StatusType()
WALL_CLOCK = TIMESTAMP(precision=3)  # the shop stores UTC without a zone
INSTANT = TIMESTAMP(timezone=True)

legacy = MetaData(schema="public")

users = Table(
    "users",
    legacy,
    Column("id", Text, primary_key=True),
    Column("name", Text),
    Column("companyId", Text),
)

locations = Table(
    "locations",
    legacy,
    Column("id", Text, primary_key=True),
    Column("name", Text),
    Column("companyId", Text),
)

items = Table(
    "items",
    legacy,
    Column("id", Text, primary_key=True),
    Column("name", Text),
    Column("status", STATUS),
    Column("quantityInStock", Integer),
    Column("costPerUnitUSD", Double),
    Column("freightCostUSD", Double),
    Column("sellingPriceSRD", Double),
    Column("orderDate", WALL_CLOCK),
    Column("expectedArrival", WALL_CLOCK),
    Column("orderNumber", Text),
    Column("minStockLevel", Integer),
    Column("notes", Text),
    Column("createdAt", WALL_CLOCK),
    Column("updatedAt", WALL_CLOCK),
    Column("companyId", Text),
    Column("assignedUserId", Text),
    Column("locationId", Text),
)

USE_BATCH_SYSTEM = Column("useBatchSystem", Boolean, server_default=text("false"))

stock_batches = Table(
    "stock_batches",
    legacy,
    Column("id", Text, nullable=False),
    Column("quantity", Integer, nullable=False, server_default=text("0")),
    Column("status", STATUS, nullable=False, server_default=text("'ToOrder'")),
    Column("costPerUnitUSD", Double, nullable=False),
    Column("freightCostUSD", Double, nullable=False, server_default=text("0")),
    Column("orderDate", WALL_CLOCK),
    Column("expectedArrival", WALL_CLOCK),
    Column("arrivedDate", WALL_CLOCK),
    Column("orderNumber", Text),
    Column("notes", Text),
    Column("createdAt", WALL_CLOCK, nullable=False, server_default=text("CURRENT_TIMESTAMP")),
    Column("updatedAt", WALL_CLOCK, nullable=False),
    Column("itemId", Text, nullable=False),
    Column("locationId", Text),
    Column("assignedUserId", Text),
    PrimaryKeyConstraint("id", name="stock_batches_pkey"),
    postgresql_with={"fillfactor": 80},  # room on the page for what follows the shop's sales: no index is touched
)

# What a batch's columns refer to, and what becomes of the batch when that is deleted. Kept apart from the table: the
# keys are added after the copy, when checking them once is cheaper than row by row.
STOCK_BATCHES_REFERENCES = {
    "itemId": (items, "CASCADE"),
    "locationId": (locations, "SET NULL"),
    "assignedUserId": (users, "SET NULL"),
}

# The opening batch's column, and the item's column that it is a copy of.
OPENING_COLUMNS = {
    "quantity": "quantityInStock",
    "status": "status",
    "costPerUnitUSD": "costPerUnitUSD",
    "freightCostUSD": "freightCostUSD",
    "orderDate": "orderDate",
    "expectedArrival": "expectedArrival",
    "orderNumber": "orderNumber",
    "notes": "notes",
    "createdAt": "createdAt",
    "updatedAt": "updatedAt",
    "locationId": "locationId",
    "assignedUserId": "assignedUserId",
}
# The same without the two that change by themselves whenever a row is touched: what both systems must agree on.
COMPARED_COLUMNS = {batch: item for batch, item in OPENING_COLUMNS.items() if batch not in ("createdAt", "updatedAt")}

stockshift = MetaData(schema="stockshift")

# `batches_made` and `flag_made`: the table of batches and the flag are ours; what was there before us stays there.
setting = Table(
    "setting",
    stockshift,
    Column("only_row", Boolean, primary_key=True, server_default=text("true")),
    Column("read_source", Text, nullable=False, server_default=text("'AUTO'")),
    Column("write_back", Boolean, nullable=False, server_default=text("false")),
    Column("batches_made", Boolean, nullable=False, server_default=text("false")),
    Column("flag_made", Boolean, nullable=False, server_default=text("false")),
    CheckConstraint("only_row", name="setting_has_one_row"),
    CheckConstraint("read_source IN ('AUTO', 'LEGACY')", name="setting_read_source_known"),
)

# One row a run. What its driver does is written by the driver alone; `wanted` by whoever wants it to do otherwise.
migration_run = Table(
    "migration_run",
    stockshift,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("driver", Text, nullable=False),
    Column("started_at", INSTANT, nullable=False),
    Column("finished_at", INSTANT),
    Column("items_copied", BigInteger, nullable=False, server_default=text("0")),
    Column("items_held_back", BigInteger, nullable=False, server_default=text("0")),
    Column("state", Text, nullable=False, server_default=text("'RUNNING'")),
    Column("wanted", Text, nullable=False, server_default=text("'RUN'")),
    Column("place", Text, nullable=False, server_default=text("'command'")),
    Column("requested_by", Text),
    Column("stage", Text),
    Column("after_id", Text),
    Column("items_total", BigInteger, nullable=False, server_default=text("0")),
    Column("chunk_size", Integer),
    Column("rate", Double),
    Column("waiting", Text),
    Column("error", Text),
    Column("options", JSONB),
    CheckConstraint(
        "state IN ('RUNNING', 'PAUSED', 'CANCELLED', 'FINISHED', 'FAILED')", name="migration_run_state_known"
    ),
    CheckConstraint("wanted IN ('RUN', 'PAUSE', 'CANCEL')", name="migration_run_wanted_known"),
    CheckConstraint("place IN ('command', 'service')", name="migration_run_place_known"),
)

# The lease of whoever drives a run: live while `beat_at` is young.
driver = Table(
    "driver",
    stockshift,
    Column("only_row", Boolean, primary_key=True, server_default=text("true")),
    Column("token", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("place", Text, nullable=False),
    Column("since", INSTANT, nullable=False, server_default=text("clock_timestamp()")),
    Column("beat_at", INSTANT, nullable=False, server_default=text("clock_timestamp()")),
    CheckConstraint("only_row", name="driver_has_one_row"),
)

# No foreign keys: it outlives what it describes. JSON, not JSONB: a row is kept as its text was, to the digit.
# `choices` are what the operator chose for columns that were NULL, by the batch's column. What is not cut over has an
# index, so that the phase is known at a glance.
copy_ledger = Table(
    "copy_ledger",
    stockshift,
    Column("item_id", Text, primary_key=True),
    Column("batch_id", Text, nullable=False),
    Column("run_id", BigInteger),
    Column("adopted", Boolean, nullable=False, server_default=text("false")),
    Column("copied_at", INSTANT, nullable=False, server_default=text("clock_timestamp()")),
    Column("original", JSON, nullable=False),
    Column("choices", JSONB),
    Column("fingerprint", BigInteger),
    Column("cut_over_at", INSTANT),
    Index("copy_ledger_batch_id_key", "batch_id", unique=True),
    Index("copy_ledger_not_cut_over", "item_id", postgresql_where=text("cut_over_at IS NULL")),
)

# Every change of a batch's quantity (R11), written by the trigger on stock_batches alone. What was copied is the copy
# ledger's, so baseline and movements together are what is there: also by status and location, and in money (`unit_cost`
# of a unit, `freight` that came or went with the line). Of lines of an earlier version these are not known.
movement = Table(
    "movement",
    stockshift,
    Column("batch_id", Text, primary_key=True),
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("item_id", Text, nullable=False),
    Column("delta", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", Text),
    Column("application", Text),
    Column("role", Text, nullable=False),
    Column("at", INSTANT, nullable=False, server_default=text("clock_timestamp()")),
    Column("status", Text),
    Column("location_id", Text),
    Column("unit_cost", Double),
    Column("freight", Double),
)

# Every write of an item's legacy columns by anybody, written by the triggers on items alone. `followed`: the opening
# batch took it; else it is drift, or the item was not copied. `settled`: what became of a drift, ACCEPTED or KEPT.
legacy_write = Table(
    "legacy_write",
    stockshift,
    Column("item_id", Text, primary_key=True),
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("operation", Text, nullable=False),
    Column("followed", Boolean, nullable=False),
    Column("before", JSONB),
    Column("after", JSONB),
    Column("application", Text),
    Column("role", Text, nullable=False),
    Column("at", INSTANT, nullable=False, server_default=text("clock_timestamp()")),
    Column("settled", Text),
)

# Who did what to the migration (R: append-only): a trigger refuses all but INSERT. `details` by the action.
audit = Table(
    "audit",
    stockshift,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", INSTANT, nullable=False, server_default=text("clock_timestamp()")),
    Column("action", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("application", Text, nullable=False, server_default=text("current_setting('application_name')")),
    Column("role", Text, nullable=False, server_default=text("session_user")),
    Column("client", Text, server_default=text("host(inet_client_addr())")),
    Column("details", JSONB, nullable=False, server_default=text("'{}'")),
)

# What was taken out of the way by rollback or contract, into schema stockshift_archive_ID, and perhaps put back since.
archive = Table(
    "archive",
    stockshift,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("kind", Text, nullable=False),
    Column("made_at", INSTANT, nullable=False, server_default=text("clock_timestamp()")),
    Column("made_by", Text, nullable=False),
    Column("details", JSONB, nullable=False, server_default=text("'{}'")),
    Column("undone_at", INSTANT),
    Column("undone_by", Text),
    CheckConstraint("kind IN ('ROLLBACK', 'CONTRACT')", name="archive_kind_known"),
)

# The latest items of which a sampled read found that both systems answer otherwise: samples, bounded in number.
read_difference = Table(
    "read_difference",
    stockshift,
    Column("item_id", Text, primary_key=True),
    Column("at", INSTANT, nullable=False, server_default=text("clock_timestamp()")),
    Column("cause", Text, nullable=False),
    Column("explained", Boolean, nullable=False),
    Column("legacy_quantity", BigInteger, nullable=False),
    Column("batch_quantity", BigInteger, nullable=False),
    Column("times", BigInteger, nullable=False),
)

idempotency_key = Table(
    "idempotency_key",
    stockshift,
    Column("company_id", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request", Text, nullable=False),
    Column("batch_id", Text, nullable=False),
    Column("created_at", INSTANT, nullable=False, server_default=text("clock_timestamp()")),
)

verification = Table(
    "verification",
    stockshift,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("company_id", Text),
    Column("state", Text, nullable=False, server_default=text("'RUNNING'")),
    Column("started_at", INSTANT, nullable=False, server_default=text("clock_timestamp()")),
    Column("finished_at", INSTANT),
    Column("requested_by", Text),
    Column("items_checked", BigInteger, nullable=False, server_default=text("0")),
    Column("items_matched", BigInteger, nullable=False, server_default=text("0")),
    Column("items_mismatched", BigInteger, nullable=False, server_default=text("0")),
    Column("legacy_quantity", BigInteger, nullable=False, server_default=text("0")),
    Column("batch_quantity", BigInteger, nullable=False, server_default=text("0")),
    Column("explained_difference", BigInteger, nullable=False, server_default=text("0")),
    Column("database", Text),
    Column("server_version", Text),
    Column("row_counts", JSONB),
    Column("fingerprint", JSONB),
    CheckConstraint("state IN ('RUNNING', 'PASSED', 'FAILED')", name="verification_state_known"),
)

# The proof that nothing was lost (R12, R20): by company, location and status, what was copied and what moved since is
# what is there: in units, and in USD of units and of freight.
verification_conservation = Table(
    "verification_conservation",
    stockshift,
    Column("verification_id", BigInteger, primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("company_id", Text),
    Column("location_id", Text),
    Column("status", Text),
    Column("copied_units", Numeric, nullable=False),
    Column("moved_units", Numeric, nullable=False),
    Column("batch_units", Numeric, nullable=False),
    Column("copied_value", Numeric, nullable=False),
    Column("moved_value", Numeric, nullable=False),
    Column("batch_value", Numeric, nullable=False),
    Column("copied_freight", Numeric, nullable=False),
    Column("moved_freight", Numeric, nullable=False),
    Column("batch_freight", Numeric, nullable=False),
    Column("conserved", Boolean, nullable=False),
)

# What explains that batches are not what was copied, by kind: so many items, so many units in all, and examples of it.
verification_explanation = Table(
    "verification_explanation",
    stockshift,
    Column("verification_id", BigInteger, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("items", BigInteger, nullable=False),
    Column("units", BigInteger, nullable=False),
    Column("examples", JSONB, nullable=False),
)

verification_check = Table(
    "verification_check",
    stockshift,
    Column("verification_id", BigInteger, primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("passed", Boolean, nullable=False),
    Column("expected", Text),
    Column("actual", Text),
    Column("detail", Text),
)

verification_mismatch = Table(
    "verification_mismatch",
    stockshift,
    Column("verification_id", BigInteger, primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("item_id", Text, nullable=False),
    Column("item_name", Text, nullable=False),
    Column("legacy_quantity", BigInteger),
    Column("batch_quantity", BigInteger),
    Column("difference", BigInteger),
    Column("fields", ARRAY(Text), nullable=False),
    Column("cause", Text, nullable=False),
    Column("repair", Text),
    Column("kind", Text),
    Column("evidence", JSONB),
)

# What `repair` did, one row a change, with what was there before and what is there since: a batch that is taken away
# lives on here, whole. No foreign keys: it outlives what it describes.
repair_archive = Table(
    "repair_archive",
    stockshift,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", INSTANT, nullable=False, server_default=text("clock_timestamp()")),
    Column("verification_id", BigInteger, nullable=False),
    Column("item_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("act", Text, nullable=False),
    Column("batch_id", Text),
    Column("before", JSONB(none_as_null=True)),
    Column("after", JSONB(none_as_null=True)),
    Column("actor", Text, nullable=False),
)
