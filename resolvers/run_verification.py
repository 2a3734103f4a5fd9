"""`runVerification`: the engine of `stockshift verify`, on the unpooled connection, over what the viewer may see."""

import asyncio
import logging
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import connecting
from db.wal import Consistency, note_written
from migration import verify
from resolvers.errors import ErrorCode, Refused, UserError
from resolvers.mutate import ReadBack, read_back, refusal
from resolvers.query import require
from resolvers.reader import Reader
from resolvers.selection import Selected
from resolvers.viewer import Role, Viewer

log = logging.getLogger("stockshift.verification")

MOST_AT_ONCE = 2
"""In one process. Each reads every row and keeps a connection; one that had to wait for that would look dead."""


async def run_verification(
    reader: Reader,
    direct: AsyncEngine,
    tasks: set[asyncio.Task[Any]],
    viewer: Viewer,
    selected: Selected,
    consistency: Consistency,
    *,
    wait: bool,
) -> Any:
    """Finished when answered, unless `wait` is false: then it goes on as one of `tasks`. Raises Forbidden."""
    require(viewer, Role.ADMIN, selected.name)
    if len(tasks) >= MOST_AT_ONCE:
        message = f"{len(tasks)} verifications are running here already; `verifications` shows when one has ended"
        return refusal(selected, Refused(UserError(message, ErrorCode.CONFLICT)))
    begun: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    work = asyncio.create_task(_verify(direct, viewer, begun))
    tasks.add(work)
    work.add_done_callback(tasks.discard)
    awaited: list[asyncio.Future[Any]] = [work] if wait else [work, begun]
    await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
    try:
        if work.done():
            await work
    except verify.MigrationNotStarted as error:
        return refusal(selected, Refused(UserError(error.message, ErrorCode.MIGRATION_NOT_STARTED)))
    if not work.done():
        work.add_done_callback(_log_failure)
    async with connecting(reader.engine) as connection:
        result = {"verification": ReadBack("verification", str(begun.result()))}
        payload = await read_back(reader, connection, viewer, selected, result)
        await note_written(consistency, connection)
        return payload


async def _verify(direct: AsyncEngine, viewer: Viewer, begun: asyncio.Future[int]) -> None:
    verification_id = await verify.start(direct, company=viewer.company, requested_by=viewer.subject)
    begun.set_result(verification_id)
    await verify.complete(direct, verification_id, company=viewer.company)


def _log_failure(work: asyncio.Task[None]) -> None:
    """Nobody waits for it: its report will read as interrupted, and the log says why."""
    if not work.cancelled() and (error := work.exception()) is not None:
        log.error("a verification failed: %s", error, exc_info=error)
