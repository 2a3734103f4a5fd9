"""The service as its clients see it: the real application behind real HTTP messages, and what they ask of it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import httpx
from pydantic import SecretStr
from starlette.types import ASGIApp, Receive, Scope, Send

from resolvers.reader import Reader
from resolvers.viewer import Role
from service.app import create_app
from service.runtime import Runtime
from service.settings import Settings
from service.tokens import TokenVerifier, issue_token
from tests.support import Connection, psql

SECRET = "a-secret-of-the-tests-that-is-long-enough"

CREATE = """
mutation ($input: CreateBatchInput!) {
  createBatch(input: $input) {
    batch {
      id quantity status costPerUnitUSD freightCostUSD orderDate expectedArrival arrivedDate orderNumber notes
      location { id } assignedUser { id } openingBatch item { id totalQuantity } createdAt updatedAt
    }
    item { id totalQuantity usingBatchSystem statuses locations { id } batches { totalCount } }
    errors { field message code }
  }
}
"""


def token(role: Role = Role.ADMIN, company: str | None = None) -> str:
    return issue_token(SECRET, role=role, company=company, ttl=timedelta(hours=1), subject=f"{role.name.lower()}@test")


@dataclass(frozen=True)
class Client:
    """One caller of the service. Every answer is the decoded JSON."""

    http: httpx.AsyncClient
    token: str | None
    app: ASGIApp
    runtime: Runtime

    def of(self, role: Role, company: str | None = None) -> "Client":
        return replace(self, token=token(role, company))

    def afresh(self) -> "Client":
        """The same caller of a service that has not looked at the database yet."""
        before = self.runtime
        runtime = Runtime(Reader(before.reader.engine, before.reader.reads), before.direct, before.driving)
        return replace(self, http=http_to(self.app, runtime), runtime=runtime)

    async def post(self, body: bytes | Mapping[str, Any]) -> httpx.Response:
        headers = {"content-type": "application/json"}
        if self.token is not None:
            headers["authorization"] = f"Bearer {self.token}"
        if isinstance(body, bytes):
            return await self.http.post("/graphql", content=body, headers=headers)
        return await self.http.post("/graphql", json=body, headers=headers)

    async def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The whole answer, errors included."""
        answer: dict[str, Any] = (await self.post({"query": query, "variables": variables})).json()
        return answer

    async def data(self, query: str, **variables: Any) -> dict[str, Any]:
        """The data of an answer that must have no errors."""
        answer = await self.ask(query, **variables)
        assert "errors" not in answer, answer
        data: dict[str, Any] = answer["data"]
        return data

    async def create(self, **values: Any) -> dict[str, Any]:
        """The payload of `createBatch`."""
        payload: dict[str, Any] = (await self.data(CREATE, input=values))["createBatch"]
        return payload

    async def made(self, **values: Any) -> dict[str, Any]:
        """The payload of a `createBatch` that must do what it is asked."""
        payload = await self.create(**values)
        assert payload["errors"] == [], payload
        return payload

    async def refused(self, **values: Any) -> dict[str, Any]:
        """The only error of a `createBatch` that must be refused."""
        payload = await self.create(**values)
        assert payload["batch"] is payload["item"] is None, payload
        (error,) = payload["errors"]
        assert "\n" not in error["message"]
        return {**error, "field": ".".join(error["field"] or [])}


def http_to(app: ASGIApp, runtime: Runtime) -> httpx.AsyncClient:
    async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": {"runtime": runtime}}, receive, send)

    return httpx.AsyncClient(transport=httpx.ASGITransport(app=with_state), base_url="http://shop.example", timeout=60)


@asynccontextmanager
async def serving(url: str, **settings: Any) -> AsyncIterator[Client]:
    """The service in front of a database, in this process; its client is an admin of all companies."""
    known = Settings(jwt_secret=SecretStr(SECRET), **settings)
    app = create_app(known, url, TokenVerifier.from_settings(known))
    async with app.router.lifespan_context(app) as state:
        assert state is not None
        async with http_to(app, state["runtime"]) as http:
            yield Client(http, token(), app, state["runtime"])


async def rows(connection: Connection) -> dict[str, list[str]]:
    """Every row of every table, with its place and the transaction that wrote it: no write goes unseen."""
    names = await connection.fetch(
        """
        SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
        WHERE relkind = 'r' AND nspname IN ('public', 'stockshift') ORDER BY 1
        """
    )
    return {
        name: [
            row[0] for row in await connection.fetch(f"SELECT concat_ws(' ', ctid, xmin, t) FROM {name} t ORDER BY 1")
        ]
        for (name,) in names
    }


async def stock(connection: Connection, item_id: str) -> tuple[int, int, int]:
    """Of one item: the units in its batches, its batches, its rows in the copy ledger."""
    row = await connection.fetchrow(
        """
        SELECT (SELECT coalesce(sum(quantity), 0) FROM stock_batches WHERE "itemId" = $1),
               (SELECT count(*) FROM stock_batches WHERE "itemId" = $1),
               (SELECT count(*) FROM stockshift.copy_ledger WHERE item_id = $1)
        """,
        item_id,
    )
    assert row is not None
    return row[0], row[1], row[2]


@asynccontextmanager
async def stopping_at_harbour(url: str) -> AsyncIterator[Connection]:
    """Meanwhile a `createBatch` at acme-harbour stops when it inserts: after the copy, before the commit.

    The connection has the location's row, which the batch's foreign key wants.
    """
    async with psql(url) as connection, connection.transaction():
        await connection.execute("SELECT FROM locations WHERE id = 'acme-harbour' FOR UPDATE")
        yield connection
