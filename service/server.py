"""Serving until told to stop, in one process or several."""

import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import uvicorn
from uvicorn.supervisors import Multiprocess

from db.engine import create_engine
from db.errors import StockshiftError
from db.url import DatabaseUrl
from service.app import create_app
from service.database import Database
from service.logs import configure_logging
from service.settings import Settings
from service.tokens import TokenVerifier

log = logging.getLogger("stockshift.service")

GRACE_SECONDS = 10


class AddressTaken(StockshiftError):
    """Something listens on that address already; choose another with --port."""


class ServiceFailed(StockshiftError):
    """The service could not start; its log, above, says why."""


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """An address that is ours from now on: who connects before `run_server` serves has to wait. AddressTaken."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family)
    except (OSError, OverflowError) as error:
        reason = str(error.strerror).partition(" (")[0] if isinstance(error, OSError) else "there is no such port"
        raise AddressTaken(
            f"cannot listen on {host} port {port} ({reason}); choose another with --port or --host"
        ) from error
    with listener:
        yield listener


def run_server(
    settings: Settings,
    database: Database,
    verifier: TokenVerifier,
    listener: socket.socket,
    default_headers: Mapping[str, str] | None = None,
) -> None:
    """Serves until a signal says stop; requests under way then have GRACE_SECONDS.

    Worker processes are told everything through their environment. InvalidDatabaseUrl, SettingsError,
    ServiceFailed.
    """
    for url in filter(None, (database.url, database.direct, database.replica)):
        create_engine(DatabaseUrl.parse(url), application_name="stockshift serve")  # nothing is connected by this
    settings = settings.model_copy(update={"direct_url": database.direct, "replica_url": database.replica})
    app = create_app(settings, database.url, verifier, default_headers=default_headers)
    configure_logging(settings)
    host, port = listener.getsockname()[:2]
    log.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)
    several = settings.workers > 1
    if several:
        os.environ.update(
            DATABASE_URL=database.url, DIRECT_URL=database.direct, DATABASE_REPLICA_URL=database.replica or ""
        )
    config = uvicorn.Config(
        "service.app:app_from_environment" if several else app,  # each worker makes its own
        factory=several,
        workers=settings.workers,
        log_config=None,
        access_log=logging.getLogger("uvicorn.access").isEnabledFor(logging.INFO),  # or lines are made and dropped
        timeout_graceful_shutdown=GRACE_SECONDS,
        ws_max_size=settings.max_body_bytes,
        server_header=False,
    )
    if several:
        Multiprocess(config, sockets=[listener]).run()
        return
    server = uvicorn.Server(config)
    with suppress(KeyboardInterrupt):  # uvicorn stops in peace, and then passes the signal on
        server.run(sockets=[listener])
    if not server.started:
        raise ServiceFailed
