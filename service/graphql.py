"""GraphQL over HTTP: who asks, in what form the answer goes out, and a page for those who came with a browser.

Subscriptions go out as events (service/events.py) or over a WebSocket (service/websocket.py).
"""

import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from functools import lru_cache, partial
from types import NoneType
from typing import Any

import asyncpg
import orjson
from cross_web import AsyncHTTPRequestAdapter, HTTPException, StarletteRequestAdapter
from graphql import GraphQLError
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket
from strawberry.asgi import GraphQL
from strawberry.http import GraphQLHTTPResponse, GraphQLRequestData
from strawberry.schema.exceptions import InvalidOperationTypeError
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.types.execution import ExecutionResult, PreExecutionError
from strawberry.types.graphql import OperationType

from db.wal import Consistency, format_lsn, parse_lsn
from resolvers.errors import BadRequest
from resolvers.reader import Reader
from resolvers.viewer import Viewer
from schema import Schema, build_schema
from schema.context import Context
from schema.extensions import UNAVAILABLE, public, unavailable
from service.events import EventStream, wants_events
from service.graphiql import graphiql_page
from service.keys import TokenKeysUnavailable
from service.runtime import NO_ANSWER, Runtime
from service.settings import Settings
from service.tokens import InvalidToken, TokenVerifier
from service.trusted import TrustedDocuments, UntrustedDocument, document_of
from service.websocket import Handler, Socket

GRAPHQL_RESPONSE = "application/graphql-response+json"
JSON = "application/json"
PATH = "Stockshift-Path"
"""The header that says how an operation was answered: `plan` is straight out of the database."""
MEMBERS: Mapping[str, tuple[type, ...]] = {
    "query": (str, NoneType),
    "operationName": (str, NoneType),
    "variables": (dict, NoneType),
    "extensions": (dict, NoneType),
}
"""What a request may hold. Whether anything else is refused is the view's to say, plan or not."""
RETRY_SECONDS = "1"
LSN = "Stockshift-LSN"
"""Of a response: after what the mutation wrote, in the primary's log. Of a request: what the answer must have seen."""
INIT_WAIT = timedelta(seconds=10)
"""So long may a WebSocket be open before it says whose it is."""
HOW_TO_SUBSCRIBE = (
    "a subscription is answered as events (Accept: text/event-stream), "
    f"or over a WebSocket ({GRAPHQL_TRANSPORT_WS_PROTOCOL})"
)
READ = "Stockshift-Read"
"""Which server answered, where there is a replica."""


class Unavailable(HTTPException):
    """The database cannot be asked now."""


