"""Work on many items beside a shop that writes them: a chunk of them in a transaction, and none of it waits for a row.

What somebody else has locked is left for later, and looked at again for as long as `lock_timeout`; then it is refused.
So nobody can be in a deadlock with us. A chunk that PostgreSQL refuses, for one item breaks a rule of the shop's, is
done again an item at a time.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

from sqlalchemy import ColumnElement, Select, Text, any_, func, literal, select, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db import tables
from db.engine import connecting
from db.errors import StockshiftError
from db.shape import Shape, load_shape
from db.sqlstate import sqlstate
from migration.capture import is_capturing
from migration.copy import ITEM
from migration.drive import YIELD_MS
from migration.failures import told
from migration.locks import is_lock_refused
from migration.progress import Progress, Report
from migration.transaction import settle
from migration.verify import MigrationNotStarted

CHUNK = 1_000
POLL_SECONDS = 0.05
RULES = ("22", "23", "P0")
"""The classes of errors by which one row's values can be refused: data, constraints, and what a trigger raises."""

Items = Callable[[Shape], Select[str]]
"""Items that somebody may act on, as a query of their `id`s."""


class NotPrepared(StockshiftError):
    """What keeps both systems in step is not all there. If a migration has just begun, try again in a moment; else
    run `stockshift migrate`, which makes what is missing."""


class LegacyColumnsGone(StockshiftError):
    """The legacy columns were dropped: every item is on its batches; `stockshift contract --undo` brings them back."""


@dataclass(frozen=True)
class Selection:
    """All `items`, or those of them that have these `ids`. `company`: whose they all are, if they are one's."""

    items: Items
    ids: tuple[str, ...] | None = None
    company: str | None = None


@dataclass(frozen=True)
class Refusal:
    """`kind` is for programs, `reason` for a person."""

    kind: str
    reason: str


@dataclass(frozen=True)
class Chunk:
    """What became of some items: `done` ones, `refused` ones, and those that were `busy`: to be looked at again."""

    done: int = 0
    refused: Mapping[str, Refusal] = field(default_factory=dict)
    busy: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Outcome:
    """How many items were `done`, in all; those that were not, by id. An item that was as asked is neither."""

    done: int
    refused: Mapping[str, Refusal]


NOT_FOUND = Refusal("NOT_FOUND", "no item has this id; look it up with `items`")
LOCKED = Refusal("LOCKED", "another session keeps it locked; try again when that is done")

Work = Callable[[AsyncConnection, Shape, list[str]], Awaitable[Chunk]]
"""Done in a transaction that has these items locked; it must not wait for another row."""
Pending = Callable[[Shape, ColumnElement[str]], ColumnElement[bool]]
"""Whether there is something to do for an item, by its id."""


def all_items(company: str | None = None) -> Items:
    def query(shape: Shape) -> Select[str]:
        item = shape.relation(tables.items, "chosen")
        return select(item.c.id).where(true() if company is None else item.c.companyId == company)

    return query


