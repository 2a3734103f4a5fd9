"""A command's engine, and who runs the command."""

import getpass
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import stamina
from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import create_engine
from db.url import DatabaseUrl
from migration.failures import ConnectionLost, explained
from service.database import Database


@asynccontextmanager
async def engine_for(database: Database, name: str) -> AsyncIterator[AsyncEngine]:
    """The unpooled engine of a command, without a limit on how long a statement may take.

    What the database refuses in the block is raised as `explained` says.
    """
    stamina.instrumentation.set_on_retry_hooks([])  # they print; who waits in vain is told at the end what for
    engine = create_engine(
        DatabaseUrl.parse(database.direct), application_name=name, pool_size=2, statement_timeout_ms=0
    )
    try:
        async with explained(engine):
            yield engine
    except (asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError) as error:  # from below SQLAlchemy
        raise ConnectionLost from error
    finally:
        await engine.dispose()


def who() -> str:
    """Who drives, for the records: user, machine and process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()} pid {os.getpid()}"
