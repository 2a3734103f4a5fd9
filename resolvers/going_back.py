"""`rollbackMigration` and its undo: the engine of `stockshift rollback`, on the unpooled connection."""

from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from db.errors import StockshiftError
from db.wal import Consistency
from migration.archive import ConfirmationMismatch, NotArchived, Superseded
from migration.draft import Changed
from migration.exclusively import Actor
from migration.status import Status as MigrationStatus
from migration.verify import MigrationNotStarted
from resolvers.errors import ErrorCode, Refused, UserError
from resolvers.mutate import refusal
from resolvers.query import require_storable
from resolvers.reader import Reader
from resolvers.selection import Selected
from resolvers.start_migration import answered, require_everybody, told
from resolvers.viewer import Viewer

PATIENCE_SECONDS = 10.0
"""How long a request tries for locks; a command tries until somebody stops it."""
CODES: tuple[tuple[type[StockshiftError], ErrorCode], ...] = (
    (MigrationNotStarted, ErrorCode.MIGRATION_NOT_STARTED),
    (Changed, ErrorCode.CONFLICT),
    (NotArchived, ErrorCode.CONFLICT),
    (Superseded, ErrorCode.CONFLICT),
)


async def go_back(
    reader: Reader,
    direct: AsyncEngine,
    viewer: Viewer,
    selected: Selected,
    consistency: Consistency,
    act: Callable[[AsyncEngine, Actor], Awaitable[object]],
    shown: Callable[[MigrationStatus], object],
) -> Any:
    """The payload after `act`, or why it was refused. Raises Forbidden, BadRequest."""
    require_everybody(viewer, selected.name)
    require_storable(selected)
    try:
        await act(direct, Actor(viewer.subject, "service", PATIENCE_SECONDS))
    except ConfirmationMismatch as error:
        return refusal(selected, Refused(UserError(error.message, ErrorCode.CONFIRMATION_MISMATCH, ["confirm"])))
    except StockshiftError as error:
        return refusal(selected, _refused(error))
    return await answered(reader, viewer, selected, consistency, shown)


def _refused(error: StockshiftError) -> Refused:
    """An expected failure as data. Raises what is none."""
    for kind, code in CODES:
        if isinstance(error, kind):
            return Refused(UserError(error.message, code))
    return told(error)