@dataclass(frozen=True)
class InChunks:
    """Work on the selected items that it is `pending` for; one that was asked for by its id is always looked at."""

    engine: AsyncEngine
    selection: Selection
    pending: Pending
    work: Work
    stage: str
    lock_timeout_ms: int
    report: Report

    async def run(self) -> Outcome:
        """Raises MigrationNotStarted, NotPrepared, LegacyColumnsGone; DBAPIError for what is no one item's."""
        total = await self._count()
        done, seen = 0, 0
        refused: dict[str, Refusal] = {}
        busy: set[str] = set()
        self.report(Progress(self.stage, 0, total))
        async for ids in self._pages():
            chunk = await self._chunk(ids)
            done += chunk.done
            seen += len(ids)
            refused |= chunk.refused
            busy |= chunk.busy
            self.report(Progress(self.stage, min(seen, total), total))
        patience = time.monotonic() + self.lock_timeout_ms / 1000
        while busy:
            left: set[str] = set()
            for ids in _cut(busy):
                chunk = await self._chunk(ids)
                done += chunk.done
                refused |= chunk.refused
                left |= chunk.busy
            if len(left) < len(busy):
                patience = time.monotonic() + self.lock_timeout_ms / 1000
            busy = left
            if time.monotonic() > patience:
                break
            if busy:
                waiting = f"{len(busy)} items, such as {min(busy)!r}, are locked by other sessions"
                self.report(Progress(self.stage, total, total, waiting=waiting))
                await asyncio.sleep(POLL_SECONDS)
        self.report(Progress(self.stage, total, total))
        return Outcome(done, refused | dict.fromkeys(sorted(busy), LOCKED))

    async def _count(self) -> int:
        async with connecting(self.engine) as connection, connection.begin():
            await settle(connection)
            shape = await load_shape(connection)
            await require_prepared(connection, shape)
            if self.selection.ids is not None:
                return len(set(self.selection.ids))
            return (
                await connection.execute(select(func.count()).select_from(self._left(shape).subquery()))
            ).scalar_one()

    async def _pages(self) -> AsyncIterator[list[str]]:
        if self.selection.ids is not None:
            for ids in _cut(set(self.selection.ids)):
                yield ids
            return
        after = None
        while True:
            async with connecting(self.engine) as connection, connection.begin():
                await settle(connection)
                left = self._left(await load_shape(connection))
                id_ = left.selected_columns.id
                if after is not None:
                    left = left.where(id_ > after)
                ids = list((await connection.execute(left.order_by(id_).limit(CHUNK))).scalars())
            if not ids:
                return
            yield ids
            after = ids[-1]

    def _left(self, shape: Shape) -> Select[str]:
        query = self.selection.items(shape)
        return query.where(self.pending(shape, query.selected_columns.id))

    async def _chunk(self, ids: list[str]) -> Chunk:
        """One transaction; or, after a refusal, one for each item."""
        found = await self._attempt(ids)
        if isinstance(found, Chunk):
            return found
        if is_lock_refused(found):
            return Chunk(busy=frozenset(ids))
        if len(ids) == 1:
            return Chunk(refused={ids[0]: Refusal("REFUSED", f"PostgreSQL refused it ({told(found)})")})
        chunk = Chunk()
        for id_ in ids:
            one = await self._chunk([id_])
            chunk = Chunk(chunk.done + one.done, {**chunk.refused, **one.refused}, chunk.busy | one.busy)
        return chunk

    async def _attempt(self, ids: list[str]) -> Chunk | DBAPIError:
        async with connecting(self.engine) as connection, connection.begin() as transaction:
            await connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED READ WRITE")
            await connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            await connection.exec_driver_sql(f"SET LOCAL lock_timeout = {self.lock_timeout_ms:d}")
            # As createBatch has it: then nobody takes away what the statements below are made for.
            await connection.exec_driver_sql("LOCK TABLE public.stock_batches, public.items IN ROW EXCLUSIVE MODE")
            await connection.exec_driver_sql(f"SET LOCAL lock_timeout = {min(self.lock_timeout_ms, YIELD_MS):d}")
            await settle(connection)
            shape = await load_shape(connection)
            await require_prepared(connection, shape)
            try:
                return await self._locked(connection, shape, ids)
            except DBAPIError as error:
                if not (is_lock_refused(error) or sqlstate(error)[:2] in RULES):
                    raise
                await transaction.rollback()
                return error

    async def _locked(self, connection: AsyncConnection, shape: Shape, ids: list[str]) -> Chunk:
        asked = literal(ids, ARRAY(Text))
        query = self.selection.items(shape)
        known = set((await connection.execute(query.where(query.selected_columns.id == any_(asked)))).scalars())
        lock = select(ITEM.c.id).where(ITEM.c.id == any_(literal(sorted(known), ARRAY(Text))))
        lock = lock.with_for_update(key_share=True, skip_locked=True)
        locked = sorted((await connection.execute(lock)).scalars())
        chunk = await self.work(connection, shape, locked)
        unknown = dict.fromkeys(set(ids) - known, NOT_FOUND) if self.selection.ids is not None else {}
        return replace(chunk, refused={**unknown, **chunk.refused}, busy=chunk.busy | (known - set(locked)))


def _cut(ids: set[str]) -> list[list[str]]:
    ordered = sorted(ids)
    return [ordered[start : start + CHUNK] for start in range(0, len(ordered), CHUNK)]


async def require_prepared(connection: AsyncConnection, shape: Shape) -> None:
    """Raises MigrationNotStarted, LegacyColumnsGone, NotPrepared."""
    if not (shape.expanded and shape.has(tables.stock_batches)):
        raise MigrationNotStarted
    if not shape.has_legacy_columns:
        raise LegacyColumnsGone
    there = shape.columns.get(tables.items.fullname, frozenset())
    known = shape.has_columns(tables.setting, [tables.setting.c.write_back.name])
    if not (known and tables.USE_BATCH_SYSTEM.name in there and await is_capturing(connection)):
        raise NotPrepared
