"""What PostgreSQL's errors mean to whoever runs a stage: who was in the way, what was refused, or that nobody knows."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from db.errors import StockshiftError
from db.sqlstate import is_lost
from migration.locks import WRITERS_WAIT, explain_lock, is_lock_refused


class Refused(StockshiftError):
    """PostgreSQL refused a statement."""


class ConnectionLost(StockshiftError):
    """The connection to the database was lost; see `stockshift status`, then run the same command again."""


@asynccontextmanager
async def explained(
    engine: AsyncEngine, mode: str = WRITERS_WAIT, *, kept: str = "nothing was changed"
) -> AsyncIterator[None]:
    """Around transactions; `mode` is the lock that they want on `items`, `kept` says what there is after a refusal.

    Raises LockNotHad, MigrationRunning, ConnectionLost, Refused in place of the driver's errors.
    """
    try:
        yield
    except DBAPIError as error:
        if is_lock_refused(error):
            raise await explain_lock(engine, mode) from error
        if is_lost(error):
            raise ConnectionLost from error
        raise Refused(f"PostgreSQL refused a statement ({told(error)}); {kept}: mend that, try again") from error


def told(error: DBAPIError) -> str:
    """The first line of what PostgreSQL said."""
    said: tuple[str, str, str] = (getattr(error.orig, "args", None) or (str(error.orig),))[0].partition(">: ")
    return (said[2] or said[0]).splitlines()[0]
