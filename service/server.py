"""Serving until told to stop, in one process or several."""

import os
import socket
from functools import partial

import uvicorn

from db.errors import StockshiftError
from db.url import DatabaseUrl
from service.app import create_app
from service.database import Database
from service.logs import configure_logging
from service.settings import Settings
from service.tokens import TokenVerifier

GRACE_SECONDS = 10


class AddressTaken(StockshiftError):
    """Something listens on that address already; choose another with --port."""


def run_server(
    settings: Settings, database: Database, verifier: TokenVerifier, headers: dict[str, str] | None = None
) -> int:
    """Serves; answers the exit code. Worker processes are told everything through their environment."""
    DatabaseUrl.parse(database.url)
    DatabaseUrl.parse(database.direct)
    _check_address(settings.host, settings.port)
    configure_logging(settings)
    serve = partial(
        uvicorn.run,
        host=settings.host,
        port=settings.port,
        log_config=None,
        timeout_graceful_shutdown=GRACE_SECONDS,
        ws="none",
        server_header=False,
    )
    if settings.workers == 1:
        settings = settings.model_copy(update={"direct_url": database.direct})
        serve(create_app(settings, database.url, verifier, default_headers=headers))
    else:
        os.environ.update(DATABASE_URL=database.url, DIRECT_URL=database.direct)
        serve("service.app:app_from_environment", factory=True, workers=settings.workers)
    return 0


def _check_address(host: str, port: int) -> None:
    """uvicorn ends with a log line when it cannot listen; say it as an error, before anything is started."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise AddressTaken(f"cannot listen on {host} port {port} ({error.strerror}); choose another --port") from None
