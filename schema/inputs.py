"""What clients pass in."""

from datetime import datetime

import strawberry
from strawberry import UNSET

from schema.enums import ItemOrderField, OrderDirection, Status


@strawberry.input
class ItemOrder:
    field: ItemOrderField
    direction: OrderDirection


@strawberry.input(description="Every condition that is given must hold; on the values that the item answers.")
class ItemFilter:
    search: str | None = strawberry.field(default=UNSET, description="Part of the name, in any case.")
    statuses: list[Status] | None = strawberry.field(
        default=UNSET, description="Some stock is in one; [] finds nothing."
    )
    locationIds: list[strawberry.ID] | None = strawberry.field(
        default=UNSET, description="Some stock is at one; [] finds nothing."
    )
    usingBatchSystem: bool | None = UNSET
    lowStock: bool | None = strawberry.field(default=UNSET, description="At or below the item's minimum level.")
    companyId: strawberry.ID | None = UNSET


@strawberry.input
class CreateBatchInput:
    itemId: strawberry.ID
    quantity: int
    status: Status | None = Status.ToOrder
    costPerUnitUSD: float | None = strawberry.field(default=UNSET, description="Absent: the item's own cost.")
    freightCostUSD: float | None = strawberry.field(default=0.0, description="For the whole batch, not per unit.")
    locationId: strawberry.ID | None = UNSET
    assignedUserId: strawberry.ID | None = UNSET
    orderDate: datetime | None = UNSET
    expectedArrival: datetime | None = UNSET
    arrivedDate: datetime | None = UNSET
    orderNumber: str | None = UNSET
    notes: str | None = UNSET
    idempotencyKey: str | None = strawberry.field(
        default=UNSET, description="The same key twice makes one batch and answers it twice."
    )


@strawberry.input(description="Where an item's column is NULL, what is chosen in its place is kept with the copy.")
class StartMigrationInput:
    chunkSize: int | None = strawberry.field(default=UNSET, description="The most items in one transaction.")
    throttle: list[str] | None = strawberry.field(
        default=UNSET, description="When to hold back: sleep=0.5, active=20, lag=5 (s), wal=50 (MB/s)."
    )
    nullCost: float | None = strawberry.field(default=UNSET, description="The cost of a unit, in USD.")
    nullOrderDate: datetime | None = UNSET
    nullStatus: Status | None = UNSET
    itemIds: list[strawberry.ID] | None = strawberry.field(default=UNSET, description="Absent: all items.")


@strawberry.input
class RunVerificationInput:
    wait: bool | None = strawberry.field(default=True, description="False: answered at once, while it runs.")
