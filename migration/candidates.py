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
| a time finer than a millisecond | held back: a batch's times are in milliseconds |
| neither stock nor status | nothing to copy: left as it is, answered from the legacy columns |
"""

from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    Text,
    and_,
    any_,
    case,
    cast,
    exists,
    func,
    not_,
    null,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.expression import literal

from db import tables
from db.shape import Shape
from migration.choices import Chosen, or_chosen

HELD_BACK = {
    "NULL_COST": "costPerUnitUSD is NULL; set the item's cost, then migrate again",
    "NULL_STATUS": "status is NULL; set the item's status, then migrate again",
    "NULL_TIMES": "createdAt or updatedAt is NULL; set both, then migrate again",
    "FINER_TIMES": "a time is finer than a millisecond, which is what a batch keeps; round it, then migrate again",
    "UNKNOWN_STATUS": 'status is no label of type "Status"; change it, or add the label, then migrate again',
    "DANGLING_LOCATION": "locationId names no location; set it to one or to NULL, then migrate again",
    "DANGLING_USER": "assignedUserId names no user; set it to one or to NULL, then migrate again",
    "MISSING_COLUMN": "items lacks a legacy column; put it back, then migrate again",
    "UNKNOWN_BATCHES": "batches exist that are not this item's copy; delete them, or leave one that equals the item,"
    " then migrate again",
}
DEFAULTED = {
    "NULL_QUANTITY": "quantityInStock is NULL; copied as 0, which is what it answers",
    "NULL_FREIGHT": "freightCostUSD is NULL; copied as 0, the column's default",
    "ADOPTED": "one batch equal to the item exists already; it becomes the opening batch",
}
LEFT = {
    "NOTHING_TO_COPY": "quantityInStock is not above 0 and status is NULL; nothing is copied, the item is answered from"
    " its legacy columns",
}
Among = Callable[[ColumnElement[str]], ColumnElement[bool]]
"""Whether an item is one of those asked for, by the column with its id."""

TIMES = ("orderDate", "expectedArrival", "createdAt", "updatedAt")


def everything(_: ColumnElement[str]) -> ColumnElement[bool]:
    return true()


def among_ids(ids: Iterable[str]) -> Among:
    asked = literal(list(ids), ARRAY(Text))
    return lambda item_id: item_id == any_(asked)


def opening_values(item: FromClause, chosen: Chosen = None) -> dict[str, ColumnElement[Any]]:
    """The opening batch's columns out of an item's row: NULL quantity and freight become 0, another NULL what was
    `chosen`, all else is as it is."""
    values = {batch: or_chosen(batch, item.c[column], chosen) for batch, column in tables.OPENING_COLUMNS.items()}
    for column in ("quantity", "freightCostUSD"):
        values[column] = func.coalesce(values[column], 0)
    return values | {"status": cast(status_text(item, chosen), tables.STATUS)}


def differing(batch: FromClause, item: FromClause, chosen: Chosen = None) -> dict[str, ColumnElement[bool]]:
    """By the batch's column: whether a batch and an item disagree on it. Statuses are compared as text."""
    values = opening_values(item, chosen) | {"status": status_text(item, chosen)}
    columns = {name: batch.c[name] for name in tables.COMPARED_COLUMNS} | {"status": cast(batch.c.status, Text)}
    return {name: column.is_distinct_from(values[name]) for name, column in columns.items()}


def status_text(item: FromClause, chosen: Chosen) -> ColumnElement[str]:
    """An item's status, which may be no label of the type."""
    return or_chosen("status", cast(item.c.status, Text), chosen)


def wanted(item: FromClause) -> ColumnElement[bool]:
    """The items that the migration copies."""
    return or_(item.c.quantityInStock > 0, item.c.status.is_not(null()))


def unwanted(item: FromClause) -> ColumnElement[bool]:
    return func.coalesce(not_(wanted(item)), true())


def judged(
    shape: Shape, item: FromClause, among: Among = everything, chosen: Chosen = None
) -> Select[str, str | None, str | None]:
    """Items as candidates: `id`, `reason` (a key of HELD_BACK; NULL: it can be copied), `adopt` (a batch's id).

    `among` says of an id whether the item is one of those asked for. One to adopt is an item's only batch, equals it,
    and is no other item's opening batch. Batches are counted in one pass: there need be no index on a shop's own table.
    """
    batch = shape.relation(tables.stock_batches, "had_batch")
    had = (
        select(batch.c.itemId, func.count().label("batches"), func.min(batch.c.id).label("id"))
        .where(among(batch.c.itemId))
        .group_by(batch.c.itemId)
        .subquery("had")
    )
    lone = shape.relation(tables.stock_batches, "lone")
    owner = shape.relation(tables.copy_ledger, "owner")
    equal = [not_(differs) for differs in differing(lone, item, chosen).values()]
    adopt = case((and_(*equal, ~exists().where(owner.c.batch_id == lone.c.id)), lone.c.id), else_=null())
    return (
        select(item.c.id, _reason(shape, item, had.c.itemId, adopt, chosen).label("reason"), adopt.label("adopt"))
        .select_from(item)
        .outerjoin(had, had.c.itemId == item.c.id)
        .outerjoin(lone, and_(lone.c.id == had.c.id, had.c.batches == 1))
        .where(among(item.c.id))
    )


def candidates(
    shape: Shape, item: FromClause, among: Among = everything, chosen: Chosen = None
) -> Select[str, str | None, str | None]:
    """The items that are to be copied and were not, as `judged`."""
    ledger = shape.relation(tables.copy_ledger, "ledger")
    entry = exists().where(ledger.c.item_id == item.c.id, among(ledger.c.item_id))
    return judged(shape, item, among, chosen).where(wanted(item)).where(~entry)


def _reason(
    shape: Shape,
    item: FromClause,
    has_batches: ColumnElement[str],
    adopt: ColumnElement[str | None],
    chosen: Chosen,
) -> ColumnElement[str | None]:
    location = shape.relation(tables.locations, "known_location")
    user = shape.relation(tables.users, "known_user")
    labels = [literal(label, Text) for label in shape.status_labels]
    return case(
        (or_chosen("costPerUnitUSD", item.c.costPerUnitUSD, chosen).is_(null()), "NULL_COST"),
        (status_text(item, chosen).is_(null()), "NULL_STATUS"),
        (or_(item.c.createdAt.is_(null()), item.c.updatedAt.is_(null())), "NULL_TIMES"),
        (or_(*[cast(item.c[name], tables.WALL_CLOCK).is_distinct_from(item.c[name]) for name in TIMES]), "FINER_TIMES"),
        (status_text(item, chosen).not_in(labels), "UNKNOWN_STATUS"),
        (
            and_(item.c.locationId.is_not(null()), ~exists().where(location.c.id == item.c.locationId)),
            "DANGLING_LOCATION",
        ),
        (
            and_(item.c.assignedUserId.is_not(null()), ~exists().where(user.c.id == item.c.assignedUserId)),
            "DANGLING_USER",
        ),
        (and_(has_batches.is_not(null()), adopt.is_(null())), "UNKNOWN_BATCHES"),
        else_=null(),
    )
