"""The real application behind a real uvicorn, and who subscribes to it: over a WebSocket, or as events."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any

import httpx
import uvicorn
from pydantic import SecretStr
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from resolvers.viewer import Role
from service.app import create_app
from service.runtime import Runtime
from service.settings import Settings
from service.tokens import TokenVerifier, issue_token
from tests.service.processes import SECRET

PROTOCOL = Subprotocol("graphql-transport-ws")
NOT_YET_SECONDS = 60.0


def bearer(role: Role = Role.ADMIN, company: str | None = None, ttl: timedelta = timedelta(hours=1)) -> str:
    return "Bearer " + issue_token(SECRET, role=role, company=company, ttl=ttl, subject=f"{role.name.lower()}@test")


@dataclass
class Live:
    """A service of this process, by its address."""

    address: str
    runtime: Runtime

    @property
    def url(self) -> str:
        return f"http://{self.address}/graphql"

    async def idle(self) -> bool:
        """Nobody is polled for, and no connection of the pool is in use."""
        pool: Any = self.runtime.reader.engine.pool
        return not self.runtime.polls.running and pool.checkedout() == 0


@asynccontextmanager
async def live(url: str, **settings: Any) -> AsyncIterator[Live]:
    known = Settings(jwt_secret=SecretStr(SECRET), **settings)
    app = create_app(known, url, TokenVerifier.from_settings(known))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=10))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            while not server.started:
                await asyncio.sleep(0.01)
                assert not serving.done()
            yield Live(f"127.0.0.1:{listener.getsockname()[1]}", server.lifespan.state["runtime"])
        finally:
            server.should_exit = True
            await serving


class Wire:
    """One WebSocket."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self._ids = count(1)

    async def send(self, **message: Any) -> None:
        await self.connection.send(json.dumps(message))

    async def hear(self) -> dict[str, Any]:
        async with asyncio.timeout(NOT_YET_SECONDS):
            heard = await self.connection.recv()
        assert isinstance(heard, str)
        message: dict[str, Any] = json.loads(heard)
        return message

    async def subscribe(self, query: str, **payload: Any) -> str:
        id_ = str(next(self._ids))
        await self.send(id=id_, type="subscribe", payload={"query": query, **payload})
        return id_

    async def data(self) -> Any:
        """Of the next answer, which must have no errors."""
        heard = await self.hear()
        assert heard["type"] == "next", heard
        assert "errors" not in heard["payload"], heard
        return heard["payload"]["data"]

    async def refusal(self) -> dict[str, Any]:
        """The only error of the next answer."""
        heard = await self.hear()
        errors = heard["payload"] if heard["type"] == "error" else heard["payload"]["errors"]
        (error,) = errors
        told: dict[str, Any] = error
        return told

    async def closed(self) -> tuple[int, str]:
        async with asyncio.timeout(NOT_YET_SECONDS):
            await self.connection.wait_closed()
        assert self.connection.close_code is not None
        return self.connection.close_code, self.connection.close_reason or ""


@asynccontextmanager
async def opened(address: str, **options: Any) -> AsyncIterator[Wire]:
    """A WebSocket that has not said whose it is."""
    options.setdefault("subprotocols", [PROTOCOL])
    async with connect(f"ws://{address}/graphql", proxy=None, **options) as connection:
        yield Wire(connection)


@asynccontextmanager
async def wired(address: str, authorization: str | None = None, **options: Any) -> AsyncIterator[Wire]:
    """A WebSocket of an admin of all companies, or of whoever this header is."""
    async with opened(address, **options) as wire:
        await wire.send(type="connection_init", payload={"Authorization": authorization or bearer()})
        assert (await wire.hear())["type"] == "connection_ack"
        yield wire


@dataclass
class Event:
    kind: str
    data: Any


@asynccontextmanager
async def events(
    url: str, query: str, authorization: str | None = None, *, method: str = "POST", **members: Any
) -> AsyncIterator["AsyncIterator[Event]"]:
    """The events of a subscription; a comment is one of kind ":"."""
    headers = {"Authorization": authorization or bearer(), "Accept": "text/event-stream"}
    asked: dict[str, Any] = {"query": query, **members}
    how: dict[str, Any] = {"params": asked} if method == "GET" else {"json": asked}
    async with (
        httpx.AsyncClient(timeout=NOT_YET_SECONDS, trust_env=False) as http,
        http.stream(method, url, headers=headers, **how) as response,
    ):
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].split(";")[0] == "text/event-stream"
        yield _events(response)


async def _events(response: httpx.Response) -> AsyncIterator[Event]:
    kind, data = "", ""
    async for line in response.aiter_lines():
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            data = value
        elif line.startswith(":"):
            yield Event(":", line)
        elif not line and kind:
            yield Event(kind, json.loads(data) if data else None)
            kind, data = "", ""
