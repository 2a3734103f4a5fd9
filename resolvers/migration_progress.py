"""How far a run of the migration is, for who watches it; whichever process drives it."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import connecting
from migration.run import Run, latest_run
from migration.status import Phase, read_phase, run_for
from resolvers.polls import Polls
from resolvers.query import require
from resolvers.viewer import Role, Viewer


@dataclass(frozen=True)
class MigrationProgress:
    """`run` is the latest, as the viewer may see it; None: there was none."""

    phase: Phase
    run: Run | None

    @property
    def ended(self) -> bool:
        """Nothing will come of the run any more, or there was none. One that is paused may be driven on."""
        return self.run is None or self.run.state not in ("RUNNING", "PAUSED")


async def migration_progress(
    engine: AsyncEngine, polls: Polls, viewer: Viewer
) -> AsyncGenerator[MigrationProgress, None]:
    """What is so now, then each change until the run has ended. Raises Forbidden."""
    require(viewer, Role.MANAGER, "migrationProgress")

    async def look() -> MigrationProgress:
        async with connecting(engine) as connection:
            run = await latest_run(connection)
            phase = await read_phase(connection, run)
            if run is not None and viewer.company is not None:
                run = await run_for(connection, run, viewer.company)
            return MigrationProgress(phase, run)

    async with aclosing(polls.values(("migration", viewer.company), look)) as values:
        async for seen in values:
            yield seen
            if seen.ended:
                return
