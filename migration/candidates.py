"""Which items are to be copied, which cannot be, and why (R16, R18). Nothing is guessed.

| what is found | outcome |
|---|---|
| `quantityInStock` NULL | copied as 0, which is what it answers |
| `freightCostUSD` NULL | copied as 0, the column's own default |
| `costPerUnitUSD`, `status`, `createdAt` or `updatedAt` NULL | held back: a batch needs one, only the shop knows it |
| a status that type "Status" lacks | held back |
| `locationId` or `assignedUserId` naming nothing | held back |
| one batch exists already, equal to the item | adopted as the opening batch |
| other batches exist already | held back, for a decision |
"""

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    Text,
    and_,
    case,
    cast,
    exists,
    func,
    null,
    or_,
    select,
)
from sqlalchemy.sql.expression import literal

from db import tables
from db.shape import Shape

HELD_BACK = {
    "NULL_COST": "costPerUnitUSD is NULL; set the item's cost, then migrate again",
    "NULL_STATUS": "status is NULL; set the item's status, then migrate again",
    "NULL_TIMES": "createdAt or updatedAt is NULL; set both, then migrate again",
    "UNKNOWN_STATUS": 'status is no label of type "Status"; change it, or add the label, then migrate again',
    "DANGLING_LOCATION": "locationId names no location; set it to one or to NULL, then migrate again",
    "DANGLING_USER": "assignedUserId names no user; set it to one or to NULL, then migrate again",
    "UNKNOWN_BATCHES": "batches exist that are not this item's copy; delete them, or leave one that equals the item,"
    " then migrate again",
}
DEFAULTED = {
    "NULL_QUANTITY": "quantityInStock is NULL; copied as 0, which is what it answers",
    "NULL_FREIGHT": "freightCostUSD is NULL; copied as 0, the column's default",
    "ADOPTED": "one batch equal to the item exists already; it becomes the opening batch",
}


def opening_values(item: FromClause) -> dict[str, ColumnElement[object]]:
    """The opening batch's columns out of an item's row: NULL quantity and freight become 0, all else is as it is."""
    values: dict[str, ColumnElement[object]] = {
        batch: item.c[column] for batch, column in tables.OPENING_COLUMNS.items()
    }
    for column in ("quantity", "freightCostUSD"):
        values[column] = func.coalesce(values[column], 0)
    values["status"] = cast(cast(values["status"], Text), tables.STATUS)
    return values


def wanted(item: FromClause) -> ColumnElement[bool]:
    """The items that the migration copies."""
    return or_(item.c.quantityInStock > 0, item.c.status.is_not(null()))


def reason(shape: Shape, item: FromClause, adopt: ColumnElement[str | None]) -> ColumnElement[str | None]:
    """Why an item cannot be copied, a key of HELD_BACK; NULL when it can."""
    location = shape.relation(tables.locations, "known_location")
    user = shape.relation(tables.users, "known_user")
    batch = shape.relation(tables.stock_batches, "known_batch")
    labels = [literal(label, Text) for label in shape.status_labels]
    return case(
        (item.c.costPerUnitUSD.is_(null()), "NULL_COST"),
        (item.c.status.is_(null()), "NULL_STATUS"),
        (or_(item.c.createdAt.is_(null()), item.c.updatedAt.is_(null())), "NULL_TIMES"),
        (cast(item.c.status, Text).not_in(labels), "UNKNOWN_STATUS"),
        (
            and_(item.c.locationId.is_not(null()), ~exists().where(location.c.id == item.c.locationId)),
            "DANGLING_LOCATION",
        ),
        (
            and_(item.c.assignedUserId.is_not(null()), ~exists().where(user.c.id == item.c.assignedUserId)),
            "DANGLING_USER",
        ),
        (and_(adopt.is_(null()), exists().where(batch.c.itemId == item.c.id)), "UNKNOWN_BATCHES"),
        else_=null(),
    )


def adoptable(shape: Shape, item: FromClause) -> ColumnElement[str | None]:
    """The id of the lone batch that equals its item already."""
    batch = shape.relation(tables.stock_batches, "lone_batch")
    values = opening_values(item)
    equal = [batch.c[column].is_not_distinct_from(values[column]) for column in tables.COMPARED_COLUMNS]
    return (
        select(func.min(batch.c.id))
        .where(batch.c.itemId == item.c.id)
        .having(and_(func.count() == 1, func.bool_and(and_(*equal))))
        .scalar_subquery()
    )


def candidates(shape: Shape, item: FromClause) -> Select[str, str | None, str | None]:
    """The items that are to be copied and were not: `id`, `reason` (NULL: it can be copied), `adopt` (a batch's id)."""
    ledger = shape.relation(tables.copy_ledger, "ledger")
    adopt = adoptable(shape, item)
    return (
        select(item.c.id, reason(shape, item, adopt).label("reason"), adopt.label("adopt"))
        .where(wanted(item))
        .where(~exists().where(ledger.c.item_id == item.c.id))
    )
