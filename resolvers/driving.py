"""Online runs that this process of the service drives, and those that it drives on after another has died."""

import asyncio
import logging
from contextlib import suppress
from functools import partial

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import connecting
from db.errors import StockshiftError
from migration.locks import MigrationRunning
from migration.online import Outcome, migrate_online
from migration.options import Options
from migration.progress import Progress
from migration.run import ask, unfinished_run

log = logging.getLogger("stockshift.migration")

WATCH_SECONDS = 10.0


class Driving:
    """`direct` is the unpooled engine; `name` is who drives, for the records."""

    def __init__(self, direct: AsyncEngine, *, name: str, lock_timeout_ms: int = 2_000) -> None:
        self._direct = direct
        self._name = name
        self._lock_timeout_ms = lock_timeout_ms
        self._tasks: set[asyncio.Task[Outcome]] = set()

    async def begin(self, requested_by: str, options: Options | None) -> None:
        """Begins a run, or goes on with the unfinished one, and returns as soon as it is driven.

        Raises what `migrate_online` does before that.
        """
        begun = asyncio.Event()

        def note(_: Progress) -> None:
            begun.set()

        work = asyncio.create_task(
            migrate_online(
                self._direct,
                driver=self._name,
                place="service",
                requested_by=requested_by,
                options=options,
                lock_timeout_ms=self._lock_timeout_ms,
                progress=note,
            )
        )
        self._tasks.add(work)
        work.add_done_callback(partial(self._ended, begun))
        waiting = asyncio.create_task(begun.wait())
        try:
            await asyncio.wait([work, waiting], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if not begun.is_set():
            await work

    def _ended(self, begun: asyncio.Event, work: "asyncio.Task[Outcome]") -> None:
        self._tasks.discard(work)
        if work.cancelled():
            log.info("this process stops; its run of the migration can be driven on")
        elif (error := work.exception()) is None:
            log.info("run %d of the migration is %s", work.result().run, work.result().state)
        elif begun.is_set():  # else whoever waits for it is told
            log.error("a run of the migration failed: %s", error, exc_info=error)

    async def watch(self, engine: AsyncEngine) -> None:
        """Drives on what was begun in the service and is not driven; for as long as the process runs."""
        said = ""
        while True:
            try:
                await self.drive_on(engine)
            except (StockshiftError, SQLAlchemyError, OSError) as error:
                if str(error) != said:
                    log.warning("no run of the migration could be driven on: %s", error)
                said = str(error)
            await asyncio.sleep(WATCH_SECONDS)

    async def drive_on(self, engine: AsyncEngine) -> None:
        """One look of `watch`."""
        async with connecting(engine) as connection:
            run = await unfinished_run(connection)
        if run is None or run.place != "service" or not run.interrupted:
            return
        if run.wanted != "RUN":  # its driver died before it saw that
            async with engine.begin() as connection:
                await ask(connection, run.wanted, run.requested_by or self._name)
            return
        with suppress(MigrationRunning):  # another process was faster
            await self.begin(self._name, None)
            log.info("run %d of the migration was interrupted, and is driven on here", run.id)

    async def close(self) -> None:
        """The run that is driven stays as it is, for the next process."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
