"""The service alone, as part one starts it, for what only it is asked."""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.client import Client, connect
from bench.contestants import SERVER, Assignment
from bench.processes import Process, free_port, serving
from resolvers.viewer import Role
from service.tokens import issue_token


@dataclass(frozen=True)
class Service:
    process: Process
    token: str
    client: Client


def token(secret: str, company: str | None = None) -> str:
    """Of a member of staff, of all companies or of one, for a day."""
    return issue_token(secret, role=Role.STAFF, company=company, ttl=timedelta(days=1), subject="bench")


@contextmanager
def service(
    url: str,
    core: int,
    command: Callable[[Assignment], Sequence[str]] = SERVER.command,
    settings: Mapping[str, str] | None = None,
) -> Iterator[Service]:
    given = Assignment(url, free_port(), secrets.token_hex(32))
    everything = token(given.secret)
    with (
        TemporaryDirectory(prefix="stockshift-bench-") as folder,
        serving(
            command(given),
            {**SERVER.environment(given), **(settings or {})},
            port=given.port,
            core=core,
            log=Path(folder) / "service.log",
        ) as process,
    ):
        client = connect(process.url, everything)
        with client.http:
            yield Service(process, everything, client)
