"""A primary of the embedded server's programs with a real streaming replica, and shops on them."""

import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from db.embedded import EmbeddedServer, embedded_server
from tests.conftest import FAST, fill_shop
from tests.db.servers import Folder, folder
from tests.migration.support import until
from tests.resolvers.shop import fill_stock
from tests.support import Connection, psql

SETTINGS = {**FAST, "max_standby_streaming_delay": "0", "wal_receiver_status_interval": "1"}


@dataclass(frozen=True)
class ReplicaServer:
    """It listens on a socket in its own folder, as the server that it follows does."""

    home: Folder
    programs: Path

    @property
    def data(self) -> Path:
        return self.home.path / "data"

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@/{database}?host={quote(str(self.home.path))}&port=5432"

    def start(self) -> None:
        settings = {**SETTINGS, "listen_addresses": "", "unix_socket_directories": str(self.home.path), "port": "5432"}
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        self.home.run(self.programs / "pg_ctl", "-D", self.data, "-w", "-t", "60", "-o", options, "start")

    def stop(self) -> None:
        self.home.run(self.programs / "pg_ctl", "-D", self.data, "-w", "-t", "60", "-m", "fast", "stop")


@dataclass(frozen=True)
class Pair:
    primary: EmbeddedServer
    replica: ReplicaServer


@contextmanager
def primary_server() -> Iterator[EmbeddedServer]:
    with tempfile.TemporaryDirectory(prefix="stockshift-test-", ignore_cleanup_errors=True) as place:
        Path(place).chmod(0o755)
        with embedded_server(Path(place), settings=FAST) as server:
            yield server


@contextmanager
def replica_of(primary: EmbeddedServer) -> Iterator[ReplicaServer]:
    """A replica that runs; it may be stopped meanwhile."""
    with folder(primary.data_dir.stat().st_uid) as home:
        replica = ReplicaServer(home, primary.bin_dir)
        source = f"host={primary.socket_dir} port=5432 user=postgres"
        copy = ("-d", source, "-D", replica.data, "-R", "-c", "fast", "--no-sync")
        home.run(primary.bin_dir / "pg_basebackup", *copy)
        replica.start()
        try:
            yield replica
        finally:
            if (replica.data / "postmaster.pid").exists():
                replica.stop()


async def make_shop(pair: Pair, name: str) -> tuple[str, str]:
    """URLs of a shop with stock, not migrated, on the primary and on the replica, which has it."""
    async with psql(pair.primary.url()) as administrator, psql(pair.replica.url()) as replica:
        await administrator.execute(f"CREATE DATABASE {name}")
        async with psql(pair.primary.url(name)) as connection:
            await fill_shop(connection)
            await fill_stock(connection)
        await caught_up(administrator, replica)
    return pair.primary.url(name), pair.replica.url(name)


@asynccontextmanager
async def shop_on(pair: Pair) -> AsyncIterator[tuple[str, str]]:
    """The same, for a while."""
    name = f"shop_{uuid.uuid4().hex[:12]}"
    yield await make_shop(pair, name)
    async with psql(pair.primary.url()) as administrator:
        await administrator.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def caught_up(primary: Connection, replica: Connection) -> None:
    """Until the replica has replayed what the primary has written by now."""
    position = await primary.fetchval("SELECT pg_current_wal_insert_lsn()::text")

    async def replayed() -> bool:
        return bool(await replica.fetchval("SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", position))

    await until(replayed, "the replica has caught up")


@asynccontextmanager
async def paused(replica_url: str) -> AsyncIterator[Connection]:
    """Meanwhile the replica replays nothing; a connection to it."""
    async with psql(replica_url) as connection:
        await connection.execute("SELECT pg_wal_replay_pause()")

        async def stands() -> bool:
            return bool(await connection.fetchval("SELECT pg_get_wal_replay_pause_state() = 'paused'"))

        await until(stands, "the replica stands")
        try:
            yield connection
        finally:
            await connection.execute("SELECT pg_wal_replay_resume()")
