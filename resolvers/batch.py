"""How a batch is answered."""

from sqlalchemy import FromClause, select

from resolvers import item as single
from resolvers import place
from resolvers.connection import Order, Rows, asked_in_order
from resolvers.movement import movements_of
from resolvers.row import Row
from resolvers.scope import Scope
from resolvers.selection import Selected
from resolvers.sql import Fields, Value, column, json_object, moment
from resolvers.status import Status

BATCH: Fields[Row] = {
    "id": column("id"),
    "item": lambda batch, selected: single.one_item(batch.scope, batch.c.itemId, selected),
    "quantity": column("quantity"),
    "status": column("status"),
    "costPerUnitUSD": column("costPerUnitUSD"),
    "freightCostUSD": column("freightCostUSD"),
    "orderDate": moment("orderDate"),
    "expectedArrival": moment("expectedArrival"),
    "arrivedDate": moment("arrivedDate"),
    "orderNumber": column("orderNumber"),
    "notes": column("notes"),
    "location": lambda batch, selected: place.location(batch.scope, batch.c.locationId, selected),
    "assignedUser": lambda batch, selected: place.user(batch.scope, batch.c.assignedUserId, selected),
    "openingBatch": lambda batch, _: batch.scope.is_opening_batch(batch.c.id),
    "movements": movements_of,
    "createdAt": moment("createdAt"),
    "updatedAt": moment("updatedAt"),
}


def one_batch(scope: Scope, id_: Value, selected: Selected) -> Value:
    """The batch with an id as an object; NULL when there is none that the viewer may see."""
    row = Row(scope, scope.batches())
    return select(json_object(row, BATCH, selected.children).value).where(row.c.id == id_).scalar_subquery()


def batches_of(scope: Scope, item: FromClause, status: Status | None) -> Rows[Row]:
    """An item's batches, oldest first."""
    table, mine = scope.batches_of(item.c.id)
    wanted = [] if status is None else [table.c.status.in_(scope.labels([status.value]))]
    where = [mine, *asked_in_order(*wanted)]
    return Rows(table, Row(scope, table), where, Order("OLDEST", table.c.createdAt, table.c.id), outer=item)
