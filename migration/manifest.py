"""What a backup says of itself (R26): the database at one instant, and every file to the bit.

A table's fingerprint is the sum over its rows of a hash of the row as text: it does not depend on their order, nor on
the server's version. Two databases with equal fingerprints and counts hold the same rows.
"""

import asyncio
import hashlib
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from db.errors import StockshiftError
from db.shape import load_shape
from migration.plan import Totals, shop_totals
from migration.progress import Progress, Report

FORMAT = 1
NAME = "manifest.json"
DUMP = "shop.dump"
READ_BYTES = 2**20


class BadBackup(StockshiftError):
    """That is no backup that can be trusted; nothing was written."""


@dataclass(frozen=True)
class File:
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Rows:
    count: int
    fingerprint: str


@dataclass(frozen=True)
class Contents:
    """What a database holds, as far as a backup proves it. `tables` are those of everybody, by schema.name.

    `batches` is the quantity on batches, in units; None where there are none.
    """

    totals: Totals
    batches: int | None
    tables: dict[str, Rows]
    extensions: dict[str, str]


@dataclass(frozen=True)
class Manifest:
    """`server` and `pg_dump` are versions, `database` is as `identity` answers it."""

    id: str
    made_at: datetime
    made_by: str
    server: str
    pg_dump: str
    database: dict[str, str | None]
    contents: Contents
    files: dict[str, File]

    @property
    def server_major(self) -> int:
        return major_of(self.server)

    @property
    def dump_major(self) -> int:
        return major_of(self.pg_dump)

    def to_json(self) -> bytes:
        told = {"format": FORMAT, **asdict(self)}
        return orjson.dumps({**told, "checksum": checksum(told)}, option=orjson.OPT_INDENT_2)


def major_of(version: str) -> int:
    return int(version.partition(".")[0])


def checksum(told: dict[str, Any]) -> str:
    plain = orjson.loads(orjson.dumps({key: value for key, value in told.items() if key != "checksum"}))
    return hashlib.sha256(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)).hexdigest()


def read_manifest(directory: Path) -> Manifest:
    """Raises BadBackup."""
    path = directory / NAME
    try:
        told = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        raise BadBackup(f"{directory} has no {NAME}: name a folder that `stockshift backup` made") from None
    except OSError as error:
        raise BadBackup(f"{path} cannot be read ({error.strerror}); nothing was written") from error
    except orjson.JSONDecodeError as error:
        raise BadBackup(f"{path} is cut off or was changed ({error}); nothing was written: take another one") from error
    if not isinstance(told, dict) or "format" not in told or "checksum" not in told:
        raise BadBackup(f"{path} is not of a Stockshift backup; nothing was written: name a folder of ours")
    if told["format"] != FORMAT:
        raise BadBackup(
            f"{path} has format {told['format']!r}, and this version reads {FORMAT}: restore with the version of "
            "Stockshift that made it"
        )
    if told["checksum"] != checksum(told):
        raise BadBackup(f"{path} was changed since it was made; nothing was written: take another backup")
    try:
        return _from_json(told)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadBackup(f"{path} is not of a Stockshift backup; nothing was written: name a folder of ours") from error


def _from_json(told: dict[str, Any]) -> Manifest:
    contents = told["contents"]
    return Manifest(
        told["id"],
        datetime.fromisoformat(told["made_at"]),
        told["made_by"],
        told["server"],
        told["pg_dump"],
        told["database"],
        Contents(
            Totals(**contents["totals"]),
            contents["batches"],
            {name: Rows(**rows) for name, rows in contents["tables"].items()},
            contents["extensions"],
        ),
        {name: File(**file) for name, file in told["files"].items()},
    )


async def read_backup(directory: Path, progress: Report) -> Manifest:
    """Reads every byte of it. Raises BadBackup, which names the first file that is not what the backup made."""
    manifest = read_manifest(directory)
    total = sum(file.bytes for file in manifest.files.values())
    done = 0
    progress(Progress("check", 0, total))
    for name, file in manifest.files.items():
        path = directory / name
        if Path(name).name != name or path.is_symlink() or not path.is_file():
            raise BadBackup(f"{path} is missing; nothing was written: restore the whole folder, or take another backup")
        size = path.stat().st_size
        if size != file.bytes:
            raise BadBackup(
                f"{path} has {size} bytes where the backup had {file.bytes}; nothing was written: copy it again"
            )
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            while data := stream.read(READ_BYTES):
                digest.update(data)
                done += len(data)
                progress(Progress("check", done, total))
                await asyncio.sleep(0)  # Ctrl-C is heard between two reads
        if digest.hexdigest() != file.sha256:
            raise BadBackup(f"{path} was changed since the backup was made; nothing was written: copy it again")
    return manifest


