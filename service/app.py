"""The ASGI application."""

import multiprocessing
import os
import signal
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route, WebSocketRoute

from service.graphiql import graphiql_routes
from service.graphql import Endpoint
from service.limits import BodyLimit, SafeHeaders
from service.logs import configure_logging
from service.metrics import metrics_for
from service.runtime import NO_ANSWER, Runtime, running
from service.settings import Settings, load_settings
from service.tokens import TokenVerifier


def create_app(
    settings: Settings,
    database_url: str,
    verifier: TokenVerifier,
    *,
    default_headers: Mapping[str, str] | None = None,
) -> Starlette:
    """The service in front of one database. `default_headers` are for the demo's GraphiQL."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, Runtime]]:
        async with running(settings, database_url) as runtime:
            yield {"runtime": runtime}

    # Probes come by address: they are answered whatever host they name.
    named = [Middleware(TrustedHostMiddleware, allowed_hosts=list(settings.allowed_hosts))]
    endpoint = Endpoint(settings, verifier, default_headers)
    return Starlette(
        routes=[
            Route("/", home, middleware=named),
            Route("/graphql", endpoint, methods=["GET", "HEAD", "POST"], middleware=named),
            WebSocketRoute("/graphql", endpoint.subscribe, middleware=named),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics_for(verifier, default_headers), middleware=named if default_headers else None),
            *graphiql_routes(),
        ],
        middleware=[Middleware(SafeHeaders), Middleware(BodyLimit, most_bytes=settings.max_body_bytes)],
        lifespan=lifespan,
    )


def app_from_environment() -> Starlette:
    """For one of several worker processes, which share nothing but the environment."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    settings = load_settings()
    configure_logging(settings)
    return create_app(settings, settings.database_url or "", TokenVerifier.from_settings(settings))


def _end_with_parent() -> None:
    """A worker whose parent was killed would serve on, and keep the port."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


async def home(_: Request) -> Response:
    return RedirectResponse("/graphql")


async def healthz(_: Request) -> Response:
    """The process answers."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """The database answers, and it is a shop's. What is wrong is for the log: anybody may ask this.

    A replica that is away is told of, and no reason to send clients elsewhere: the primary answers.
    """
    runtime: Runtime = request.state.runtime
    try:
        await runtime.reader.look()
    except NO_ANSWER:
        return JSONResponse({"status": "unavailable"}, status_code=503)
    replica = runtime.reader.replica
    told = {} if replica is None else {"replica": "up" if replica.is_up else "away"}
    return JSONResponse({"status": "ok", **told})
