"""The floor: Starlette sends the JSON of one hand-written SQL statement. No GraphQL, no token, nothing to choose.

It is the best that a hand can do with this driver: a statement for each size of page, planned once a session, and no
round trip to reset a session that nobody changes.

`python -m bench.floor`, with DATABASE_URL, PORT and POOL_SIZE in the environment.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bench.operations import Operation
from bench.sql import page, statements

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[Any]
    Pool: TypeAlias = asyncpg.Pool[Any]
else:
    Connection, Pool = asyncpg.Connection, asyncpg.Pool  # generic for the type checker only

PAGES = {operation.rows: page(operation.rows) for operation in (Operation.PAGE_50, Operation.PAGE_1000)}
(ITEM,) = statements("item.sql")


def create_app(database_url: str, pool_size: int) -> Starlette:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, Any]]:
        async with create_pool(database_url, pool_size) as pool:
            yield {"pool": pool}

    routes = [Route("/items", items, methods=["POST"]), Route("/item", item, methods=["POST"])]
    return Starlette(routes=routes, lifespan=lifespan)


def create_pool(database_url: str, pool_size: int) -> Pool:
    return asyncpg.create_pool(
        database_url,
        min_size=1,
        max_size=pool_size,
        init=leave_json,
        reset=leave_session,
        server_settings={"plan_cache_mode": "force_generic_plan"},
    )


async def leave_json(connection: Connection) -> None:
    """JSON stays the bytes that the database sends."""
    await connection.set_type_codec("json", schema="pg_catalog", encoder=bytes, decoder=bytes, format="binary")


async def leave_session(_: Connection) -> None:
    """Nothing was changed that would have to be reset."""


async def items(request: Request) -> Response:
    asked = orjson.loads(await request.body())
    edges = await request.state.pool.fetchval(PAGES[asked["first"]], asked["afterName"], asked["afterId"])
    return Response(b'{"data":{"items":{"edges":' + edges + b"}}}", media_type="application/json")


async def item(request: Request) -> Response:
    asked = orjson.loads(await request.body())
    found = await request.state.pool.fetchval(ITEM, asked["id"])
    return Response(b'{"data":{"item":' + (found or b"null") + b"}}", media_type="application/json")


if __name__ == "__main__":
    app = create_app(os.environ["DATABASE_URL"], int(os.environ["POOL_SIZE"]))
    uvicorn.run(app, port=int(os.environ["PORT"]), access_log=False, log_level="warning")
