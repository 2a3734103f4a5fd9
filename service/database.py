"""Which database a command works on: the one it is given, the environment's, or the embedded server's."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from db.embedded import AlreadyRunningError, embedded_server
from db.errors import StockshiftError
from service.settings import Settings
from service.whole_file import replacing

EMBEDDED_DATABASE = "shop"


class NoDatabase(StockshiftError):
    """There is no database to work on: set DATABASE_URL, or make a shop to try with `stockshift demo`."""


@dataclass(frozen=True)
class Database:
    """`direct` is for what needs a session of its own: migrations and verification. `replica` is for reads alone."""

    url: str
    direct: str
    replica: str | None = None


@contextmanager
def chosen_database(settings: Settings, given: str | None) -> Iterator[Database]:
    """The database of `--database-url`, of DATABASE_URL, or of the embedded server, which runs as long as this.

    A URL that is given stands for all: DIRECT_URL may be another database's. NoDatabase, and what the embedded
    server raises.
    """
    if given is not None:
        yield Database(given, given)
    elif settings.database_url is not None:
        yield Database(settings.database_url, settings.direct_url or settings.database_url, settings.replica_url)
    elif not (settings.data / "postgres").exists():
        raise NoDatabase(
            f"DATABASE_URL is not set, and there is no shop in {settings.data}; set it, or run `stockshift demo` first"
        )
    else:
        with embedded_database(settings.data) as url:
            yield Database(url, url)


@contextmanager
def embedded_database(data: Path) -> Iterator[str]:
    """The embedded server's database: of the server that runs already, or of one that runs as long as this."""
    with ExitStack() as stack:
        try:
            url = stack.enter_context(own_database(data))
        except AlreadyRunningError as running:
            try:
                url = _note(data).read_text()
            except FileNotFoundError:
                raise running from None
        yield url


@contextmanager
def own_database(data: Path) -> Iterator[str]:
    """The database of an embedded server that runs as long as this. AlreadyRunningError: somebody runs it."""
    note = _note(data)
    with embedded_server(data) as server:
        url = server.url(EMBEDDED_DATABASE)
        with replacing(note) as file:
            file.write(url.encode())
        try:
            yield url
        finally:
            note.unlink(missing_ok=True)


def _note(data: Path) -> Path:
    """How other commands find the server while its owner runs."""
    return data / "url"
