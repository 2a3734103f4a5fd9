"""The usual stack: Strawberry, SQLAlchemy's ORM, a DataLoader for each relation.

`python -m bench.peers.strawberry_orm`, with DATABASE_URL, PORT and POOL_SIZE in the environment.
"""

import os
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from typing import Any, NewType

import strawberry
import uvicorn
from sqlalchemy import BigInteger, ForeignKey, select, tuple_
from sqlalchemy.dialects.postgresql import ENUM
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.dataloader import DataLoader
from strawberry.schema.config import StrawberryConfig

from db.engine import create_engine
from db.url import DatabaseUrl

BigInt = NewType("BigInt", int)


@strawberry.enum
class Status(Enum):
    ToOrder = "ToOrder"
    Ordered = "Ordered"
    Arrived = "Arrived"
    Sold = "Sold"


STATUS = ENUM(Status, name="Status", schema="public", create_type=False)


class Base(DeclarativeBase):
    pass


class LocationRow(Base):
    __tablename__ = "locations"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]


class ItemRow(Base):
    __tablename__ = "items"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    status: Mapped[Status] = mapped_column(STATUS)
    quantity: Mapped[int] = mapped_column("quantityInStock")
    location_id: Mapped[str | None] = mapped_column("locationId", ForeignKey("locations.id"))


class BatchRow(Base):
    __tablename__ = "stock_batches"

    id: Mapped[str] = mapped_column(primary_key=True)
    quantity: Mapped[int]
    status: Mapped[Status] = mapped_column(STATUS)
    created_at: Mapped[datetime] = mapped_column("createdAt")
    item_id: Mapped[str] = mapped_column("itemId", ForeignKey("items.id"))
    location_id: Mapped[str | None] = mapped_column("locationId", ForeignKey("locations.id"))


class CopyRow(Base):
    __tablename__ = "copy_ledger"
    __table_args__ = ({"schema": "stockshift"},)

    item_id: Mapped[str] = mapped_column(primary_key=True)
    run_id: Mapped[int | None] = mapped_column(BigInteger)


class Loaders:
    """One for each request."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        self.sessions = sessions
        self.batches = DataLoader(self._batches)
        self.copied = DataLoader(self._copied)
        self.location = DataLoader(self._location)

    async def _batches(self, item_ids: list[str]) -> Sequence[list[BatchRow]]:
        query = select(BatchRow).where(BatchRow.item_id.in_(item_ids)).order_by(BatchRow.created_at, BatchRow.id)
        found = defaultdict(list)
        async with self.sessions() as session:
            for row in await session.scalars(query):
                found[row.item_id].append(row)
        return [found[item_id] for item_id in item_ids]

    async def _copied(self, item_ids: list[str]) -> Sequence[bool]:
        async with self.sessions() as session:
            found = set(await session.scalars(select(CopyRow.item_id).where(CopyRow.item_id.in_(item_ids))))
        return [item_id in found for item_id in item_ids]

    async def _location(self, ids: list[str]) -> Sequence[LocationRow | None]:
        async with self.sessions() as session:
            found = {row.id: row for row in await session.scalars(select(LocationRow).where(LocationRow.id.in_(ids)))}
        return [found.get(id_) for id_ in ids]

    async def lines(self, item: ItemRow) -> Sequence[ItemRow | BatchRow]:
        """An item's batches, or the item itself when it has none and was never copied."""
        batches = await self.batches.load(item.id)
        return batches if batches or await self.copied.load(item.id) else [item]


Info = strawberry.Info[Loaders, None]


@strawberry.type
class Location:
    id: strawberry.ID
    name: str

    @classmethod
    def of(cls, row: LocationRow) -> "Location":
        return cls(id=strawberry.ID(row.id), name=row.name)


@strawberry.type
class Batch:
    row: strawberry.Private[BatchRow]
    id: strawberry.ID
    quantity: int
    status: Status

    @strawberry.field
    async def location(self, info: Info) -> Location | None:
        found = self.row.location_id and await info.context.location.load(self.row.location_id)
        return Location.of(found) if found else None


@strawberry.type
class BatchEdge:
    node: Batch


@strawberry.type
class BatchConnection:
    edges: list[BatchEdge]


@strawberry.type
class Item:
    row: strawberry.Private[ItemRow]
    id: strawberry.ID
    name: str

    @classmethod
    def of(cls, row: ItemRow) -> "Item":
        return cls(row=row, id=strawberry.ID(row.id), name=row.name)

    @strawberry.field
    async def total_quantity(self, info: Info) -> BigInt:
        return BigInt(sum(line.quantity for line in await info.context.lines(self.row)))

    @strawberry.field
    async def statuses(self, info: Info) -> list[Status]:
        held = {line.status for line in await info.context.lines(self.row)}
        return [status for status in Status if status in held]

    @strawberry.field
    async def locations(self, info: Info) -> list[Location]:
        ids = {line.location_id for line in await info.context.lines(self.row) if line.location_id}
        found = [row for row in await info.context.location.load_many(list(ids)) if row]
        return [Location.of(row) for row in sorted(found, key=lambda row: (row.name, row.id))]

    @strawberry.field
    async def batches(self, info: Info, first: int = 50) -> BatchConnection:
        rows = (await info.context.batches.load(self.id))[:first]
        nodes = [Batch(row=row, id=strawberry.ID(row.id), quantity=row.quantity, status=row.status) for row in rows]
        return BatchConnection(edges=[BatchEdge(node=node) for node in nodes])


@strawberry.type
class ItemEdge:
    node: Item


@strawberry.type
class ItemConnection:
    edges: list[ItemEdge]


@strawberry.type
class Query:
    @strawberry.field
    async def items(self, info: Info, first: int, after_name: str, after_id: strawberry.ID) -> ItemConnection:
        behind = tuple_(ItemRow.name, ItemRow.id) > (after_name, after_id)
        query = select(ItemRow).where(behind).order_by(ItemRow.name, ItemRow.id).limit(first)
        async with info.context.sessions() as session:
            rows = await session.scalars(query)
            return ItemConnection(edges=[ItemEdge(node=Item.of(row)) for row in rows])

    @strawberry.field
    async def item(self, info: Info, id: strawberry.ID) -> Item | None:  # noqa: A002 - the argument's name for clients
        async with info.context.sessions() as session:
            row = await session.get(ItemRow, id)
        return Item.of(row) if row else None


class View(GraphQL[Loaders, None]):
    def __init__(self, schema: strawberry.Schema, engine: AsyncEngine) -> None:
        super().__init__(schema, graphql_ide=None)
        self.sessions = async_sessionmaker(engine, expire_on_commit=False)

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Loaders:
        return Loaders(self.sessions)


def create_app(database_url: str, pool_size: int) -> Starlette:
    # Requests wait for a connection as long as it takes: else a page of 1000, asked for often enough, is an error.
    url = DatabaseUrl.parse(f"{database_url}{'&' if '?' in database_url else '?'}pool_timeout=0")
    engine = create_engine(url, application_name="bench", pool_size=pool_size)
    scalars: dict[object, Any] = {BigInt: strawberry.scalar(name="BigInt", serialize=int, parse_value=int)}
    schema = strawberry.Schema(Query, config=StrawberryConfig(scalar_map=scalars))
    return Starlette(routes=[Route("/graphql", View(schema, engine))])


if __name__ == "__main__":
    app = create_app(os.environ["DATABASE_URL"], int(os.environ["POOL_SIZE"]))
    uvicorn.run(app, port=int(os.environ["PORT"]), access_log=False, log_level="warning")
