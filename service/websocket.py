"""Subscriptions over a WebSocket, with the subprotocol graphql-transport-ws: who may, and how much at once.

Strawberry speaks the protocol. Nobody is acknowledged without a token, which comes as over HTTP or, as a browser cannot
send a header with a WebSocket, in the payload of `connection_init`.
"""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import orjson
from starlette.websockets import WebSocketDisconnect, WebSocketState
from strawberry.asgi import ASGIWebSocketAdapter
from strawberry.http.exceptions import WebSocketDisconnected
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler
from strawberry.subscriptions.protocols.graphql_transport_ws.types import ConnectionInitMessage, SubscribeMessage

from resolvers.errors import BadRequest
from schema.context import Context
from service.tokens import InvalidToken, TokenKeysUnavailable
from service.trusted import UntrustedDocument, document_of

if TYPE_CHECKING:
    from service.graphql import View

log = logging.getLogger("stockshift.graphql")

MOST_SUBSCRIPTIONS = 20
"""On one connection, at once."""
LONGEST_REASON = 123
"""In bytes, of a close; the protocol has no room for more."""
FORBIDDEN = 4403
TRY_AGAIN_LATER = 1013


class Socket(ASGIWebSocketAdapter):
    """Text frames, and no word to who has left."""

    async def send_json(self, message: Mapping[str, object]) -> None:
        if self.ws.application_state is not WebSocketState.CONNECTED:
            raise WebSocketDisconnected
        try:
            await self.ws.send_text(orjson.dumps(message).decode())
        except WebSocketDisconnect as gone:
            raise WebSocketDisconnected from gone

    async def close(self, code: int, reason: str) -> None:
        if self.ws.application_state is WebSocketState.CONNECTED:
            with suppress(WebSocketDisconnect):
                await self.ws.close(code, reason.encode()[:LONGEST_REASON].decode(errors="ignore"))


class Handler(BaseGraphQLTransportWSHandler[Context | None, None]):
    """One connection. It has a context as soon as it is known who is there."""

    view: "View"
    lapse: "asyncio.Task[None] | None" = None

    async def handle_message(self, message: Any) -> None:
        if _is_well_formed(message):
            await super().handle_message(message)
        else:
            await self.handle_invalid_message("the message is none of graphql-transport-ws")

    async def handle_connection_init(self, message: ConnectionInitMessage) -> None:
        if not self.connection_init_received:
            socket = cast("Socket", self.websocket).ws
            authorization = _authorization(message.get("payload")) or socket.headers.get("authorization")
            try:
                self.context = self.view.context_for(await self.view.verifier.viewer(authorization))
            except InvalidToken as error:
                await self.websocket.close(FORBIDDEN, f"Forbidden: {error.message}")
                return
            except TokenKeysUnavailable as error:
                await self.websocket.close(TRY_AGAIN_LATER, error.message)
                return
            self.lapse = asyncio.create_task(self._end_with_token(authorization))
        await super().handle_connection_init(message)

    async def handle_subscribe(self, message: SubscribeMessage) -> None:
        if self.connection_acknowledged:
            try:
                message["payload"]["query"] = self._document(message)
            except (UntrustedDocument, BadRequest) as error:
                told = {"message": error.message, "extensions": {"code": error.code}}
                await self.websocket.send_json({"id": message["id"], "type": "error", "payload": [told]})
                return
        await super().handle_subscribe(message)

    def _document(self, message: SubscribeMessage) -> str:
        if len(self.operations) >= MOST_SUBSCRIPTIONS:
            raise BadRequest(
                f"{MOST_SUBSCRIPTIONS} subscriptions are open on this connection, which is the most; complete one first"
            )
        document = document_of(message["payload"], self.view.trusted)
        if document is None:
            raise BadRequest("the payload has no query; send the text of a subscription")
        return document

    async def _end_with_token(self, authorization: str | None) -> None:
        why = await self.view.verifier.lapsed(authorization)
        for id_ in list(self.operations):
            await self.cleanup_operation(id_)
        await self.websocket.close(FORBIDDEN, f"Forbidden: {why.message}")

    async def handle_task_exception(self, error: Exception) -> None:
        if not isinstance(error, WebSocketDisconnected):
            log.error("a subscription failed", exc_info=error)

    async def shutdown(self) -> None:
        if self.lapse is not None:
            self.lapse.cancel()
            with suppress(asyncio.CancelledError):
                await self.lapse
        await super().shutdown()


def _authorization(given: object) -> str | None:
    """What a `connection_init` has for an Authorization header, in whatever case."""
    if isinstance(given, dict):
        for name, value in given.items():
            if name.lower() == "authorization" and isinstance(value, str):
                return value
    return None


def _is_well_formed(message: object) -> bool:
    match message:
        case {"type": "subscribe", "id": str(), "payload": dict(payload)}:
            kinds = {"query": str, "operationName": str, "variables": dict, "extensions": dict}
            return all(payload.get(name) is None or isinstance(payload[name], kind) for name, kind in kinds.items())
        case {"type": "complete", "id": str()}:
            return True
        case {"type": str(kind)}:
            return kind not in ("subscribe", "complete")
    return False
