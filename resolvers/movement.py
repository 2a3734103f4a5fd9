"""How a movement is answered: one change of a batch's quantity, by whomever (R11)."""

from enum import Enum

from sqlalchemy import Text, case, cast, func

from resolvers.connection import Order, Rows, connection
from resolvers.row import Row
from resolvers.selection import Selected
from resolvers.sql import Fields, Json, Value, column, constant, instant


class MovementReason(Enum):
    RECEIVED = "RECEIVED"
    LEGACY_WRITE = "LEGACY_WRITE"
    DIRECT = "DIRECT"
    DELETED = "DELETED"
    TRUNCATED = "TRUNCATED"
    ISSUED = "ISSUED"
    TRANSFERRED = "TRANSFERRED"
    CORRECTED = "CORRECTED"
    REPAIRED = "REPAIRED"
    FOLDED = "FOLDED"


def _reason(reason: Value) -> Value:
    """The reason is a setting that any session can make, so any text may be there. One that is not ours is DIRECT."""
    known = [constant(one.value) for one in MovementReason]
    return case((reason.in_(known), reason), else_=constant(MovementReason.DIRECT.value))


MOVEMENT: Fields[Row] = {
    "id": lambda movement, _: cast(movement.c.id, Text),
    "itemId": column("item_id"),
    "delta": column("delta"),
    "reason": lambda movement, _: _reason(movement.c.reason),
    "actor": column("actor"),
    "application": column("application"),
    "at": lambda movement, _: instant(func.timezone("UTC", movement.c.at)),
}


def movements_of(batch: Row, selected: Selected) -> Json | Value:
    """A page of a batch's movements, oldest first."""
    scope = batch.scope

    def rows() -> Rows[Row]:
        table, mine = scope.movements_of(batch.c.id)
        return Rows(table, Row(scope, table), [mine], Order("RECORDED", table.c.id, table.c.id), outer=batch.table)

    return connection(scope, selected, rows, lambda page: Row(scope, page), MOVEMENT)
