"""Reading: selections in, answers out, in one statement and so of one instant."""

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncTransaction

from db.engine import connecting
from db.errors import StockshiftError
from db.shape import Shape, load_shape
from resolvers.query import answer, statement
from resolvers.scope import Scope
from resolvers.selection import Selected
from resolvers.viewer import Viewer

ATTEMPTS = 10
# undefined table, column, object, schema; a cached plan whose result changed
STALE = {"42P01", "42703", "42704", "3F000", "0A000"}

Answers = dict[str, Any]
Begin = Callable[[], AsyncTransaction]


class Unsettled(StockshiftError):
    """The database kept changing shape while it was read; ask again."""


class NotAShop(StockshiftError):
    """The database has no table `items` in schema public; point DATABASE_URL at the shop's database."""


class Reader:
    """Answers selections, knowing what the database looked like the last time it looked."""

    def __init__(self, engine: AsyncEngine, *, most_rows: int = 1_000) -> None:
        self.engine = engine
        self.most_rows = most_rows
        self._shape: Shape | None = None

    @property
    def status_labels(self) -> tuple[str, ...]:
        """The labels of the database's `Status`, as far as they are known yet."""
        return self._shape.status_labels if self._shape else ()

    async def look(self) -> None:
        """Looks at the database anew. Raises ConnectionFailed, or NotAShop."""
        async with connecting(self.engine) as connection:
            await self._load(connection)

    async def _load(self, connection: AsyncConnection) -> Shape:
        shape = await load_shape(connection)
        if not shape.is_a_shop:
            raise NotAShop
        self._shape = shape
        return shape

    async def answer(self, viewer: Viewer, selections: Sequence[Selected]) -> Answers:
        """The answer of each root field by its key; an exception in place of one that cannot be answered."""
        async with connecting(self.engine) as connection:
            return await self._answer(connection, connection.begin, viewer, selections)

    async def answer_on(self, connection: AsyncConnection, viewer: Viewer, selections: Sequence[Selected]) -> Answers:
        """The same within the transaction of a connection, which sees its own writes."""
        return await self._answer(connection, connection.begin_nested, viewer, selections)

    async def _answer(
        self, connection: AsyncConnection, begin: Begin, viewer: Viewer, selections: Sequence[Selected]
    ) -> Answers:
        for _ in range(ATTEMPTS):
            shape = self._shape
            try:
                if shape is None:
                    async with begin():
                        shape = await self._load(connection)
                scope = Scope(shape, viewer.company, self.most_rows)
                answers = await _try(connection, begin, scope, viewer, selections)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) not in STALE:
                    raise
                answers = None
            if answers is not None:
                return answers
            if self._shape is shape:
                self._shape = None
        raise Unsettled


async def _try(
    connection: AsyncConnection, begin: Begin, scope: Scope, viewer: Viewer, selections: Sequence[Selected]
) -> Answers | None:
    """None, or an error that is STALE, when the scope's shape no longer fits."""
    answers: Answers = {}
    values = {}
    for selected in selections:
        try:
            values[selected.key] = answer(scope, viewer, selected)
        except StockshiftError as error:
            answers[selected.key] = error
    if not values:
        return answers
    async with begin():
        row = (await connection.execute(statement(scope, list(values.values())))).one()
    return answers | dict(zip(values, row[1:], strict=True)) if row.fits else None
