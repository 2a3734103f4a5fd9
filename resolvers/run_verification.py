"""`runVerification`: the engine of `stockshift verify`, on the unpooled connection, over what the viewer may see."""

import asyncio
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import connecting
from migration import verify
from resolvers.errors import ErrorCode, Refused, UserError
from resolvers.mutate import ReadBack, read_back, refusal
from resolvers.query import require
from resolvers.reader import Reader
from resolvers.selection import Selected
from resolvers.viewer import Role, Viewer


async def run_verification(
    reader: Reader,
    direct: AsyncEngine,
    tasks: set[asyncio.Task[Any]],
    viewer: Viewer,
    selected: Selected,
    *,
    wait: bool,
) -> Any:
    """Finished when answered, unless `wait` is false: then it goes on as one of `tasks`. Raises Forbidden."""
    require(viewer, Role.ADMIN, selected.name)
    try:
        verification_id = await verify.start(direct, company=viewer.company, requested_by=viewer.subject)
    except verify.MigrationNotStarted as error:
        return refusal(selected, Refused(UserError(error.message, ErrorCode.MIGRATION_NOT_STARTED)))
    work = asyncio.create_task(verify.complete(direct, verification_id, company=viewer.company))
    tasks.add(work)
    work.add_done_callback(tasks.discard)
    if wait:
        await work
    async with connecting(reader.engine) as connection:
        result = {"verification": ReadBack("verification", str(verification_id))}
        return await read_back(reader, connection, viewer, selected, result)
