"""A real PostgreSQL for every test that touches data: the embedded server, or TEST_DATABASE_URL.

Databases are copies of a template that is made once, so a fresh one costs some tens of milliseconds.
"""

import asyncio
import gc
import os
import shutil
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import Engine, event
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.engine import make_url

from db.embedded import embedded_server
from tests.support import Connection, connect_arguments, insert

LEGACY = (Path(__file__).parent / "legacy.sql").read_text()

# What a process compiles once, a thousand tests with an engine each would compile a thousand times: here all engines
# share what was compiled, for dialects that are made alike.
COMPILED: dict[object, object] = {}
PGDialect_asyncpg.__hash__ = lambda self: hash(type(self))  # type: ignore[method-assign]
PGDialect_asyncpg.__eq__ = lambda self, other: type(self) is type(other)  # type: ignore[method-assign]
event.listen(Engine, "engine_connect", lambda connection: connection.execution_options(compiled_cache=COMPILED))

# A test leaves little behind, and to look through everything that is loaded for it takes a tenth of the time.
gc.set_threshold(200_000, 50, 100)

# A test's cluster is thrown away: it need not survive a power cut.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200"}


# Where there is room, the cluster is in memory, where a database is copied in a sixth of the time.
MEMORY = Path("/dev/shm")  # noqa: S108  # as tempfile would, a folder of its own is made there
ROOM_FOR_ONE = 2 * 2**30
OURS = "stockshift-test-"


def in_memory() -> Path | None:
    if not os.access(MEMORY, os.W_OK):
        return None
    for left in MEMORY.glob(f"{OURS}*-*"):  # a run that was killed
        if not Path("/proc", left.name.removeprefix(OURS).partition("-")[0]).exists():
            shutil.rmtree(left, ignore_errors=True)
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return MEMORY if shutil.disk_usage(MEMORY).free > workers * ROOM_FOR_ONE else None


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """The URL of a server on which databases may be made and dropped."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given
        return
    prefix = f"{OURS}{os.getpid()}-"
    with tempfile.TemporaryDirectory(prefix=prefix, dir=in_memory(), ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # root's server runs as another user, who must reach it
        with embedded_server(Path(folder), settings=FAST) as server:
            yield server.url("postgres")


def database_on(server: str, name: str) -> str:
    return make_url(server).set(database=name).render_as_string(hide_password=False)


async def url_of(connection: Connection, server: str) -> str:
    """Of the database that a connection to this server is to."""
    return database_on(server, await connection.fetchval("SELECT current_database()"))


def administer(server: str, statement: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(**connect_arguments(server))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


MakeTemplate = Callable[[Callable[[Connection], Awaitable[None]]], str]


@pytest.fixture(scope="session")
def make_template(server_url: str) -> Iterator[MakeTemplate]:
    """Makes a template database once and answers its name."""
    made: list[str] = []

    def make(fill: Callable[[Connection], Awaitable[None]]) -> str:
        name = f"stockshift_template_{uuid.uuid4().hex[:12]}"
        administer(server_url, f'CREATE DATABASE "{name}" TEMPLATE template0')
        made.append(name)

        async def run() -> None:
            connection = await asyncpg.connect(**connect_arguments(database_on(server_url, name)))
            try:
                await fill(connection)
            finally:
                await connection.close()

        asyncio.run(run())
        return name

    yield make
    for name in made:
        administer(server_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


CopyTemplate = Callable[[str], str]


@pytest.fixture
def copy_template(server_url: str) -> Iterator[CopyTemplate]:
    """Makes fresh databases from a template, and drops them after the test."""
    made: list[str] = []

    def copy(template: str) -> str:
        name = f"stockshift_test_{uuid.uuid4().hex[:12]}"
        administer(server_url, f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')
        made.append(name)
        return database_on(server_url, name)

    yield copy
    for name in made:
        administer(server_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


async def fill_nothing(_: Connection) -> None: ...


async def fill_legacy(connection: Connection) -> None:
    await connection.execute(LEGACY)


async def fill_shop(connection: Connection) -> None:
    """Two companies with two locations each (one name in both), a user each, no item."""
    await fill_legacy(connection)
    for company in ("acme", "globex"):
        await insert(connection, "companies", id=company, name=company.title())
        await insert(
            connection,
            "users",
            id=f"{company}-user",
            name=f"{company.title()} User",
            email=f"user@{company}.example",
            password="$2b$10$never.shown",
            companyId=company,
        )
        for location in ("main", "harbour"):
            await insert(connection, "locations", id=f"{company}-{location}", name=location.title(), companyId=company)


@pytest.fixture(scope="session")
def empty_template(make_template: MakeTemplate) -> str:
    return make_template(fill_nothing)


@pytest.fixture(scope="session")
def legacy_template(make_template: MakeTemplate) -> str:
    return make_template(fill_legacy)


@pytest.fixture(scope="session")
def shop_template(make_template: MakeTemplate) -> str:
    return make_template(fill_shop)


@pytest.fixture
def empty_database_url(copy_template: CopyTemplate, empty_template: str) -> str:
    """A fresh database without a table."""
    return copy_template(empty_template)


@pytest.fixture
def database_url(copy_template: CopyTemplate, legacy_template: str) -> str:
    """A fresh database with the shop's tables, empty."""
    return copy_template(legacy_template)


@pytest.fixture
def shop_url(copy_template: CopyTemplate, shop_template: str) -> str:
    """A fresh database with the shop's tables: two companies, their locations and users, no item."""
    return copy_template(shop_template)
