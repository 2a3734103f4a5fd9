"""Runs: what each has done, whether somebody drives it now, and how others tell its driver to stop."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import exists, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from db.errors import StockshiftError
from db.shape import load_shape
from migration import audit
from migration.lease import LIVE
from migration.options import Options

State = Literal["RUNNING", "PAUSED", "CANCELLED", "FINISHED", "FAILED"]
Wanted = Literal["RUN", "PAUSE", "CANCEL"]
Place = Literal["command", "service"]
STOPPED: dict[Wanted, State] = {"RUN": "RUNNING", "PAUSE": "PAUSED", "CANCEL": "CANCELLED"}
RUN = tables.migration_run


class NoRun(StockshiftError):
    """No online migration is under way or paused; `stockshift migrate --online` begins one."""


@dataclass(frozen=True)
class Run:
    """`driven`: its driver was heard of lately. One that is RUNNING and not driven was interrupted.

    `rate` is in items a second, lately; `waiting` says what for, while its driver waits.
    """

    id: int
    kind: str
    state: State
    wanted: Wanted
    place: Place
    stage: str | None
    driver: str
    requested_by: str | None
    started_at: datetime
    finished_at: datetime | None
    items_total: int
    items_copied: int
    items_held_back: int
    chunk_size: int | None
    rate: float | None
    waiting: str | None
    error: str | None
    driven: bool

    @property
    def unfinished(self) -> bool:
        """It can go on."""
        return self.state in ("RUNNING", "PAUSED")

    @property
    def interrupted(self) -> bool:
        """It was not ended, and nobody drives it on."""
        return self.state == "RUNNING" and not self.driven

    @property
    def seconds_left(self) -> float | None:
        """At the present rate; None when it is not known."""
        if not self.rate or not self.driven:
            return None
        return max(0, self.items_total - self.items_copied) / self.rate


DRIVEN = ((RUN.c.state == "RUNNING") & exists().where(LIVE)).label("driven")


async def latest_run(connection: AsyncConnection) -> Run | None:
    """The latest, of whatever kind; None if there was none, or the database is not expanded."""
    shape = await load_shape(connection)
    if not shape.expanded:
        return None
    columns = [RUN.c[name] for name in Run.__dataclass_fields__ if name != "driven"]
    row = (await connection.execute(select(*columns, DRIVEN).order_by(RUN.c.id.desc()).limit(1))).one_or_none()
    return None if row is None else Run(**row._asdict())


async def options_of(connection: AsyncConnection, run: int) -> Options:
    """What an online run was asked to do."""
    return Options.from_json((await connection.execute(select(RUN.c.options).where(RUN.c.id == run))).scalar_one())


async def unfinished_run(connection: AsyncConnection) -> Run | None:
    """The online run that can be driven on, or is."""
    run = await latest_run(connection)
    return run if run and run.kind == "online" and run.unfinished else None


async def ask(connection: AsyncConnection, wanted: Wanted, by: str) -> Run:
    """Tells the driver of the unfinished run what is wanted; it sees it between two chunks. Raises NoRun.

    A run that nobody drives is paused or cancelled at once. RUN takes a pause back before it was noticed; to go on
    with a paused run it has to be driven.
    """
    run = await unfinished_run(connection)
    if run is None:
        raise NoRun
    values: dict[str, object] = {"wanted": wanted, "requested_by": by}
    if not run.driven and wanted != "RUN":
        values["state"] = STOPPED[wanted]
    await connection.execute(update(RUN).where(RUN.c.id == run.id, RUN.c.state == run.state).values(values))
    await audit.record(connection, "MIGRATION_ASKED", by, run=run.id, wanted=wanted)
    asked = await latest_run(connection)
    assert asked is not None  # noqa: S101 - its row is there, and nobody deletes runs
    return asked
