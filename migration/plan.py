"""`plan`: what a migration would find and do. Reads only, in one read-only snapshot."""

from dataclasses import dataclass, field

from sqlalchemy import BigInteger, Numeric, Select, Text, case, cast, func, literal, null, select, text, union_all
from sqlalchemy.dialects.postgresql import aggregate_order_by, array
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import tables
from db.engine import connecting
from db.shape import Shape, load_shape
from migration.archive import contracted
from migration.blockers import find_blockers, find_closed_schemas, find_misfits
from migration.candidates import DEFAULTED, HELD_BACK, LEFT, candidates, unwanted
from migration.capture import capture_to_put
from migration.copy import ITEM, copy_statement
from migration.expand import (
    existing,
    flag_to_add,
    indexes_to_make,
    keys_to_add,
    keys_to_validate,
    rendered,
    tables_to_make,
)
from migration.failures import explained
from migration.options import Options, require_known
from migration.step import Step
from migration.transaction import settle

EXAMPLES = 5
ROWS_PER_SECOND = 15_000
"""Planned, copied and verified on a machine with two cores; an order of magnitude, not a promise."""


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
    """What a migration would find and do. With blockers that keep it from looking, there is nothing but these.

    Items: `copied` were so before, `to_copy` would be now, which may take `seconds`.
    """

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


async def make_plan(engine: AsyncEngine, *, lock_timeout_ms: int = 2_000, options: Options | None = None) -> Plan:
    """Looks at everything a migration with these options depends on.

    Raises UnknownItems, UnknownLabel, ConnectionFailed, and what `explained` says.
    """
    async with explained(engine), connecting(engine) as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        async with connection.begin():
            await connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            await connection.exec_driver_sql(f"SET LOCAL lock_timeout = {lock_timeout_ms:d}")
            await settle(connection)
            return await _plan_on(connection, options or Options())


async def _plan_on(connection: AsyncConnection, options: Options) -> Plan:
    database: str = (await connection.execute(select(func.current_database()))).scalar_one()
    server: str = (await connection.execute(text("SHOW server_version"))).scalar_one()
    if closed := await find_closed_schemas(connection):
        return Plan(database, server, closed)
    shape = await load_shape(connection)
    if words := await contracted(connection):
        return Plan(database, server, [words])
    if misfits := await find_misfits(connection, shape):
        return Plan(database, server, misfits)
    await require_known(connection, shape, options)
    there = await existing(connection)
    item = shape.relation(tables.items, "item")
    ledger = shape.relation(tables.copy_ledger, "ledger")
    rows = candidates(shape, item, options.among, options.choices.chosen).subquery("candidate")
    to_copy = await _count(connection, select(rows.c.id).where(rows.c.reason.is_(null())))
    copying = Step(COPYING, rendered(copy_statement(candidates(shape, ITEM), None)))
    return Plan(
        database,
        server,
        await find_blockers(connection, shape),
        steps=[
            *tables_to_make(there),
            *([copying] if to_copy else []),
            *keys_to_add(there),
            *keys_to_validate(there),
            *indexes_to_make(there),
            *capture_to_put(there.capture),
            *flag_to_add(there),
        ],
        decisions=await _decisions(connection, shape, options),
        totals=await shop_totals(connection, shape),
        copied=await _count(connection, select(item.c.id).join(ledger, ledger.c.item_id == item.c.id)),
        to_copy=to_copy,
        seconds=to_copy / ROWS_PER_SECOND,
    )


async def _decisions(connection: AsyncConnection, shape: Shape, options: Options) -> list[Decision]:
    """The kinds of rows that need a decision; a row may be of several kinds that are defaulted."""
    item = shape.relation(tables.items, "item")
    rows = candidates(shape, item, options.among, options.choices.chosen).subquery("candidate")
    decided = shape.relation(tables.items, "decided")
    kinds = {
        "NULL_QUANTITY": decided.c.quantityInStock.is_(null()),
        "NULL_FREIGHT": decided.c.freightCostUSD.is_(null()),
        "ADOPTED": rows.c.adopt.is_not(null()),
    }
    kind = case(
        (rows.c.reason.is_not(null()), array([rows.c.reason])),
        else_=array([case((when, literal(name, Text))) for name, when in kinds.items()]),
    )
    each = union_all(
        select(rows.c.id, func.unnest(kind).label("kind")).join(decided, decided.c.id == rows.c.id),
        select(item.c.id, literal("NOTHING_TO_COPY", Text)).where(unwanted(item), options.among(item.c.id)),
    ).subquery("each")
    examples = func.array_agg(aggregate_order_by(each.c.id, each.c.id))
    found = await connection.execute(
        select(each.c.kind, func.count().label("rows"), examples[1:EXAMPLES].label("examples"))
        .where(each.c.kind.is_not(null()))
        .group_by(each.c.kind)
        .order_by(each.c.kind)
    )
    outcomes = HELD_BACK | DEFAULTED | LEFT
    return [Decision(row.kind, outcomes[row.kind], row.kind in HELD_BACK, row.rows, row.examples) for row in found]


async def shop_totals(connection: AsyncConnection, shape: Shape) -> Totals:
    item = shape.relation(tables.items, "item")
    location = shape.relation(tables.locations, "location")
    quantity = cast(func.coalesce(func.sum(item.c.quantityInStock), 0), BigInteger).label("quantity")
    # NUMERIC: a sum of doubles depends on their order, and fails when it is too large for one.
    cost, freight = cast(item.c.costPerUnitUSD, Numeric), cast(item.c.freightCostUSD, Numeric)
    worth = func.coalesce(item.c.quantityInStock * cost, 0) + func.coalesce(freight, 0)
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
        whole[0],
        whole.quantity,
        float(whole.value),
        [Group(*row) for row in by_status],
        [Group(*row) for row in by_location],
    )


async def _count(connection: AsyncConnection, query: Select[*tuple[object, ...]]) -> int:
    number: int = (await connection.execute(select(func.count()).select_from(query.subquery()))).scalar_one()
    return number
