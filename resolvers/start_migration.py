"""`startMigration` and `resumeMigration`: the engine of `stockshift migrate --online`, driven by the service itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from db.engine import connecting
from db.errors import StockshiftError
from db.wal import Consistency, note_written
from migration.blockers import Blocked
from migration.choices import Choices, InvalidChoice
from migration.failures import Refused as RefusedByDatabase
from migration.lease import LeaseLost
from migration.locks import LockNotHad, MigrationRunning
from migration.options import Options, UnknownItems, UnknownLabel
from migration.run import NoRun, ask
from migration.status import Status as MigrationStatus
from migration.status import read_status
from migration.throttle import Throttle, UnknownThrottle
from resolvers.driving import Driving
from resolvers.errors import ErrorCode, Forbidden, Refused, UserError
from resolvers.mutate import read_back, refusal
from resolvers.query import require, require_storable
from resolvers.reader import Reader
from resolvers.selection import Selected
from resolvers.status import Status
from resolvers.viewer import Role, Viewer

TOLD: Mapping[type[StockshiftError], tuple[ErrorCode, str | None]] = {
    MigrationRunning: (ErrorCode.MIGRATION_RUNNING, None),
    LeaseLost: (ErrorCode.MIGRATION_RUNNING, None),
    LockNotHad: (ErrorCode.CONFLICT, None),
    Blocked: (ErrorCode.CONFLICT, None),
    RefusedByDatabase: (ErrorCode.CONFLICT, None),
    NoRun: (ErrorCode.MIGRATION_NOT_STARTED, None),
    UnknownThrottle: (ErrorCode.INVALID, "throttle"),
    InvalidChoice: (ErrorCode.INVALID, "nullCost"),
    UnknownLabel: (ErrorCode.INVALID, "nullStatus"),
    UnknownItems: (ErrorCode.NOT_FOUND, "itemIds"),
}
"""What is an expected failure, and the field of the input that was wrong."""


@dataclass(frozen=True)
class NewRun:
    """What a run is asked to do; times are UTC without a zone."""

    chunkSize: int | None = None  # noqa: N815 - the names of the input
    throttle: tuple[str, ...] = ()
    nullCost: float | None = None  # noqa: N815
    nullOrderDate: datetime | None = None  # noqa: N815
    nullStatus: Status | None = None  # noqa: N815
    itemIds: tuple[str, ...] | None = None  # noqa: N815

    def options(self) -> Options:
        """Raises UnknownThrottle, InvalidChoice, Refused."""
        if self.chunkSize is not None and self.chunkSize < 1:
            raise _invalid("chunkSize", f"{self.chunkSize} is no number of items; give 1 or more")
        if self.itemIds == ():
            raise _invalid("itemIds", "no item is named; leave itemIds out for all of them")
        cost = None if self.nullCost is None else repr(self.nullCost)
        choices = Choices.parse(cost, None, self.nullStatus and self.nullStatus.value)
        return Options(
            self.chunkSize,
            Throttle.parse(self.throttle),
            replace(choices, order_date=self.nullOrderDate),
            self.itemIds or (),
        )


def _invalid(field: str, message: str) -> Refused:
    return Refused(UserError(message, ErrorCode.INVALID, ["input", field]))


def require_everybody(viewer: Viewer, name: str) -> None:
    """Raises Forbidden: who sees one company does not act on all."""
    require(viewer, Role.ADMIN, name)
    if viewer.company is not None:
        raise Forbidden(f"{name} changes what every company has; use an admin's token for all companies")


def told(error: StockshiftError) -> Refused:
    """An expected failure as data. Raises what is none."""
    for kind, (code, field) in TOLD.items():
        if isinstance(error, kind):
            return Refused(UserError(error.message, code, None if field is None else ["input", field]))
    raise error


async def start_migration(
    reader: Reader,
    driving: Driving,
    viewer: Viewer,
    selected: Selected,
    consistency: Consistency,
    new: NewRun | None,
    shown: Callable[[MigrationStatus], object],
) -> Any:
    """The payload, as soon as a run is driven: a new one, or the unfinished one. Raises Forbidden, BadRequest."""
    require_everybody(viewer, selected.name)
    require_storable(selected)
    try:
        await driving.begin(viewer.subject, None if new is None else new.options())
    except Refused as refused:
        return refusal(selected, refused)
    except StockshiftError as error:
        return refusal(selected, told(error))
    return await answered(reader, viewer, selected, consistency, shown)


async def resume_migration(
    reader: Reader,
    driving: Driving,
    viewer: Viewer,
    selected: Selected,
    consistency: Consistency,
    shown: Callable[[MigrationStatus], object],
) -> Any:
    """The payload, as soon as the unfinished run is driven, by whomever. Raises Forbidden."""
    require_everybody(viewer, selected.name)
    try:
        async with connecting(reader.engine) as connection, connection.begin():
            run = await ask(connection, "RUN", viewer.subject)
        if not run.driven:
            await driving.begin(viewer.subject, None)
    except StockshiftError as error:
        return refusal(selected, told(error))
    return await answered(reader, viewer, selected, consistency, shown)


async def answered(
    reader: Reader,
    viewer: Viewer,
    selected: Selected,
    consistency: Consistency,
    shown: Callable[[MigrationStatus], object],
) -> Any:
    async with connecting(reader.engine) as connection:
        status = await read_status(connection, None)
        payload = await read_back(reader, connection, viewer, selected, {"migration": shown(status)})
        await note_written(consistency, connection)
        return payload
