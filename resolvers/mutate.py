"""Carrying out a mutation: who may, one transaction, the payload read back in it, the commit; in one place.

A payload is read through the same declarations as a query, by the connection that wrote it. What a mutation refuses
becomes data (`errors`), and the transaction is rolled back.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import stamina
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from db.engine import connecting
from db.errors import StockshiftError
from db.sqlstate import sqlstate
from db.wal import Consistency, note_written
from migration.locks import is_lock_refused
from migration.transaction import settle
from resolvers.arrivals import Arrival
from resolvers.errors import ErrorCode, Refused, UserError
from resolvers.query import require
from resolvers.reader import Reader
from resolvers.selection import Selected
from resolvers.viewer import Role, Viewer

ATTEMPTS = 4
INTEGRITY = "23"  # the class of errors in which a constraint was violated
LOCK_TIMEOUT_MS = 5_000
# Serialization failure, deadlock; a row that we refer to, or a table, which went while we were at work.
TRY_AGAIN = {"40001", "40P01", "23503", "42P01"}


@dataclass(frozen=True)
class ReadBack:
    """A field of a payload that is answered as the root field `root` answers the row with this id."""

    root: str
    id: str


Result = Mapping[str, object]
"""The fields of a payload but `errors`: each a ReadBack, or the value itself."""


async def mutate(
    reader: Reader,
    viewer: Viewer,
    selected: Selected,
    role: Role,
    work: Callable[[AsyncConnection], Awaitable[Result]],
    consistency: Consistency,
) -> Any:
    """The payload of a mutation, a dict by the keys of its selection. Raises Forbidden."""
    require(viewer, role, selected.name)
    try:
        async for attempt in stamina.retry_context(on=_may_try_again, attempts=ATTEMPTS, timeout=None, wait_max=1.0):
            with attempt:
                async with connecting(reader.engine) as connection:
                    async with connection.begin():
                        await _settle(connection)
                        payload = await read_back(reader, connection, viewer, selected, await work(connection))
                    await note_written(consistency, connection)
                    return payload
    except Refused as refused:
        return refusal(selected, refused)
    except DBAPIError as error:
        return refusal(selected, _told(error))
    raise AssertionError  # the loop above returns or raises


async def _settle(connection: AsyncConnection) -> None:
    """The transaction that mutations are written for, whatever a role or a database has for its default."""
    await connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED READ WRITE")
    await connection.exec_driver_sql(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
    await settle(connection)


def _may_try_again(error: Exception) -> bool:
    return isinstance(error, DBAPIError) and sqlstate(error) in TRY_AGAIN


def _told(error: DBAPIError) -> Refused:
    """What the database refused, as data. Raises what is no expected failure."""
    if is_lock_refused(error):
        message = "another session, perhaps a migration, keeps the stock locked; try again in a moment"
        return Refused(UserError(message, ErrorCode.MIGRATION_RUNNING))
    if sqlstate(error).startswith(INTEGRITY):
        said = getattr(error.orig.__cause__, "message", None) if error.orig else None
        message = f"a rule of this database stands against it ({said}); mend the rule, or ask for something else"
        return Refused(UserError(message, ErrorCode.CONFLICT))
    raise error


async def read_back(
    reader: Reader, connection: AsyncConnection, viewer: Viewer, selected: Selected, result: Result
) -> dict[str, Any]:
    """The payload of what was done. Raises BadRequest, Forbidden."""
    payload: dict[str, Any] = {}
    roots = []
    for child in selected.children:
        value = result.get(child.name, [])  # no errors
        payload[child.key] = value
        if isinstance(value, ReadBack):
            roots.append(Selected(child.key, value.root, {"id": Arrival((child.key,))}, child.children))
    ids = {key: value.id for key, value in payload.items() if isinstance(value, ReadBack)}
    answers = await reader.answer_on(connection, viewer, roots, ids)
    for answer in answers.values():
        if isinstance(answer, StockshiftError):  # a page too long: nothing is done whose outcome cannot be shown
            raise answer
    return payload | answers


def refusal(selected: Selected, refused: Refused) -> dict[str, Any]:
    """The payload of what was refused: nothing but the errors."""
    return {child.key: list(refused.errors) if child.name == "errors" else None for child in selected.children}
