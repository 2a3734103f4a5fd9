"""`restore`: a backup into an empty database, all of it or nothing, and the proof that it is what was backed up (R26).

What can be known before is known before anything is written: that every file is as it was made, that the database is
empty, that the server can take the dump. Then pg_restore does all in one transaction, fed by us: whoever kills us, or
it, leaves the database empty. Data comes before triggers, so nothing that was recorded is recorded again.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import pg_tools
from db.engine import connecting
from db.errors import StockshiftError
from db.libpq import libpq_environment, wants_tls
from db.url import DatabaseUrl
from migration.backup import Pooled, Server, look_at_server
from migration.failures import explained
from migration.manifest import DUMP, BadBackup, Contents, Manifest, contents_of, differences, read_backup
from migration.progress import Progress, Report, silent
from migration.transaction import one_snapshot, settle

LISTED = 5

# What somebody made, not an extension. Extensions that the server's host puts into every database are no obstacle.
THERE = text(
    """
    WITH schema AS (
        SELECT oid, nspname FROM pg_catalog.pg_namespace
        WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
    ), made (kind, classid, oid, name) AS (
        SELECT 'schema', 'pg_namespace'::regclass, oid, nspname::text FROM schema WHERE nspname <> 'public'
        UNION ALL SELECT 'relation', 'pg_class'::regclass, c.oid, s.nspname || '.' || c.relname
        FROM pg_catalog.pg_class c JOIN schema s ON s.oid = c.relnamespace WHERE c.relkind NOT IN ('i', 'I', 't')
        UNION ALL SELECT 'type', 'pg_type'::regclass, t.oid, s.nspname || '.' || t.typname
        FROM pg_catalog.pg_type t JOIN schema s ON s.oid = t.typnamespace WHERE t.typtype IN ('e', 'd', 'r')
        UNION ALL SELECT 'function', 'pg_proc'::regclass, p.oid, s.nspname || '.' || p.proname
        FROM pg_catalog.pg_proc p JOIN schema s ON s.oid = p.pronamespace
    )
    SELECT kind || ' ' || name AS what FROM made
    WHERE NOT EXISTS (
        SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = made.classid AND d.objid = made.oid AND d.deptype = 'e'
    )
    ORDER BY kind = 'relation' DESC, name
    """
)
LACKING = text(
    """
    SELECT name FROM unnest(CAST(:names AS text[])) AS name
    WHERE name NOT IN (SELECT a.name::text FROM pg_catalog.pg_available_extensions a) ORDER BY name
    """
).bindparams(bindparam("names"))

# Privileges are not restored, and a new function is everybody's. Our triggers' functions are nobody's but a trigger's.
# The driver of a run that was under way drives another database.
SETTLED = """
DO $$
BEGIN
    IF to_regnamespace('stockshift') IS NOT NULL THEN
        REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA stockshift FROM PUBLIC;
    END IF;
    IF to_regclass('stockshift.driver') IS NOT NULL THEN
        DELETE FROM stockshift.driver;
    END IF;
END
$$
"""


class NotRestored(StockshiftError):
    """Nothing was restored."""


class NotProven(StockshiftError):
    """What was restored is not what was backed up."""


@dataclass(frozen=True)
class Restored:
    """What is in the database now, which is what the manifest says, and the server's version."""

    manifest: Manifest
    server: str
    contents: Contents


