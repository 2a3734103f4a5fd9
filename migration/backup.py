"""`backup` (R26): a dump, the tables that a migration touches as CSV, and a manifest, all of one instant.

The instant is a snapshot that our own transaction exports: pg_dump takes it over, and the CSV files and the totals are
read in it. Everything is written to a folder beside the one that was asked for, which gets its name when all of it is
on disk; so a folder of that name is complete. Why so: docs/decisions/0018.
"""

import asyncio
import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import pg_tools, tables
from db.engine import connecting
from db.errors import StockshiftError
from db.libpq import libpq_environment, wants_tls
from db.shape import load_shape
from db.url import DatabaseUrl
from migration import audit
from migration.failures import explained
from migration.manifest import DUMP, NAME, Contents, File, Manifest, contents_of, identity, major_of, tables_of
from migration.progress import Progress, Report, silent
from migration.transaction import settle

TOUCHED = (tables.items, tables.stock_batches, tables.locations, tables.users)
"""Those of the shop's tables that a migration writes, locks or refers to; with them go all of schema stockshift."""

SERVER = text(
    """
    SELECT current_setting('server_version') AS version,
           EXISTS (SELECT FROM pg_catalog.pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl) AS encrypted
    """
)


class NotBackedUp(StockshiftError):
    """There is no backup."""


class Pooled(StockshiftError):
    """A dump needs a connection of its own, and the URL is a pooler's: set DIRECT_URL to the unpooled address."""


@dataclass(frozen=True)
class Server:
    """`version` is such as "15.3". `encrypted`: our own connection is, so others should be."""

    version: str
    encrypted: bool

    @property
    def major(self) -> int:
        return major_of(self.version)


async def look_at_server(connection: AsyncConnection) -> Server:
    row = (await connection.execute(SERVER)).one()
    return Server(row.version.split()[0], row.encrypted)


