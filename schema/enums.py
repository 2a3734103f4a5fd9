"""The enums that clients see."""

from enum import Enum

import strawberry

from resolvers.errors import ErrorCode
from resolvers.movement import MovementReason
from resolvers.status import Status

strawberry.enum(Status, description="Where stock is. A shop's database may know more labels than these.")
strawberry.enum(ErrorCode)
strawberry.enum(
    MovementReason,
    description="LEGACY_WRITE: the legacy columns were written. DIRECT: the batch was, past this service.",
)

__all__ = [
    "ErrorCode",
    "ItemOrderField",
    "MigrationPhase",
    "MovementReason",
    "OrderDirection",
    "ReadSource",
    "RunKind",
    "RunState",
    "ScheduleStageName",
    "ScheduleStageState",
    "Status",
    "VerificationState",
]


@strawberry.enum
class ReadSource(Enum):
    AUTO = "AUTO"
    LEGACY = "LEGACY"


@strawberry.enum
class MigrationPhase(Enum):
    NOT_STARTED = "NOT_STARTED"
    EXPANDED = "EXPANDED"
    COPYING = "COPYING"
    DUAL_RUN = "DUAL_RUN"
    CUT_OVER = "CUT_OVER"
    CONTRACTED = "CONTRACTED"
    ROLLED_BACK = "ROLLED_BACK"


@strawberry.enum
class RunKind(Enum):
    ATOMIC = "ATOMIC"
    ONLINE = "ONLINE"


@strawberry.enum(description="INTERRUPTED: its driver was not heard of for a while; it can be driven on.")
class RunState(Enum):
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    CANCELLED = "CANCELLED"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    INTERRUPTED = "INTERRUPTED"


@strawberry.enum
class ScheduleStageName(Enum):
    BACKUP = "BACKUP"
    MIGRATE = "MIGRATE"
    TEST_ONE_ITEM = "TEST_ONE_ITEM"
    WEEK_1 = "WEEK_1"
    WEEK_2 = "WEEK_2"
    MONTH_1 = "MONTH_1"
    CONTRACT = "CONTRACT"


@strawberry.enum
class ScheduleStageState(Enum):
    DONE = "DONE"
    NEXT = "NEXT"
    LATER = "LATER"


@strawberry.enum
class VerificationState(Enum):
    RUNNING = "RUNNING"
    PASSED = "PASSED"
    FAILED = "FAILED"
    INTERRUPTED = "INTERRUPTED"


@strawberry.enum
class ItemOrderField(Enum):
    NAME = "NAME"
    CREATED_AT = "CREATED_AT"
    TOTAL_QUANTITY = "TOTAL_QUANTITY"


@strawberry.enum
class OrderDirection(Enum):
    ASC = "ASC"
    DESC = "DESC"