IDENTITY = text(
    """
    SELECT current_database() AS name,
           CASE WHEN has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')
                THEN (SELECT CAST(system_identifier AS text) FROM pg_catalog.pg_control_system()) END
               AS system_identifier
    """
)


async def identity(connection: AsyncConnection) -> dict[str, str | None]:
    """Which database it is, of all there are: its name and its server's number, None where that may not be read."""
    return dict((await connection.execute(IDENTITY)).one()._asdict())


TABLES = text(
    """
    SELECT n.nspname || '.' || c.relname AS name, format('%I.%I', n.nspname, c.relname) AS quoted
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
      AND NOT EXISTS (
          SELECT FROM pg_catalog.pg_depend d
          WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
      )
    ORDER BY 1
    """
)
BATCHES = text("SELECT CAST(COALESCE(sum(quantity), 0) AS bigint) FROM public.stock_batches")
EXTENSIONS = text("SELECT extname::text, extversion FROM pg_catalog.pg_extension ORDER BY 1")


async def tables_of(connection: AsyncConnection) -> dict[str, str]:
    """Every table that a dump has rows of: its name, and as it stands in SQL."""
    return {row.name: row.quoted for row in await connection.execute(TABLES)}


async def contents_of(connection: AsyncConnection, stage: str, progress: Report) -> Contents:
    """Reads every row of the database once, in the caller's snapshot, after `settle`."""
    tables = await tables_of(connection)
    found: dict[str, Rows] = {}
    for name, quoted in tables.items():
        progress(Progress(stage, len(found), len(tables)))
        found[name] = await _rows(connection, quoted)
    progress(Progress(stage, len(tables), len(tables)))
    extensions = {row[0]: row[1] for row in await connection.execute(EXTENSIONS)}
    totals = await shop_totals(connection, await load_shape(connection))
    batches = None
    if "public.stock_batches" in tables:
        batches = await connection.scalar(BATCHES)
    return Contents(totals, batches, found, extensions)


async def _rows(connection: AsyncConnection, quoted: str) -> Rows:
    # SHA-256 is there in every server since 11, MD5 not in one that keeps to FIPS.
    row = "sha256(convert_to((t.*)::text, 'UTF8'))"
    number = f"('x' || encode(substr({row}, 1, 8), 'hex'))::bit(64)::bigint"
    query = f"SELECT count(*) AS count, COALESCE(sum({number}), 0)::text AS fingerprint FROM ONLY {quoted} AS t"  # noqa: S608 - quoted there
    found = (await connection.exec_driver_sql(query)).one()
    return Rows(**found._asdict())


def differences(expected: Contents, found: Contents) -> list[str]:
    """What is not as it was, each as words."""
    told = []
    for name in sorted(expected.tables.keys() | found.tables.keys()):
        was, is_now = expected.tables.get(name), found.tables.get(name)
        if was is None or is_now is None:
            told.append(f"table {name} is {'new' if was is None else 'missing'}")
        elif was.count != is_now.count:
            told.append(f"table {name} has {is_now.count} rows, and had {was.count}")
        elif was.fingerprint != is_now.fingerprint:
            told.append(f"table {name} has other values in its {was.count} rows")
    were, are = _comparable(expected.totals), _comparable(found.totals)
    for field, was_total in were.items():
        if (total := are[field]) != was_total:
            told.append(f"the items' {field.replace('_', ' ')} are {total}, and were {was_total}")
    if expected.batches != found.batches:
        told.append(f"the batches hold {found.batches} units, and held {expected.batches}")
    return told


def _comparable(totals: Totals) -> dict[str, Any]:
    """Names are in another order where text is."""
    return {
        field: sorted(value, key=repr) if isinstance(value, list) else value for field, value in asdict(totals).items()
    }
