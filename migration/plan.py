"""`plan`: what a migration would find and do. Reads only, in one read-only snapshot."""

from dataclasses import dataclass, field

from sqlalchemy import BigInteger, Select, Text, and_, case, cast, func, literal, null, select, text
from sqlalchemy.dialects.postgresql import aggregate_order_by, array
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import tables
from db.errors import StockshiftError
from db.shape import Shape, load_shape
from migration.candidates import DEFAULTED, HELD_BACK, candidates
from migration.comparison import count_named, dangling
from migration.copy import copy_statement
from migration.expand import DIALECT, Step, rendered, existing, flag_to_add, keys_to_add, tables_to_make

EXAMPLES = 5
ROWS_PER_SECOND = 40_000
"""Copied and verified on a modest machine with every key in place; for an order of magnitude, not a promise."""


class Blocked(StockshiftError):
    """Something must be put right before the migration can run; `stockshift plan` lists it."""


@dataclass(frozen=True)
class Decision:
    """Rows that cannot be copied as they stand: how many, which (the first few), and what becomes of them."""

    kind: str
    outcome: str
    held_back: bool
    count: int
    examples: list[str]


@dataclass(frozen=True)
class Group:
    label: str | None
    items: int
    quantity: int


@dataclass(frozen=True)
class Totals:
    """The legacy columns summed up before the start. Value: quantity x unit cost + freight of Arrived items, in USD."""

    items: int
    quantity: int
    value_usd: float
    by_status: list[Group]
    by_location: list[Group]


@dataclass(frozen=True)
class Plan:
    """`to_copy` counts the items that would be copied; `seconds` is what that may take."""

    database: str
    server: str
    blockers: list[str]
    steps: list[Step] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    totals: Totals | None = None
    copied: int = 0
    to_copy: int = 0
    seconds: float = 0.0

    @property
    def ready(self) -> bool:
        return not self.blockers


COPYING = "the opening batch of every item that has none, and a ledger row with the item as it was (run in chunks)"

COLUMN_TYPES = text(
    """
    SELECT a.attname::text AS name, format_type(a.atttypid, NULL) AS type
    FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = to_regclass(:relation) AND a.attnum > 0 AND NOT a.attisdropped
    """
)
ACCEPTED_TYPES = {
    "TEXT": {"text", "character varying"},
    "INTEGER": {"integer", "smallint"},
    "DOUBLE PRECISION": {"double precision", "real"},
    "TIMESTAMP(3) WITHOUT TIME ZONE": {"timestamp without time zone"},
    'public."Status"': {'"Status"', 'public."Status"', "text", "character varying"},
}
OPTIONAL_COLUMNS = {"minStockLevel", "sellingPriceSRD"}

PRIVILEGES = text(
    """
    SELECT
        has_database_privilege(current_database(), 'CREATE') AS create_schema,
        has_schema_privilege('public', 'CREATE') AS create_table,
        has_table_privilege('public.items', 'REFERENCES') AND has_table_privilege('public.locations', 'REFERENCES')
            AND has_table_privilege('public.users', 'REFERENCES') AS reference,
        (SELECT pg_has_role(relowner, 'USAGE') FROM pg_catalog.pg_class
         WHERE oid = to_regclass('public.items')) AS own_items,
        current_user AS role,
        pg_is_in_recovery() AS replica,
        (SELECT bool_or(indisunique AND indpred IS NULL AND indnkeyatts = 1 AND attname = 'id')
         FROM pg_catalog.pg_index x JOIN pg_catalog.pg_attribute a
              ON a.attrelid = x.indrelid AND a.attnum = x.indkey[0]
         WHERE x.indrelid = to_regclass('public.items')) AS keyed
    """
)


async def make_plan(engine: AsyncEngine) -> Plan:
    """Looks at everything a migration depends on."""
    async with engine.connect() as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        async with connection.begin():
            return await plan_on(connection)


async def plan_on(connection: AsyncConnection) -> Plan:
    database: str = (await connection.execute(select(func.current_database()))).scalar_one()
    server: str = (await connection.execute(text("SHOW server_version"))).scalar_one()
    shape = await load_shape(connection)
    misfits = await find_misfits(connection, shape)
    if misfits:
        return Plan(database, server, misfits)
    there = await existing(connection)
    decisions = await _decisions(connection, shape)
    to_copy = await _count(connection, _uncopied(shape, copyable=True))
    item = shape.relation(tables.items, "item")
    copying = Step(COPYING, rendered(copy_statement(item, candidates(shape, item), None)))
    return Plan(
        database,
        server,
        await find_blockers(connection, shape),
        steps=[*tables_to_make(there), *([copying] if to_copy else []), *keys_to_add(there), *flag_to_add(there)],
        decisions=decisions,
        totals=await _totals(connection, shape),
        copied=await _count(connection, select(shape.relation(tables.copy_ledger, "ledger").c.item_id)),
        to_copy=to_copy,
        seconds=to_copy / ROWS_PER_SECOND,
    )


