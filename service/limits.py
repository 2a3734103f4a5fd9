"""Bounds on what a request may bring, and on what may be done with an answer."""

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class TooLarge(Exception):
    """More bytes came than a request may have."""


class BodyLimit:
    """Refuses a body that says it is too long before reading it, and one that turns out to be while reading it."""

    def __init__(self, app: ASGIApp, most_bytes: int) -> None:
        self.app = app
        self.most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length")
        if length is None:
            await self._count(scope, receive, send)
        elif length.isdecimal() and int(length) <= self.most_bytes:  # the server takes no more than that
            await self.app(scope, receive, send)
        else:
            await self._refuse(scope, receive, send)

    async def _count(self, scope: Scope, receive: Receive, send: Send) -> None:
        received = 0
        began = False

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.most_bytes:
                raise TooLarge
            return message

        async def noted(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        try:
            await self.app(scope, counted, noted)
        except TooLarge:
            if began:
                raise
            await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = f"the request body is longer than {self.most_bytes} bytes; send less, or raise its limit"
        body = {"errors": [{"message": message, "extensions": {"code": "BAD_REQUEST"}}]}
        await JSONResponse(body, status_code=413)(scope, receive, send)


class SafeHeaders:
    """Says to browsers what no answer of ours wants: to be guessed at, framed, kept or told of elsewhere."""

    HEADERS = (
        (b"x-content-type-options", b"nosniff"),
        (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
        (b"referrer-policy", b"no-referrer"),
        (b"cache-control", b"no-store"),
    )

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(one for one in self.HEADERS if one[0] not in given)]
            await send(message)

        await self.app(scope, receive, with_headers)
