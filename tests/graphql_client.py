"""Asking GraphQL in tests: in process through the real schema, or over HTTP through the real application."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
from pydantic import SecretStr
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.types import Receive, Scope, Send

from db.read_pool import ReadPool, Row
from db.url import DatabaseUrl
from resolvers.driving import Driving
from resolvers.reader import Reader
from resolvers.viewer import Role, Viewer
from schema import build_schema
from schema.context import Context
from schema.extensions import public
from service.app import create_app
from service.settings import Settings
from service.tokens import TokenVerifier, issue_token
from tests.migration.support import engine_on

ADMIN = Viewer("admin@example.com", Role.ADMIN)
MANAGER = Viewer("manager@example.com", Role.MANAGER)
STAFF = Viewer("staff@example.com", Role.STAFF)
SECRET = "the-secret-of-the-tests-0123456789abcdef"


@dataclass(frozen=True)
class Answer:
    """What came of an operation; errors as a client reads them."""

    data: Any
    errors: list[Mapping[str, Any]]

    @property
    def codes(self) -> list[str]:
        return [error["extensions"]["code"] for error in self.errors]

    @property
    def message(self) -> str:
        """Of the only error."""
        (error,) = self.errors
        return str(error["message"])


@dataclass
class Client:
    """One process of the service: a Reader of its own. `statements` are all that it sent, in order."""

    engine: AsyncEngine
    reader: Reader
    statements: list[str] = field(default_factory=list)
    limits: Mapping[str, int] = field(default_factory=dict)

    async def answer(
        self, query: str, viewer: Viewer = ADMIN, operation: str | None = None, **variables: Any
    ) -> Answer:
        """Whatever comes of it; of a subscription the first answer."""
        tasks: set[Any] = set()
        context = Context(viewer, self.reader, self.engine, tasks, Driving(self.engine, name="test"))
        schema = build_schema(self.reader.status_labels, **self.limits)
        if schema.is_subscription(query, operation):
            async with aclosing(await schema.stream(query, variables, context, operation_name=operation)) as answers:
                result = await anext(answers)
        else:
            result = await schema.execute(query, variables, context, operation_name=operation)
        errors = [error if error.extensions else public(error) for error in result.errors or ()]
        return Answer(result.data, [dict(error.formatted) for error in errors])

    async def ask(self, query: str, viewer: Viewer = ADMIN, operation: str | None = None, **variables: Any) -> Any:
        """The data of an operation that must succeed."""
        answer = await self.answer(query, viewer, operation, **variables)
        assert not answer.errors, answer.errors
        return answer.data

    async def sent(self, query: str, viewer: Viewer = ADMIN, **variables: Any) -> list[str]:
        """The statements of an operation that must succeed."""
        before = len(self.statements)
        await self.ask(query, viewer, **variables)
        return self.statements[before:]


class NotedReads(ReadPool):
    """Its statements as well."""

    statements: list[str]

    async def row(self, sql: str, arguments: Sequence[Any] = ()) -> Row:
        self.statements.append(sql)
        return await super().row(sql, arguments)


@asynccontextmanager
async def client_of(url: str, *, most_rows: int = 1_000, **limits: int) -> AsyncIterator[Client]:
    async with engine_on(url) as engine:
        reads = NotedReads(DatabaseUrl.parse(url), application_name="stockshift test reads")
        client = Client(engine, Reader(engine, reads, most_rows=most_rows), limits=limits)
        reads.statements = client.statements

        def note(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            client.statements.append(statement)

        event.listen(engine.sync_engine, "before_cursor_execute", note)
        try:
            yield client
        finally:
            await reads.close()


@dataclass(frozen=True)
class Web:
    """The application as a client on the network sees it."""

    http: httpx.AsyncClient

    async def post(
        self,
        query: str,
        *,
        role: Role = Role.ADMIN,
        company: str | None = None,
        accept: str = "application/json",
        **variables: Any,
    ) -> httpx.Response:
        return await self.raw({"query": query, "variables": variables}, role=role, company=company, accept=accept)

    async def raw(
        self, body: Any, *, role: Role = Role.ADMIN, company: str | None = None, accept: str = "application/json"
    ) -> httpx.Response:
        token = issue_token(SECRET, role=role, company=company, ttl=timedelta(hours=1), subject="somebody")
        headers = {"Authorization": f"Bearer {token}", "Accept": accept}
        return await self.http.post("/graphql", json=body, headers=headers)


@asynccontextmanager
async def web_on(url: str, **settings: Any) -> AsyncIterator[Web]:
    """The real application in front of a database, with a lifespan as a server gives it one."""
    app = create_app(Settings(**settings), url, TokenVerifier.from_settings(Settings(jwt_secret=SecretStr(SECRET))))
    async with app.router.lifespan_context(app) as state:

        async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "state": dict(state or {})}, receive, send)

        transport = httpx.ASGITransport(app=with_state)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
            yield Web(http)