async def find_misfits(connection: AsyncConnection, shape: Shape) -> list[str]:
    """Where the tables are not of the shape that is migrated, each as a sentence."""
    described = [tables.items, tables.locations, tables.users]
    if shape.columns.get(tables.stock_batches.fullname):
        described.append(tables.stock_batches)
    misfits = []
    for table in described:
        rows = await connection.execute(COLUMN_TYPES, {"relation": table.fullname})
        present = {row.name: row.type for row in rows}
        if not present:
            misfits.append(f"table {table.fullname} does not exist, or this role may not see it")
            continue
        for column in table.columns:
            wanted_type = column.type.compile(dialect=DIALECT)
            if column.name not in present:
                if column.name not in OPTIONAL_COLUMNS:
                    misfits.append(f"{table.fullname} has no column {column.name!r} ({wanted_type})")
            elif present[column.name] not in ACCEPTED_TYPES[wanted_type]:
                misfits.append(f"{table.fullname}.{column.name} is {present[column.name]}, not {wanted_type}")
    if not shape.status_labels:
        misfits.append('type public."Status" does not exist; this is no database of the shape that is migrated')
    return misfits


async def find_blockers(connection: AsyncConnection, shape: Shape) -> list[str]:
    """What else must be put right first, each as a sentence that says how; empty when the migration can run."""
    may = (await connection.execute(PRIVILEGES)).one()
    role = repr(may.role)
    batches = bool(shape.columns.get(tables.stock_batches.fullname))
    blockers = {
        "this server is a replica and cannot be written; set DIRECT_URL to the primary": may.replica,
        "items has no unique key on id; add its primary key": not may.keyed,
        f"role {role} may not create a schema; GRANT CREATE ON DATABASE": not (may.create_schema or shape.expanded),
        f"role {role} may not create tables; GRANT CREATE ON SCHEMA public": not (may.create_table or batches),
        f"role {role} may not refer to items, locations, users; GRANT REFERENCES on them": not may.reference,
        f"role {role} does not own table items; migrate as its owner, or GRANT that role to it": not may.own_items,
    }
    found = [blocker for blocker, stands in blockers.items() if stands]
    if shape.has(tables.stock_batches):
        for name, query in dangling(shape, None).items():
            count, examples = await count_named(connection, query)
            if count:
                found.append(f"{count} {name}: {', '.join(examples)}; delete or mend them")
    return found


def _uncopied(shape: Shape, *, copyable: bool) -> Select[str, str | None, str | None]:
    rows = candidates(shape, shape.relation(tables.items, "item")).subquery("candidate")
    chosen = select(rows.c.id, rows.c.reason, rows.c.adopt)
    return chosen.where(rows.c.reason.is_(null()) if copyable else rows.c.reason.is_not(null()))


async def _decisions(connection: AsyncConnection, shape: Shape) -> list[Decision]:
    """The kinds of rows that cannot be copied as they stand; a row may be of several kinds that are defaulted."""
    rows = candidates(shape, shape.relation(tables.items, "item")).subquery("candidate")
    item = shape.relation(tables.items, "decided")
    kinds = {
        "NULL_QUANTITY": and_(rows.c.reason.is_(null()), item.c.quantityInStock.is_(null())),
        "NULL_FREIGHT": and_(rows.c.reason.is_(null()), item.c.freightCostUSD.is_(null())),
        "ADOPTED": and_(rows.c.reason.is_(null()), rows.c.adopt.is_not(null())),
    }
    kind = func.array_remove(
        array([rows.c.reason, *[case((when, literal(name, Text)), else_=null()) for name, when in kinds.items()]]),
        null(),
    )
    each = select(rows.c.id, func.unnest(kind).label("kind")).join(item, item.c.id == rows.c.id).subquery("each")
    examples = func.array_agg(aggregate_order_by(each.c.id, each.c.id))
    found = await connection.execute(
        select(each.c.kind, func.count().label("rows"), examples[1:EXAMPLES].label("examples"))
        .group_by(each.c.kind)
        .order_by(each.c.kind)
    )
    outcomes = HELD_BACK | DEFAULTED
    return [Decision(row.kind, outcomes[row.kind], row.kind in HELD_BACK, row.rows, row.examples) for row in found]


async def _totals(connection: AsyncConnection, shape: Shape) -> Totals:
    item = shape.relation(tables.items, "item")
    location = shape.relation(tables.locations, "location")
    quantity = cast(func.coalesce(func.sum(item.c.quantityInStock), 0), BigInteger).label("quantity")
    worth = func.coalesce(item.c.quantityInStock * item.c.costPerUnitUSD, 0) + func.coalesce(item.c.freightCostUSD, 0)
    value = func.coalesce(func.sum(worth).filter(cast(item.c.status, Text) == "Arrived"), 0).label("value")
    whole = (await connection.execute(select(func.count(), quantity, value).select_from(item))).one()
    status = cast(item.c.status, Text)
    by_status = await connection.execute(
        select(status, func.count(), quantity).group_by(item.c.status).order_by(item.c.status)
    )
    by_location = await connection.execute(
        select(location.c.name, func.count(), quantity)
        .select_from(item)
        .outerjoin(location, location.c.id == item.c.locationId)
        .group_by(location.c.id, location.c.name)
        .order_by(location.c.name, location.c.id)
    )
    return Totals(
        whole[0], whole.quantity, whole.value, [Group(*row) for row in by_status], [Group(*row) for row in by_location]
    )


async def _count(connection: AsyncConnection, query: Select[*tuple[object, ...]]) -> int:
    number: int = (await connection.execute(select(func.count()).select_from(query.subquery()))).scalar_one()
    return number
