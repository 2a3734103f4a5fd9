"""`createBatch`: one transaction that locks the item, copies it first if it never was, and adds the batch (R6).

Whoever comes second waits at the item's row lock and then sees that the item was copied; so 50 first batches at once
make one opening batch. The lock on the batches' table comes before it, in the order in which `migrate` takes them.
"""

import json
import uuid
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, FromClause, RowMapping, exists, func, insert, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from db.shape import Shape, load_shape
from migration.archive import contracted
from migration.capture import is_capturing
from migration.copy import ItemHeldBack, because, copy_item
from resolvers.errors import ErrorCode, Refused, UserError
from resolvers.scope import Scope
from resolvers.status import Status
from resolvers.viewer import Viewer

INT4 = 2**31 - 1
MOST_USD = 1e12  # far above any stock, and sums over billions of units still fit a double
AMOUNTS = f"0 to {MOST_USD:,.0f}"
LONGEST = {"notes": 10_000, "orderNumber": 200, "idempotencyKey": 200}
SHOWN_LENGTH = 100
RECEIVED = "RECEIVED"
NOW = func.timezone("UTC", func.statement_timestamp())


@dataclass(frozen=True)
class NewBatch:
    """A batch to make. Times are UTC without a zone; `costPerUnitUSD` None is the item's own."""

    itemId: str
    quantity: int
    status: Status = Status.ToOrder
    costPerUnitUSD: float | None = None
    freightCostUSD: float = 0.0
    locationId: str | None = None
    assignedUserId: str | None = None
    orderDate: datetime | None = None
    expectedArrival: datetime | None = None
    arrivedDate: datetime | None = None
    orderNumber: str | None = None
    notes: str | None = None
    idempotencyKey: str | None = None

    def problems(self) -> list[UserError]:
        """What is wrong with the values by themselves."""
        found = []
        if not 0 <= self.quantity <= INT4:
            found.append(_invalid("quantity", self.quantity, f"a batch has 0 to {INT4} units"))
        for name in ("costPerUnitUSD", "freightCostUSD"):
            amount = getattr(self, name)
            if amount is not None and not _is_amount(amount):
                found.append(_invalid(name, amount, f"an amount in USD is {AMOUNTS}"))
        for name, value in asdict(self).items():
            if isinstance(value, str) and not _storable(value):
                found.append(_invalid(name, value, "a text has no NUL character and no half of a surrogate pair"))
        for name, longest in LONGEST.items():
            value = getattr(self, name)
            if value is not None and len(value) > longest:
                found.append(_error(name, f"{name} has {len(value)} characters; at most {longest} are kept"))
        if self.idempotencyKey == "":
            found.append(_invalid("idempotencyKey", "", "leave it out, or give a key"))
        return found


def _is_amount(value: float) -> bool:
    return 0 <= value <= MOST_USD  # NaN is not


def _storable(value: str) -> bool:
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False


def _error(name: str, message: str, code: ErrorCode = ErrorCode.INVALID) -> UserError:
    return UserError(message, code, ["input", name])


def _invalid(name: str, value: object, remedy: str) -> UserError:
    return _error(name, f"{name} is {_shown(value)}; {remedy}")


def _shown(value: object) -> str:
    """A value that a client chose, made fit for one line."""
    shown = repr(value)
    return shown if len(shown) <= SHOWN_LENGTH else f"{shown[:SHOWN_LENGTH]}…"


async def create_batch(connection: AsyncConnection, viewer: Viewer, new: NewBatch) -> str:
    """Makes a batch in the caller's transaction and answers its id. Raises Refused, having changed nothing."""
    problems = new.problems()
    if problems:
        raise Refused(*problems)
    shape = await load_shape(connection)
    if not (shape.expanded and shape.has(tables.stock_batches)):
        message = "the migration has not begun, so there are no batches yet; an admin runs `stockshift migrate` first"
        raise Refused(UserError(message, ErrorCode.MIGRATION_NOT_STARTED))
    await connection.execute(text("LOCK TABLE public.stock_batches IN ROW EXCLUSIVE MODE"))
    without_legacy = not shape.has_legacy_columns and await contracted(connection) is not None
    if not await is_capturing(connection, contracted=without_legacy):
        message = "the triggers that keep both systems in step are not on, so no batch is made: if a migration has just"
        message += " begun, try again in a moment; else an admin runs `stockshift migrate`, which puts them on"
        raise Refused(UserError(message, ErrorCode.MIGRATION_NOT_STARTED))
    scope = Scope(shape, viewer.company)
    item = await _locked_item(connection, scope, new)
    batch_id = str(uuid.uuid4())
    if new.idempotencyKey is not None:
        made = await _claim_key(connection, item["companyId"], new, batch_id)
        if made is not None:
            return made
    await _references_exist(connection, scope, new, item["companyId"])
    if not without_legacy:
        await _copy_first(connection, shape, new)
    cost = _cost(new, item["costPerUnitUSD"])
    await because(connection, RECEIVED, viewer.subject)
    values = {name: value for name, value in asdict(new).items() if name not in ("idempotencyKey", "costPerUnitUSD")}
    values["status"] = new.status.value
    await connection.execute(
        insert(tables.stock_batches).values(id=batch_id, costPerUnitUSD=cost, createdAt=NOW, updatedAt=NOW, **values)
    )
    return batch_id


