"""Reading: what an operation asks for in, answers out, in one statement and so of one instant."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db.engine import connecting
from db.errors import StockshiftError
from db.keep import keep
from db.read_pool import ReadPool, Row
from db.replica import Replica
from db.shape import NotAShop, Shape, load_shape
from db.sqlstate import DatabaseError, sqlstate
from db.wal import Consistency
from resolvers.arrivals import Arrival
from resolvers.dual_read import DualReads
from resolvers.errors import BadRequest
from resolvers.operation import Asked, Operation
from resolvers.plan import Plan, is_faithful, make_plan
from resolvers.scope import Scope
from resolvers.selection import Selected
from resolvers.sets import finish
from resolvers.sql import MARK
from resolvers.viewer import Viewer

ATTEMPTS = 10
# undefined table, column, object, schema, operator; a cached plan whose result changed; a label that its enum lacks
STALE = {"42P01", "42703", "42704", "3F000", "42883", "0A000", "22P02"}

Answers = dict[str, Any]
MOST_KEPT = 512
MOST_SHAPES = 4
LONGEST_SOURCE = 20_000
COMPANY = ("the viewer's", "company")  # no variable has such a name


class Unsettled(StockshiftError):
    """The database kept changing shape while it was read; ask again."""


@dataclass(frozen=True, eq=False)
class Known:
    """What the database looked like the last time, and what was made for that: plans, and operations found valid."""

    shape: Shape
    plans: dict[Any, Plan] = field(default_factory=dict)
    operations: dict[tuple[str, str | None], Operation] = field(default_factory=dict)


class Reader:
    """Answers what is asked for, knowing what the database looked like the last time it looked.

    `reads` is for operations that only read, and so is the `replica` when it can vouch for its answer; `engine` is for
    all others, and for looking at the catalog: the shape is always the primary's. `dual` compares a share of the reads.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        reads: ReadPool,
        *,
        replica: Replica | None = None,
        dual: DualReads | None = None,
        most_rows: int = 1_000,
    ) -> None:
        self.engine = engine
        self.reads = reads
        self.replica = replica
        self.dual = dual
        self.most_rows = most_rows
        self._known: Known | None = None
        self._looking = asyncio.Lock()
        self._seen: list[Known] = []  # latest first: a shape may come back, as the read source does

    @property
    def status_labels(self) -> tuple[str, ...]:
        """The labels of the database's `Status`, as far as they are known yet."""
        return self._known.shape.status_labels if self._known else ()

    async def look(self) -> Known:
        """Looks at the database anew. Raises ConnectionFailed, or NotAShop."""
        async with connecting(self.engine) as connection:
            return await self._load(connection)

    async def _learn(self) -> Known:
        """What somebody else learns meanwhile will do; if it is old already, the guard says so."""
        async with self._looking:
            return self._known or await self.look()

    async def _load(self, connection: AsyncConnection) -> Known:
        shape = await load_shape(connection)
        if not shape.is_a_shop:
            raise NotAShop
        known = next((known for known in self._seen if known.shape == shape), None) or Known(shape)
        self._seen = [known, *[other for other in self._seen if other is not known]][:MOST_SHAPES]
        self._known = known
        return known

    def recall(self, source: str, name: str | None) -> Operation | None:
        """An operation that was asked for before, and is valid."""
        return self._known.operations.get((source, name)) if self._known else None

    def remember(self, source: str, name: str | None, operation: Operation) -> None:
        """The operation is valid under the schema of the present shape."""
        if self._known and len(source) <= LONGEST_SOURCE:
            keep(self._known.operations, (source, name), operation, most=MOST_KEPT)

    async def answer(self, viewer: Viewer, asked: Asked, consistency: Consistency | None = None) -> Answers:
        """The answer of each root field by its key; an exception in place of one that cannot be answered."""
        plan, values = await self._read(viewer, asked, consistency or Consistency())
        return _answers(plan, values)

    async def answer_bytes(
        self,
        viewer: Viewer,
        source: str,
        name: str | None,
        variables: Mapping[str, Any] | None,
        consistency: Consistency | None = None,
    ) -> bytes | None:
        """The whole response to an operation that has a plan; None when graphql-core must answer it.

        What has a plan was found affordable, and costs the same for all values that the plan fits.
        """
        operation = self.recall(source, name)
        asked = operation.asked(variables) if operation and operation.is_query else None
        if asked is None or not self._known:
            return None
        key = _key(viewer, asked)
        if key not in self._known.plans and (key, True) not in self._known.plans:
            return None
        plan, values = await self._read(viewer, asked, consistency or Consistency())
        if not plan.whole:
            return None
        answers = dict(zip(plan.keys, values, strict=True))
        fields = ",".join(f'"{key}":{_json(answers[key]) if key in answers else root}' for key, root in plan.roots)
        body = f'{{"data":{{{fields}}}}}'.encode()
        return body if is_faithful(body) else None

    async def answer_on(
        self,
        connection: AsyncConnection,
        viewer: Viewer,
        selections: Sequence[Selected],
        arriving: Mapping[str, Any] | None = None,
    ) -> Answers:
        """Answers selections within the transaction of a connection, which sees its own writes."""

        def plan(known: Known) -> tuple[Plan, tuple[Any, ...]]:
            key = (repr(selections), viewer.role, viewer.company)
            made = known.plans.get(key)
            if made is None:
                made = make_plan(Scope(known.shape, viewer.company, self.most_rows), viewer, selections)
                keep(known.plans, key, made, most=MOST_KEPT)
            return made, made.arguments(arriving or {})

        async def row(sql: str, arguments: Sequence[Any]) -> Row:
            async with connection.begin_nested():
                return (await connection.exec_driver_sql(sql, tuple(arguments))).one()

        async def learn() -> Known:
            async with connection.begin_nested():
                return await self._load(connection)

        return _answers(*await self._run(row, learn, plan))

    async def _read(self, viewer: Viewer, asked: Asked, consistency: Consistency) -> tuple[Plan, Sequence[Any]]:
        async def row(sql: str, arguments: Sequence[Any]) -> Row:
            if self.replica is not None:
                found = await self.replica.row(sql, arguments, consistency)
                if found is not None and found[0]:  # else it is not yet, or no more, of the primary's shape
                    consistency.read_from = "replica"
                    return found
            consistency.read_from = "primary"
            return await self.reads.row(sql, arguments)

        dual = self.dual
        if dual is None or not dual.sampled():
            return await self._run(row, self._learn, lambda known: self._plan(known, viewer, asked))
        plan, values = await self._run(row, self._learn, lambda known: self._plan(known, viewer, asked, compared=True))
        return plan, dual.without_notes(values)

    async def _run(
        self,
        row: Callable[[str, Sequence[Any]], Awaitable[Row]],
        learn: Callable[[], Awaitable[Known]],
        plan_for: Callable[[Known], tuple[Plan, tuple[Any, ...]]],
    ) -> tuple[Plan, Sequence[Any]]:
        """The plan that fits the database as it is now, and the values of its keys."""
        failure: Exception | None = None
        for _ in range(ATTEMPTS):
            known = self._known or await learn()
            plan, arguments = plan_for(known)
            if not plan.keys:
                return plan, ()
            try:
                found = await row(plan.sql, arguments)
            except DatabaseError as error:
                if sqlstate(error) not in STALE:
                    raise
                failure = error
            else:
                if found[0]:
                    return plan, found[1:]
            if self._known is known:
                self._known = None
        raise failure or Unsettled

    def _plan(
        self, known: Known, viewer: Viewer, asked: Asked, *, compared: bool = False
    ) -> tuple[Plan, tuple[Any, ...]]:
        """The plan for what is asked, and its arguments. If these are refused, a plan for them alone says why."""
        key = (_key(viewer, asked), compared) if compared else _key(viewer, asked)
        company = None if viewer.company is None else Arrival(COMPANY)
        arriving = {**asked.variables, COMPANY[0]: {COMPANY[1]: viewer.company}}
        plan = known.plans.get(key)
        if plan is None:
            scope = Scope(known.shape, company, self.most_rows, compared)
            plan = make_plan(scope, viewer, asked.selections())
            keep(known.plans, key, plan, most=MOST_KEPT)
        try:
            return plan, plan.arguments(arriving)
        except BadRequest:
            values = asked.operation.collect(asked.variables)
            told = make_plan(Scope(known.shape, viewer.company, self.most_rows), viewer, values)
            return told, told.arguments({})


def _key(viewer: Viewer, asked: Asked) -> Hashable:
    """All that a plan depends on, besides the database's shape."""
    return asked.operation, asked.shape, viewer.role, viewer.company is None


def _answers(plan: Plan, values: Sequence[Any]) -> Answers:
    found = {
        key: orjson.loads(_json(value).replace(MARK, "null")) for key, value in zip(plan.keys, values, strict=False)
    }
    return {**plan.errors, **found}


def _json(value: str | None) -> str:
    """The text of an answer; of none at all it is null."""
    return "null" if value is None else finish(value)