class View(GraphQL[Context | None, None]):
    """Strawberry's view, where GraphQL over HTTP asks for more: the media type that was asked for, and its codes."""

    schema: Schema
    websocket_adapter_class = Socket
    graphql_transport_ws_handler_class = Handler

    def __init__(
        self, schema: Schema, runtime: Runtime, trusted: TrustedDocuments | None, verifier: TokenVerifier
    ) -> None:
        super().__init__(
            schema,
            graphql_ide=None,
            subscription_protocols=[GRAPHQL_TRANSPORT_WS_PROTOCOL],
            connection_init_wait_timeout=INIT_WAIT,
            max_subscriptions_per_connection=None,  # the Handler counts them, and says so in our words
        )
        self.runtime = runtime
        self.trusted = trusted
        self.verifier = verifier

    def context_for(self, viewer: Viewer) -> Context:
        runtime = self.runtime
        context = Context(viewer, runtime.reader, runtime.direct, runtime.tasks, runtime.driving, polls=runtime.polls)
        context.mutations = runtime.mutations
        return context

    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> Context | None:
        """None: who opens a WebSocket says later whose it is."""
        if isinstance(request, WebSocket):
            return None
        state = request.state
        context = self.context_for(state.viewer)
        context.fault, context.consistency = state.fault, state.consistency
        return context

    async def events(self, request: Request) -> Response | None:
        """The answers of a subscription; None for anything else. Raises as `parse_http_body` does."""
        asked = await self.parse_http_body(StarletteRequestAdapter(request))
        if isinstance(asked, list) or not self.schema.is_subscription(asked.query or "", asked.operation_name):
            return None
        results = await self.schema.stream(
            asked.query, asked.variables, self.context_for(request.state.viewer), None, asked.operation_name
        )
        lapsed = partial(self.verifier.lapsed, request.headers.get("authorization"))
        return EventStream(results, lapsed, self.runtime.stopping)

    def should_render_graphql_ide(self, request: object) -> bool:
        """The Endpoint has its own page. A GET without a text may name a document, or is told what it lacks."""
        return False

    async def parse_http_body(self, request: AsyncHTTPRequestAdapter) -> GraphQLRequestData | list[GraphQLRequestData]:
        """The request, with the text of a document that it names. Raises UntrustedDocument, BadRequest."""
        asked = await super().parse_http_body(request)
        if isinstance(asked, GraphQLRequestData):
            named = request.query_params if request.method == "GET" else orjson.loads(await request.get_body())
            members = {**named, "query": asked.query, "extensions": asked.extensions}
            asked.query = document_of(members, self.trusted)
        return asked

    def parse_json(self, data: str | bytes) -> Any:
        """The request's body, or its variables."""
        parsed = super().parse_json(data)
        if not isinstance(parsed, dict):
            raise HTTPException(400, 'a JSON object is expected here, such as {"query": "{ __typename }"}')
        return parsed

    def decode_json(self, data: str | bytes) -> object:
        return orjson.loads(data)

    def encode_json(self, data: object) -> bytes:
        return orjson.dumps(data)

    async def get_sub_response(self, request: Request | WebSocket) -> Response:
        response = await super().get_sub_response(request)
        response.headers["content-type"] = media_type(request)
        return response

    async def process_result(self, request: Request, result: ExecutionResult) -> GraphQLHTTPResponse:
        """No `data` key when nothing was executed. Raises Unavailable when the database could not be asked."""
        errors = result.errors or []
        for error in errors:
            if (error.extensions or {}).get("code") == UNAVAILABLE:
                raise Unavailable(503, error.message)
        if isinstance(result, PreExecutionError):
            return {"errors": [public(error).formatted for error in errors]}
        answer: GraphQLHTTPResponse = {"errors": [error.formatted for error in errors]} if errors else {}
        if result.data is not None or any(error.path for error in errors):  # else the variables were refused
            answer["data"] = result.data
        return answer

    def create_response(
        self, response_data: GraphQLHTTPResponse | list[GraphQLHTTPResponse], sub_response: Response
    ) -> Response:
        """Status 400 when nothing was executed, for a client that reads the newer media type; 200 for the older."""
        type_ = sub_response.headers["content-type"]
        refused = isinstance(response_data, dict) and "data" not in response_data
        status = 400 if refused and type_ == GRAPHQL_RESPONSE else 200
        return Response(self.encode_json(response_data), status_code=status, media_type=type_)


def media_type(request: Request | WebSocket) -> str:
    """The newer type for whom asks for it, the older for everybody else."""
    return GRAPHQL_RESPONSE if GRAPHQL_RESPONSE in request.headers.get("accept", "") else JSON


def failure(request: Request, status: int, message: str, code: str, **headers: str) -> Response:
    """An error in the form of GraphQL that stands for the whole response."""
    body = orjson.dumps({"errors": [{"message": message, "extensions": {"code": code}}]})
    return Response(body, status, headers, media_type=media_type(request))


def turned_away(request: Request, message: str) -> Response:
    """Nothing of the operation was answered, and soon it may be."""
    return failure(request, 503, message, UNAVAILABLE, **{"Retry-After": RETRY_SECONDS})


