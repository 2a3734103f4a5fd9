"""`stockshift status --watch`: the latest run, looked at every second, for as long as it can go on.

Between two looks there is no connection, so whoever watches keeps nobody from restarting the server or from dropping
the database. Items are not counted: a look must cost next to nothing, however many there are.
"""

import asyncio
from collections.abc import Callable

from db.engine import ConnectionFailed, connecting
from migration.failures import ConnectionLost
from migration.run import Run, latest_run
from migration.status import Phase, read_phase
from service.database import Database
from service.sessions import engine_for

LOOK_SECONDS = 1.0

Show = Callable[[Phase, Run | None, str | None], None]
"""Is given what was seen last, and why it cannot be seen now."""


async def watch(database: Database, show: Show) -> None:
    """Shows what is so now, then after each look, until the run has ended or there is none.

    Raises ConnectionFailed if the database cannot be reached at all; when it goes away later, it is waited for.
    """
    phase, run = await _look(database)
    show(phase, run, None)
    while run is not None and run.unfinished:
        await asyncio.sleep(LOOK_SECONDS)
        away = None
        try:
            phase, run = await _look(database)
        except (ConnectionFailed, ConnectionLost) as error:
            away = error.message
        show(phase, run, away)


async def _look(database: Database) -> tuple[Phase, Run | None]:
    async with engine_for(database, "stockshift status") as engine, connecting(engine) as connection:
        run = await latest_run(connection)
        return await read_phase(connection, run), run
