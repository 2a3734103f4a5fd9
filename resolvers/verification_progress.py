"""How far a verification is, for who watches it."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from db.engine import connecting
from db.errors import StockshiftError
from resolvers.arrivals import Arrival
from resolvers.errors import BadRequest
from resolvers.mutate import ReadBack, read_back
from resolvers.polls import Polls
from resolvers.query import require, require_storable
from resolvers.reader import Reader
from resolvers.selection import Selected
from resolvers.text import shown
from resolvers.viewer import Role, Viewer

ROOT = "verification"
LOOK = Selected(
    ROOT, ROOT, {"id": Arrival(("id",))}, tuple(Selected(name, name, {}) for name in ("id", "state", "itemsChecked"))
)


async def verification_progress(
    reader: Reader, polls: Polls, viewer: Viewer, selected: Selected
) -> AsyncGenerator[dict[str, Any], None]:
    """By the keys of the selection: what is so now, then each change, until it runs no more.

    Raises Forbidden, and BadRequest when there is no such verification that the viewer may see.
    """
    require(viewer, Role.MANAGER, selected.name)
    require_storable(selected)
    id_ = selected.arguments["id"]

    async def look() -> Any:
        async with connecting(reader.engine) as connection:
            return (await reader.answer_on(connection, viewer, [LOOK], {"id": id_}))[ROOT]

    async with aclosing(polls.values((ROOT, id_, viewer.company), look)) as values:
        async for seen in values:
            if isinstance(seen, StockshiftError):
                raise seen
            if seen is None:
                raise BadRequest(f"there is no verification {shown(id_)}; `verifications` lists them")
            async with connecting(reader.engine) as connection:
                result = {**seen, "verification": ReadBack(ROOT, id_)}
                progress = await read_back(reader, connection, viewer, selected, result)
            yield progress
            if seen["state"] != "RUNNING":
                return