class Endpoint:
    """`/graphql`. Nobody is answered without a token, but that a browser gets the empty page it can paste one into."""

    def __init__(
        self, settings: Settings, verifier: TokenVerifier, default_headers: Mapping[str, str] | None = None
    ) -> None:
        self.settings = settings
        self.verifier = verifier
        self.default_headers = default_headers
        path = settings.trusted_documents
        self.trusted = TrustedDocuments.read(path, _schema(settings, ()).problems) if path else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        began = time.perf_counter()
        response = await self.respond(request)
        self._count(request, response, time.perf_counter() - began)
        await response(scope, receive, send)

    def _count(self, request: Request, response: Response, seconds: float) -> None:
        runtime: Runtime = request.state.runtime
        key = str(response.status_code), "planned" if PATH in response.headers else "executed"
        runtime.requests[key] += 1
        runtime.seconds[key] += seconds

    async def respond(self, request: Request) -> Response:
        if _is_browser(request):
            return graphiql_page(request, default_headers=self.default_headers)
        try:
            request.state.viewer = await self.verifier.viewer(request.headers.get("authorization"))
        except InvalidToken as error:
            headers = {"WWW-Authenticate": "Bearer"}
            return failure(request, 401, error.message, "UNAUTHENTICATED", **headers)
        except TokenKeysUnavailable as error:
            return turned_away(request, error.message)
        asked_for = request.headers.get(LSN)
        at_least = 0 if asked_for is None else parse_lsn(asked_for)
        if at_least is None:
            message = f"the header {LSN} is {asked_for!r}; give it as a mutation's response has it, such as 16/B374D848"
            return failure(request, 400, message, "BAD_REQUEST")
        consistency = request.state.consistency = Consistency(at_least)
        response = await self._answer(request)
        if consistency.written is not None:
            response.headers[LSN] = format_lsn(consistency.written)
        if consistency.read_from is not None and request.state.runtime.reader.replica is not None:
            response.headers[READ] = consistency.read_from
        return response

    async def subscribe(self, websocket: WebSocket) -> None:
        """A WebSocket, until either end closes it."""
        await (await self._view(websocket.state.runtime)).run(websocket)

    async def _answer(self, request: Request) -> Response:
        planned = await self._planned(request)
        if planned is not None:
            return planned
        try:
            view = await self._view(request.state.runtime)
            events = await view.events(request) if wants_events(request) else None
            return events or await view.run(request)
        except Unavailable as error:
            return turned_away(request, error.reason)
        except HTTPException as error:
            if isinstance(error.__cause__, InvalidOperationTypeError):
                if error.__cause__.operation_type is OperationType.SUBSCRIPTION:
                    return failure(request, 406, HOW_TO_SUBSCRIBE, "BAD_REQUEST")
                return failure(request, 405, error.reason, "BAD_REQUEST", Allow="POST")  # a mutation by a GET
            return failure(request, error.status_code, error.reason, "BAD_REQUEST")
        except (UntrustedDocument, BadRequest) as error:
            return failure(request, 400, error.message, error.code)
        except RecursionError:
            return failure(request, 400, "the document nests too deep to be read", "BAD_REQUEST")

    async def _planned(self, request: Request) -> Response | None:
        """The response in bytes, if the reader has a plan; None leaves the operation, and what is wrong, to the view.

        What the database failed at is not asked of it again: the view is told.
        """
        request.state.fault = None
        if request.method != "POST" or not request.headers.get("content-type", "").startswith(JSON):
            return None
        body = None
        try:
            asked = orjson.loads(await request.body())
            document = document_of(asked, self.trusted)
            if document is not None and _is_well_formed(asked):
                reader: Reader = request.state.runtime.reader
                body = await reader.answer_bytes(
                    request.state.viewer,
                    document,
                    asked.get("operationName"),
                    asked.get("variables"),
                    request.state.consistency,
                )
        except (*NO_ANSWER, asyncpg.PostgresError, asyncpg.InterfaceError) as fault:
            why = unavailable(fault)
            if why is not None:
                return turned_away(request, why)
            request.state.fault = fault
        except (ValueError, TypeError, AttributeError, KeyError, GraphQLError, RecursionError):
            return None
        return None if body is None else Response(body, headers={PATH: "plan"}, media_type=media_type(request))

    async def _view(self, runtime: Runtime) -> View:
        """A view of the schema whose statuses are the database's labels, as soon as they can be known."""
        if not runtime.reader.status_labels:
            with suppress(*NO_ANSWER):  # what is asked for will say so, if it needs the database at all
                await runtime.reader.look()
        return _make_view(runtime, runtime.reader.status_labels, self.settings, self.trusted, self.verifier)


@lru_cache(maxsize=8)
def _make_view(
    runtime: Runtime,
    labels: tuple[str, ...],
    settings: Settings,
    trusted: TrustedDocuments | None,
    verifier: TokenVerifier,
) -> View:
    return View(_schema(settings, labels), runtime, trusted, verifier)


def _schema(settings: Settings, labels: tuple[str, ...]) -> Schema:
    return build_schema(labels, settings.max_depth, settings.max_aliases, settings.max_tokens, settings.max_cost)


def _is_well_formed(asked: Mapping[str, object]) -> bool:
    for name, kinds in MEMBERS.items():  # noqa: SIM110 - all() of a generator takes longer, and this is every request's
        if not isinstance(asked.get(name), kinds):
            return False
    return True


def _is_browser(request: Request) -> bool:
    if request.method != "GET" or "text/html" not in request.headers.get("accept", ""):
        return False
    return not {"query", "documentId", "extensions"} & request.query_params.keys()
