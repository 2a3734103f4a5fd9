"""What PostgreSQL's errors mean to whoever runs a stage: who was in the way, what was refused, or that nobody knows."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from db.errors import StockshiftError
from db.sqlstate import is_lost
from migration.locks import WRITERS_WAIT, explain_lock, is_lock_refused


class Refused(StockshiftError):
    """PostgreSQL refused a statement, so nothing was changed."""


class ConnectionLost(StockshiftError):
    """The connection to the database was lost; see `stockshift status`, then run the same command again."""


@asynccontextmanager
async def explained(engine: AsyncEngine, mode: str = WRITERS_WAIT) -> AsyncIterator[None]:
    """Around transactions that change everything or nothing; `mode` is the lock that they want on `items`.

    Raises LockNotHad, MigrationRunning, ConnectionLost, Refused in place of the driver's errors.
    """
    try:
        yield
    except DBAPIError as error:
        if is_lock_refused(error):
            raise await explain_lock(engine, mode) from error
        if is_lost(error):
            raise ConnectionLost from error
        said = (getattr(error.orig, "args", None) or (str(error.orig),))[0].partition(">: ")
        told = (said[2] or said[0]).splitlines()[0]
        raise Refused(f"PostgreSQL refused a statement ({told}); nothing was changed: mend that, try again") from error