class Written:
    """A file of a backup while it is written: only its owner can read it, and it is hashed as it comes."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file: BinaryIO = os.fdopen(self._descriptor, "wb")
        self._digest = hashlib.sha256()
        self.bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._file.flush()
        os.fsync(self._descriptor)
        self._file.close()

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.bytes += len(data)

    @property
    def done(self) -> File:
        return File(self.bytes, self._digest.hexdigest())


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A new folder that has its name when the block ends well, and is not there otherwise. Raises NotBackedUp."""
    if os.path.lexists(target):
        raise NotBackedUp(f"{target} is there already, and no backup is written over: name a folder that is not there")
    try:
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.absolute().parent))
    except OSError as error:
        raise NotBackedUp(f"{target} cannot be made ({error.strerror}): name a folder where you may write") from error
    try:
        yield partial
        _sync(partial)
        partial.rename(target)
        _sync(target.absolute().parent)
    except OSError as error:
        raise NotBackedUp(
            f"{target} could not be written ({error.strerror or error}): see that there is space there, or name another"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def back_up(
    engine: AsyncEngine,
    url: DatabaseUrl,
    target: Path,
    *,
    made_by: str,
    lock_timeout_ms: int = 2_000,
    progress: Report = silent,
) -> Manifest:
    """Writes `target`, a folder that must not be there. `engine` and `url` are of the same database.

    Raises Pooled, NotBackedUp, NoTool, ToolFailed, ConnectionFailed, and what `explained` says.
    """
    if url.pooled:
        raise Pooled
    with whole_folder(target) as partial:
        async with explained(engine, kept="there is no backup"), _exporting(engine, lock_timeout_ms) as connection:
            if not (await load_shape(connection)).is_a_shop:
                raise NotBackedUp("The database has no table public.items with a status: name the shop's database")
            snapshot: str = (await connection.execute(select(func.pg_export_snapshot()))).scalar_one()
            server = await look_at_server(connection)
            tls = server.encrypted or wants_tls(url)
            tool = await asyncio.to_thread(pg_tools.for_dump, server.major, tls=tls)
            contents = await contents_of(connection, "totals", progress)
            files: dict[str, File] = {}
            with Written(partial / DUMP) as dump:
                await _dump(tool, url, server, snapshot, lock_timeout_ms, dump, contents, progress)
            files[DUMP] = dump.done
            files |= await _write_csv_files(connection, partial, contents, progress)
            manifest = Manifest(
                uuid.uuid4().hex,
                datetime.now(UTC),
                made_by,
                server.version,
                tool.version,
                await identity(connection),
                contents,
                files,
            )
        with Written(partial / NAME) as file:
            file.write(manifest.to_json())
    await tell(engine, "BACKED_UP", made_by, backup=manifest.id, database=manifest.database, folder=str(target))
    return manifest


@asynccontextmanager
async def _exporting(engine: AsyncEngine, lock_timeout_ms: int) -> AsyncIterator[AsyncConnection]:
    """A transaction that only reads, sees one instant, and may be idle as long as pg_dump is not."""
    async with connecting(engine) as connection:
        await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        async with connection.begin():
            await connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            await connection.exec_driver_sql(f"SET LOCAL lock_timeout = {lock_timeout_ms:d}")
            await settle(connection)
            await connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
            yield connection


async def _dump(
    tool: pg_tools.Tool,
    url: DatabaseUrl,
    server: Server,
    snapshot: str,
    lock_timeout_ms: int,
    file: Written,
    contents: Contents,
    progress: Report,
) -> None:
    rows = {name: table.count for name, table in contents.tables.items()}
    total = sum(rows.values())
    told = {"done": 0, "now": 0}

    def heard(line: str) -> None:
        _, found, name = line.partition('dumping contents of table "')
        if found:
            told["done"] += told["now"]
            told["now"] = rows.get(name.strip('"').replace('"."', "."), 0)
            progress(Progress("dump", told["done"], total))

    progress(Progress("dump", 0, total))
    arguments = (
        "--format=custom",
        "--verbose",
        "--no-password",
        f"--snapshot={snapshot}",
        f"--lock-wait-timeout={lock_timeout_ms}",
    )
    with libpq_environment(url, application_name="stockshift backup", encrypted=server.encrypted) as environment:
        async with pg_tools.running(tool, *arguments, environment=environment, heard=heard) as program:
            stream = pg_tools.pipe(program.process.stdout)
            while data := await stream.read(pg_tools.CHUNK):
                file.write(data)
            if failure := await program.failure():
                raise pg_tools.ToolFailed(f"pg_dump {tool.version} failed ({failure}); there is no backup")
    progress(Progress("dump", total, total))


async def _write_csv_files(
    connection: AsyncConnection, folder: Path, contents: Contents, progress: Report
) -> dict[str, File]:
    touched = {table.fullname for table in TOUCHED}
    chosen = {
        name: quoted
        for name, quoted in (await tables_of(connection)).items()
        if name in touched or name.startswith("stockshift")
    }
    total = sum(contents.tables[name].count for name in chosen)
    done = 0
    progress(Progress("csv", 0, total))
    files = {}
    driver: Any = (await connection.get_raw_connection()).driver_connection
    for name, quoted in chosen.items():
        file_name = f"{name.removeprefix('public.')}.csv"
        with Written(folder / file_name) as file:

            async def sink(data: bytes, file: Written = file) -> None:
                file.write(data)

            query = f"SELECT * FROM ONLY {quoted}"  # noqa: S608 - quoted by the server
            await driver.copy_from_query(query, output=sink, format="csv", header=True)
        files[file_name] = file.done
        done += contents.tables[name].count
        progress(Progress("csv", done, total))
    return files


TOLD = text(
    """
    SELECT COALESCE(has_table_privilege(to_regclass('stockshift.audit'), 'INSERT'), false) AND NOT pg_is_in_recovery()
    """
)


async def tell(engine: AsyncEngine, action: audit.Action, actor: str, **details: Any) -> bool:
    """Into the audit of the live database, if it has one that we may write to; whether it was told."""
    async with explained(engine, kept="the backup is complete"), connecting(engine) as connection, connection.begin():
        if not await connection.scalar(TOLD):
            return False
        await audit.record(connection, action, actor, **details)
        return True
