"""What a database error is, by the code that PostgreSQL gave it, whether SQLAlchemy tells of it or the driver."""

import asyncpg
from sqlalchemy.exc import DBAPIError

SHUT_DOWN = ("57P01", "57P02", "57P03")
CONNECTION = "08"  # the class of errors in which there is no connection any more

DatabaseError = (DBAPIError, asyncpg.PostgresError)


def sqlstate(error: BaseException) -> str:
    """Five characters, or none when it was not PostgreSQL that failed."""
    said = error.orig if isinstance(error, DBAPIError) else error
    return getattr(said, "sqlstate", None) or ""


def is_lost(error: DBAPIError) -> bool:
    """There was a connection, and there is none now."""
    state = sqlstate(error)
    return error.connection_invalidated or state.startswith(CONNECTION) or state in SHUT_DOWN
