"""Fields of `Migration` that are asked for by a statement of their own, within a query as in a mutation's payload."""

from typing import Any

from db.engine import connecting
from db.errors import StockshiftError
from resolvers.reader import Reader
from resolvers.selection import Selected
from resolvers.viewer import Viewer


async def answer_part(reader: Reader, viewer: Viewer, selected: Selected) -> Any:
    """The answer by the keys of the selection. Raises BadRequest, Forbidden."""
    async with connecting(reader.engine) as connection:
        found = (await reader.answer_on(connection, viewer, [selected]))[selected.key]
    if isinstance(found, StockshiftError):
        raise found
    return found
