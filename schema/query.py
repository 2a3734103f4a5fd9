"""The root of every query.

All but `migration` are answered by the operation's one statement, before any of these run: see resolvers/query.py for
what they mean and who may ask.
"""

from typing import Any

import strawberry
from strawberry import UNSET
from strawberry.types import Info

from db.engine import connecting
from migration.status import read_status
from resolvers.query import require
from resolvers.viewer import Role
from schema.context import Context
from schema.enums import ItemOrderField, OrderDirection
from schema.inputs import ItemFilter, ItemOrder
from schema.types import (
    After,
    First,
    Item,
    ItemConnection,
    Location,
    Migration,
    StockBatch,
    StockSummary,
    Verification,
    VerificationConnection,
    answered,
)

ContextInfo = Info[Context, Any]
Root = strawberry.Parent[Any]
BY_NAME = ItemOrder(field=ItemOrderField.NAME, direction=OrderDirection.ASC)


def item(root: Root, info: ContextInfo, id: strawberry.ID) -> Item | None:
    return answered(root, info)


def items(
    root: Root,
    info: ContextInfo,
    first: First = 50,
    after: After = UNSET,
    filter: ItemFilter | None = UNSET,
    orderBy: ItemOrder | None = BY_NAME,
) -> ItemConnection:
    return answered(root, info)


def batch(root: Root, info: ContextInfo, id: strawberry.ID) -> StockBatch | None:
    return answered(root, info)


def stock_summary(root: Root, info: ContextInfo, filter: ItemFilter | None = UNSET) -> StockSummary:
    return answered(root, info)


def verification(root: Root, info: ContextInfo, id: strawberry.ID) -> Verification | None:
    return answered(root, info)


def verifications(root: Root, info: ContextInfo, first: First = 20, after: After = UNSET) -> VerificationConnection:
    return answered(root, info)


async def migration(info: ContextInfo) -> Migration:
    viewer = info.context.viewer
    require(viewer, Role.MANAGER, "migration")
    async with connecting(info.context.reader.engine) as connection:
        return Migration.of(await read_status(connection, viewer.company))


@strawberry.type
class Query:
    item: Item | None = strawberry.field(resolver=item)
    items: ItemConnection = strawberry.field(resolver=items)
    batch: StockBatch | None = strawberry.field(resolver=batch)
    locations: list[Location] = strawberry.field(description="By name then id.")
    stockSummary: StockSummary = strawberry.field(resolver=stock_summary)
    migration: Migration = strawberry.field(resolver=migration, description="MANAGER and ADMIN.")
    verification: Verification | None = strawberry.field(resolver=verification, description="MANAGER and ADMIN.")
    verifications: VerificationConnection = strawberry.field(
        resolver=verifications, description="Latest first. MANAGER and ADMIN."
    )