async def _locked_item(connection: AsyncConnection, scope: Scope, new: NewBatch) -> RowMapping:
    """The item's company and cost, its row locked: nobody copies it, sells from it or deletes it before we commit."""
    item = scope.lockable_item(new.itemId)
    row = (await connection.execute(item)).mappings().one_or_none()
    if row is None:
        message = f"no item has id {_shown(new.itemId)}; look it up with `items`"
        raise Refused(_error("itemId", message, ErrorCode.NOT_FOUND))
    return row


def _cost(new: NewBatch, own: float | None) -> float:
    """The batch's own, or else the item's, whose table may hold anything."""
    if new.costPerUnitUSD is not None:
        return new.costPerUnitUSD
    if own is None:
        raise Refused(_error("costPerUnitUSD", "the item has no cost of its own; give the batch one"))
    if not _is_amount(own):
        message = f"the item's own cost is {own!r}, which is not {AMOUNTS}; give the batch one"
        raise Refused(_error("costPerUnitUSD", message))
    return own


async def _references_exist(connection: AsyncConnection, scope: Scope, new: NewBatch, company: str) -> None:
    """The location and the assignee are of the item's own company."""

    def found(relation: FromClause, id_: str | None) -> ColumnElement[bool]:
        return exists().where(relation.c.id == id_, relation.c.companyId == company)

    location, user = scope.locations(), scope.users()
    known = (
        await connection.execute(
            select(found(location, new.locationId).label("location"), found(user, new.assignedUserId).label("user"))
        )
    ).one()
    problems = []
    if new.locationId is not None and not known.location:
        message = f"the item's company has no location {_shown(new.locationId)}; look it up with `locations`"
        problems.append(_error("locationId", message, ErrorCode.NOT_FOUND))
    if new.assignedUserId is not None and not known.user:
        message = f"the item's company has no user {_shown(new.assignedUserId)}; give another, or none"
        problems.append(_error("assignedUserId", message, ErrorCode.NOT_FOUND))
    if problems:
        raise Refused(*problems)


async def _claim_key(connection: AsyncConnection, company: str, new: NewBatch, batch_id: str) -> str | None:
    """Takes the idempotency key for this batch; or answers the batch that was made with it before.

    One that comes again is answered even if it could not be carried out any more. The insert waits for another request
    that holds the key, so of two at once one makes the batch.
    """
    keys = tables.idempotency_key
    request = json.dumps(asdict(new), sort_keys=True, default=str)
    taken = await connection.execute(
        postgresql.insert(keys)
        .values(company_id=company, key=new.idempotencyKey, request=request, batch_id=batch_id)
        .on_conflict_do_nothing()
    )
    if taken.rowcount:
        return None
    first = (
        await connection.execute(select(keys).where(keys.c.company_id == company, keys.c.key == new.idempotencyKey))
    ).one()
    if first.request != request:
        message = f"idempotencyKey {new.idempotencyKey!r} was used for another batch; use a new key for this one"
        raise Refused(_error("idempotencyKey", message, ErrorCode.CONFLICT))
    batches = tables.stock_batches
    if not await connection.scalar(select(exists().where(batches.c.id == first.batch_id))):
        message = f"the batch that idempotencyKey {new.idempotencyKey!r} made was deleted since; use a new key"
        raise Refused(_error("idempotencyKey", message, ErrorCode.CONFLICT))
    return str(first.batch_id)


async def _copy_first(connection: AsyncConnection, shape: Shape, new: NewBatch) -> None:
    """Copies the item unless it was copied. One that has batches of its own is answered from them already."""
    ledger = tables.copy_ledger
    if await connection.scalar(select(exists().where(ledger.c.item_id == new.itemId))):
        return
    try:
        await copy_item(connection, shape, new.itemId)
    except ItemHeldBack as held_back:
        batches = tables.stock_batches
        if not await connection.scalar(select(exists().where(batches.c.itemId == new.itemId))):
            raise Refused(_error("itemId", held_back.message, ErrorCode.CONFLICT)) from held_back
