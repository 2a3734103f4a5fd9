"""What a client is told, as data in a payload or as a GraphQL error with a code. Nothing here is a fault."""

from dataclasses import dataclass
from enum import Enum

from db.errors import StockshiftError


class ErrorCode(Enum):
    NOT_FOUND = "NOT_FOUND"
    INVALID = "INVALID"
    CONFLICT = "CONFLICT"
    INSUFFICIENT_STOCK = "INSUFFICIENT_STOCK"
    NOT_CUT_OVER = "NOT_CUT_OVER"
    NOT_VERIFIED = "NOT_VERIFIED"
    MIGRATION_RUNNING = "MIGRATION_RUNNING"
    MIGRATION_NOT_STARTED = "MIGRATION_NOT_STARTED"
    CONFIRMATION_MISMATCH = "CONFIRMATION_MISMATCH"
    GATE_CLOSED = "GATE_CLOSED"


@dataclass(frozen=True)
class UserError:
    """An expected failure: which input field (a path, None for the whole), what was wrong and what to do."""

    message: str
    code: ErrorCode
    field: list[str] | None = None


class Refused(StockshiftError):
    """What was asked for cannot be done; `errors` says why."""

    def __init__(self, *errors: UserError) -> None:
        self.errors = errors
        super().__init__("; ".join(error.message for error in errors))


class BadRequest(StockshiftError):
    """A query asks for something that no data can answer: a page too long, a cursor of another query."""

    code = "BAD_REQUEST"


class Forbidden(StockshiftError):
    """The token's role may not do this; use a token with a higher role."""

    code = "FORBIDDEN"
