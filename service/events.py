"""Subscriptions over HTTP, as server-sent events: graphql-sse in its mode of distinct connections."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Send
from strawberry.http.streaming import SSETransport
from strawberry.types.execution import ExecutionResult

from service.tokens import InvalidToken

KEEP_ALIVE_SECONDS = 15.0
"""Proxies end a connection on which nothing was heard for long."""
EVENTS = SSETransport()


def wants_events(request: Request) -> bool:
    return request.method in ("GET", "POST") and EVENTS.accepts(request.headers.get("accept", ""))


def payload(result: ExecutionResult) -> dict[str, object]:
    """A result as GraphQL says it."""
    errors = [error.formatted for error in result.errors or ()]
    return {"data": result.data, **({"errors": errors} if errors else {})}


class EventStream(StreamingResponse):
    """Ends with the results, with the token (an error is the last event), or with the service (no `complete`)."""

    def __init__(
        self,
        results: AsyncGenerator[ExecutionResult, None],
        lapsed: Callable[[], Awaitable[InvalidToken]],
        stopping: asyncio.Event,
    ) -> None:
        self.events = _events(results, lapsed, stopping)
        super().__init__(self.events, headers=EVENTS.headers)

    async def stream_response(self, send: Send) -> None:
        async with aclosing(self.events):  # also when nobody listens any more: nothing is polled for nobody
            await super().stream_response(send)


async def _events(
    results: AsyncGenerator[ExecutionResult, None],
    lapsed: Callable[[], Awaitable[InvalidToken]],
    stopping: asyncio.Event,
) -> AsyncGenerator[str, None]:
    lapse: asyncio.Future[Any] = asyncio.ensure_future(lapsed())
    stop: asyncio.Future[Any] = asyncio.ensure_future(stopping.wait())
    following: asyncio.Future[Any] | None = None
    try:
        while True:
            following = following or asyncio.ensure_future(anext(results))
            done, _ = await asyncio.wait(
                {following, lapse, stop}, timeout=KEEP_ALIVE_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if stop in done:
                return
            if lapse in done:
                error = {"message": lapse.result().message, "extensions": {"code": "UNAUTHENTICATED"}}
                yield _event({"data": None, "errors": [error]})
                break
            if following not in done:
                yield EVENTS.encode_comment("still here")
                continue
            try:
                result = following.result()
            except StopAsyncIteration:
                break
            following = None
            yield _event(payload(result))
        yield EVENTS.encode_complete()
    finally:
        left = [task for task in (following, lapse, stop) if task is not None]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await results.aclose()


def _event(data: dict[str, object]) -> str:
    return EVENTS.encode_next(data, lambda data: orjson.dumps(data).decode())  # type: ignore[arg-type]