async def restore(engine: AsyncEngine, url: DatabaseUrl, directory: Path, *, progress: Report = silent) -> Restored:
    """Restores the backup in `directory` into the empty database of `engine` and `url`.

    Raises BadBackup, NotRestored, Pooled, NoTool, ToolFailed, ConnectionFailed and what `explained` says, and nothing
    was written; NotProven, and what was restored is there.
    """
    if url.pooled:
        raise Pooled
    manifest = await read_backup(directory, progress)
    async with explained(engine):
        async with one_snapshot(engine) as connection:
            await settle(connection)
            server = await look_at_server(connection)
            await _require_room(connection, manifest, server, url)
        tls = server.encrypted or wants_tls(url)
        tool = await asyncio.to_thread(pg_tools.for_restore, manifest.dump_major, server.major, tls=tls)
        await _feed(tool, url, server, directory / DUMP, manifest, progress)
    async with explained(engine, kept="the backup is restored, and not proven"):
        async with one_snapshot(engine) as connection:
            await settle(connection)
            contents = await contents_of(connection, "prove", progress)
        if differing := differences(manifest.contents, contents):
            raise NotProven(
                f"The database {url.database} is not what was backed up: {_listed(differing, '; ')}. Do not use it: "
                "drop it, and restore into a new one"
            )
        async with connecting(engine) as connection, connection.begin():
            await connection.exec_driver_sql(SETTLED)
    return Restored(manifest, server.version, contents)


async def _require_room(connection: AsyncConnection, manifest: Manifest, server: Server, url: DatabaseUrl) -> None:
    """Raises NotRestored."""
    there = list((await connection.execute(THERE)).scalars())
    if there:
        raise NotRestored(
            f"The database {url.database} is not empty, it has {_listed(there)}; nothing was written: restore into a "
            "new one (createdb). If that was a restore which was interrupted at its very end, drop it first"
        )
    if server.major < manifest.server_major:
        raise NotRestored(
            f"The backup is of PostgreSQL {manifest.server}, and the database {url.database} is on {server.version}; "
            f"nothing was written: restore into PostgreSQL {manifest.server_major} or later"
        )
    lacking = list((await connection.execute(LACKING, {"names": list(manifest.contents.extensions)})).scalars())
    if lacking:
        raise NotRestored(
            f"The server of {url.database} lacks the extension {', '.join(lacking)}, which the backup uses; nothing "
            "was written: install it there, or restore on a server that has it"
        )


async def _feed(
    tool: pg_tools.Tool, url: DatabaseUrl, server: Server, dump: Path, manifest: Manifest, progress: Report
) -> None:
    """pg_restore in one transaction. The bytes are hashed once more on their way: the file may have changed since."""
    quoted = url.database.replace("\\", "\\\\").replace("'", "\\'")
    arguments = (
        f"--dbname=dbname='{quoted}'",  # a plain name with = or :// in it would be taken for more than a name
        "--single-transaction",
        "--no-owner",
        "--no-privileges",
        "--no-publications",
        "--no-subscriptions",
        "--no-password",
    )
    expected = manifest.files[DUMP]
    digest = hashlib.sha256()
    done = 0
    progress(Progress("restore", 0, expected.bytes))
    with (
        libpq_environment(url, application_name="stockshift restore", encrypted=server.encrypted) as environment,
        dump.open("rb") as file,
    ):
        async with pg_tools.running(tool, *arguments, environment=environment, fed=True) as program:
            stream = pg_tools.pipe(program.process.stdin)
            stream.transport.set_write_buffer_limits(0)  # what progress tells of is on its way
            with suppress(BrokenPipeError, ConnectionResetError):  # it failed, and says why
                while data := file.read(pg_tools.CHUNK):
                    digest.update(data)
                    done += len(data)
                    if done >= expected.bytes and digest.hexdigest() != expected.sha256:
                        # Without the end of its input pg_restore has not committed; it is killed.
                        raise BadBackup(f"{dump} was changed while it was restored; nothing was kept: copy it again")
                    stream.write(data)
                    await stream.drain()
                    progress(Progress("restore", min(done, expected.bytes - 1), expected.bytes))
                stream.close()
            if failure := await program.failure():
                raise pg_tools.ToolFailed(
                    f"pg_restore {tool.version} failed ({failure}); nothing was kept: mend that, and restore again"
                )
    progress(Progress("restore", expected.bytes, expected.bytes))


def _listed(names: Sequence[str], separator: str = ", ") -> str:
    more = f"{separator}and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return separator.join(names[:LISTED]) + more
