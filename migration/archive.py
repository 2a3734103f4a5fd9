"""Archives: what rollback and contract take out of the way goes to a schema of its own, and can be put back.

A table that is moved keeps its rows, indexes, sequences and privileges as they are, in a moment, whatever its size.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Text, bindparam, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from db.errors import StockshiftError
from db.shape import load_shape

Kind = Literal["ROLLBACK", "CONTRACT"]
ARCHIVE = tables.archive
LEFT_IN = text("SELECT count(*) FROM pg_catalog.pg_class WHERE relnamespace = to_regnamespace(:place)")


REFERRED = text(
    """
    SELECT DISTINCT format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_constraint k
    JOIN pg_catalog.pg_class c ON c.oid = k.confrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE k.conrelid = to_regclass(:table) AND k.contype = 'f' AND k.confrelid <> to_regclass('public.items')
      AND EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)
                  AND (CAST(:columns AS text[]) IS NULL OR a.attname = ANY (:columns)))
    ORDER BY 1
    """
).bindparams(bindparam("columns", type_=ARRAY(Text)))


class ConfirmationMismatch(StockshiftError):
    """What was given to confirm is not the name of the database; nothing was changed."""


class NotArchived(StockshiftError):
    """There is nothing to put back; nothing was changed."""


class Superseded(StockshiftError):
    """The database has changed so that what was archived cannot be put back; nothing was changed."""


@dataclass(frozen=True)
class Archive:
    """`place` is its schema, a name that needs no quotes. `details` by the kind."""

    id: int
    kind: Kind
    made_at: datetime
    made_by: str
    details: dict[str, Any]

    @property
    def place(self) -> str:
        return f"stockshift_archive_{self.id}"


async def require_name(connection: AsyncConnection, confirm: str) -> None:
    """Raises ConfirmationMismatch unless the operator named the database."""
    name: str = (await connection.execute(select(func.current_database()))).scalar_one()
    if confirm != name:
        raise ConfirmationMismatch(f"this is database {name!r}, not {confirm!r}; confirm with its name")


async def latest_archive(connection: AsyncConnection, kind: Kind) -> Archive | None:
    """The latest of its kind that was not undone."""
    if not (await load_shape(connection)).expanded:
        return None
    if await connection.scalar(select(func.to_regclass(ARCHIVE.fullname))) is None:
        return None  # expanded by an earlier version
    columns = [ARCHIVE.c[name] for name in Archive.__dataclass_fields__]
    open_ones = select(*columns).where(ARCHIVE.c.kind == kind, ARCHIVE.c.undone_at.is_(None))
    row = (await connection.execute(open_ones.order_by(ARCHIVE.c.id.desc()).limit(1))).one_or_none()
    return None if row is None else Archive(**row._asdict())


async def rolled_back(connection: AsyncConnection) -> str | None:
    """When and by whom the migration was rolled back, and what to do, if it was and none was begun since."""
    archive = await latest_archive(connection, "ROLLBACK")
    if archive is None or await connection.scalar(select(func.to_regclass(tables.copy_ledger.fullname))) is not None:
        return None
    return (
        f"the migration was rolled back at {archive.made_at:%Y-%m-%d %H:%M:%S} UTC by {archive.made_by}; "
        "`stockshift rollback --undo` puts it back, `stockshift migrate` begins anew"
    )


async def contracted(connection: AsyncConnection) -> str | None:
    """Since when the legacy columns are gone, and what to do, if a contract dropped them."""
    shape = await load_shape(connection)
    archive = None if shape.has_legacy_columns else await latest_archive(connection, "CONTRACT")
    if archive is None:
        return None
    return (
        f"the legacy columns were dropped at {archive.made_at:%Y-%m-%d %H:%M:%S} UTC by {archive.made_by}, every item "
        "is on batches; `stockshift contract --undo` puts them back"
    )


async def begin_archive(connection: AsyncConnection, kind: Kind, actor: str, details: dict[str, Any]) -> Archive:
    columns = [ARCHIVE.c[name] for name in Archive.__dataclass_fields__]
    made = insert(ARCHIVE).values(kind=kind, made_by=actor, details=details).returning(*columns)
    archive = Archive(**(await connection.execute(made)).one()._asdict())
    await connection.exec_driver_sql(f"CREATE SCHEMA {archive.place}")
    return archive


async def end_archive(connection: AsyncConnection, archive: Archive, actor: str) -> bool:
    """Marks it as undone; its schema goes, unless something is left in it. Answers whether something is."""
    undone = {"undone_at": func.clock_timestamp(), "undone_by": actor}
    await connection.execute(update(ARCHIVE).where(ARCHIVE.c.id == archive.id).values(undone))
    left = bool((await connection.execute(LEFT_IN, {"place": archive.place})).scalar_one())
    if not left:
        await connection.exec_driver_sql(f"DROP SCHEMA {archive.place}")
    return left


async def move(connection: AsyncConnection, names: list[str], source: str, target: str) -> None:
    """Tables from one schema to another."""
    for name in names:
        await connection.exec_driver_sql(f"ALTER TABLE {source}.{name} SET SCHEMA {target}")


async def referred(connection: AsyncConnection, table: str, columns: Iterable[str] | None = None) -> list[str]:
    """The tables beside items that its keys, or those of some `columns`, refer to: who drops or makes such a key needs
    them as well."""
    wanted = {"table": table, "columns": None if columns is None else list(columns)}
    return list((await connection.execute(REFERRED, wanted)).scalars())
