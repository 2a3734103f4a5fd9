"""The dual read: a sampled read of an item is answered by both systems in the same statement, and they are compared.

What is compared comes with the answer, on the row that is read anyway: one look into the item's batches. Where they are
not one batch that equals the legacy columns, the copy ledger and the opening batch say why; nothing else is read. The
answer carries what was found as a note between control characters, which JSON never has, and goes out without it.
Why so: docs/decisions/0019.
"""

import asyncio
import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from random import random
from typing import Any

import orjson
from sqlalchemy import BigInteger, Text, and_, case, cast, func, literal_column, not_, null, or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import connecting
from db.errors import StockshiftError
from migration.candidates import differing
from migration.read_difference import MOST_KEPT, Difference, keep_differences
from resolvers.row import Row
from resolvers.sql import Json, Value, constant

log = logging.getLogger("stockshift.dual_read")

NOTE = "\x06"
WRITTEN = re.compile(f"{NOTE}([^{NOTE}]*){NOTE}")
NO_DIFFERENCE = ("AGREED", "NOT_COPIED")
"""Both systems answer alike; there is one system, as the item was not copied yet."""
WRITE_SECONDS = 1.0
LOCK_TIMEOUT_MS = 1_000


def noted(item: Row, shown: Json) -> Json:
    """The item's object, and behind it a note: an outcome, or a cause with both quantities and the id as JSON."""
    scope = item.scope
    own, mine = scope.batches_of(item.c.id)
    seen = (
        select(
            func.count().label("batches"),
            cast(func.coalesce(func.sum(own.c.quantity), 0), BigInteger).label("units"),
            func.bool_and(not_(or_(*differing(own, item.table).values()))).label("equal"),
        )
        .where(mine)
        .correlate(item.table)
        .subquery(scope.name("seen"))
    )
    ledger, copied = scope.copy_of(item.c.id)
    opening = scope.any_batch()
    legacy = func.coalesce(item.c.quantityInStock, 0)
    cause = case(
        (and_(ledger.c.item_id.is_(null()), seen.c.batches == 0), constant("NOT_COPIED")),
        (ledger.c.item_id.is_(null()), constant("BATCHES_WITHOUT_COPY")),
        (and_(ledger.c.cut_over_at.is_not(null()), seen.c.units == legacy), constant("AGREED")),
        (ledger.c.cut_over_at.is_not(null()), constant("CUT_OVER")),
        (opening.c.id.is_(null()), constant("OPENING_BATCH_LOST")),
        (or_(*differing(opening, item.table, ledger.c.choices).values()), constant("OPENING_BATCH_DIFFERS")),
        (seen.c.batches > 1, constant("RECEIVED_SINCE")),
        else_=constant("AGREED"),
    )
    once = select(literal_column("1")).subquery(scope.name("once"))
    why = (
        select(func.concat_ws(constant(" "), cause, legacy, seen.c.units, cast(func.to_json(item.c.id), Text)))
        .select_from(
            once.outerjoin(ledger, copied).outerjoin(
                opening, and_(opening.c.id == ledger.c.batch_id, opening.c.itemId == item.c.id)
            )
        )
        .correlate(item.table, seen)
        .scalar_subquery()
    )
    alike = and_(seen.c.batches == 1, seen.c.equal)
    note: Value = select(case((alike, constant("AGREED")), else_=why)).correlate(item.table).scalar_subquery()
    return Json((*shown.parts, NOTE, note, NOTE))


class DualReads:
    """Of one process: what share of the reads is compared, what came of it, and the writing down, on the primary.

    `outcomes` counts them all. What differs is written in the background; a read never waits for that, and what
    cannot be written is left out.
    """

    def __init__(self, engine: AsyncEngine, share: float) -> None:
        self.outcomes: Counter[str] = Counter()
        self._engine = engine
        self._share = share
        self._differences: dict[str, Difference] = {}
        self._some = asyncio.Event()

    def sampled(self) -> bool:
        return random() < self._share  # noqa: S311 - a sample, no secret

    def without_notes(self, values: Sequence[Any]) -> Sequence[Any]:
        """The answers as they go out; what was noted in them is counted, and kept."""
        return [WRITTEN.sub(self._take, value) if value is not None and NOTE in value else value for value in values]

    async def keep_writing(self) -> None:
        """For as long as the process runs."""
        while True:
            await self._some.wait()
            await self.flush()
            await asyncio.sleep(WRITE_SECONDS)

    async def flush(self) -> None:
        """Writes down what was found since the last time."""
        found, self._differences = list(self._differences.values()), {}
        self._some.clear()
        if not found:
            return
        try:
            async with connecting(self._engine) as connection, connection.begin():
                await connection.exec_driver_sql(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS:d}")
                await keep_differences(connection, found)
        except (StockshiftError, SQLAlchemyError, OSError) as error:
            log.warning("%d differences between both systems are not kept: %s", len(found), error)

    def _take(self, written: re.Match[str]) -> str:
        outcome, *rest = written[1].split(" ", 3)
        self.outcomes[outcome] += 1
        if outcome not in NO_DIFFERENCE:
            legacy, units, item = rest
            self._keep(Difference(orjson.loads(item), outcome, int(legacy), int(units)))
        return ""

    def _keep(self, found: Difference) -> None:
        before = self._differences.get(found.item_id)
        if before is None and len(self._differences) >= MOST_KEPT:
            return
        times = found.times if before is None else before.times + found.times
        self._differences[found.item_id] = replace(found, times=times)
        self._some.set()
