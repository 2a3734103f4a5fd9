"""The latest differences that reads found between both systems, an item a row, so many at most.

They are samples, of live traffic; a verification is what compares everything. `times` counts
since the item has a row.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables

Cause = Literal["RECEIVED_SINCE", "CUT_OVER", "OPENING_BATCH_DIFFERS", "OPENING_BATCH_LOST", "BATCHES_WITHOUT_COPY"]
EXPLAINED: frozenset[Cause] = frozenset({"RECEIVED_SINCE", "CUT_OVER"})
MOST_KEPT = 1_000
KEPT = tables.read_difference


@dataclass(frozen=True)
class Difference:
    """Quantities in units: of the legacy columns, and of all batches."""

    item_id: str
    cause: str
    legacy_quantity: int
    batch_quantity: int
    times: int = 1

    @property
    def explained(self) -> bool:
        return self.cause in EXPLAINED


async def keep_differences(connection: AsyncConnection, found: Collection[Difference]) -> None:
    """At most one an item, at most MOST_KEPT."""
    made = insert(KEPT)
    anew = {name: made.excluded[name] for name in ("at", "cause", "explained", "legacy_quantity", "batch_quantity")}
    rows = [{**vars(one), "explained": one.explained} for one in sorted(found, key=lambda one: one.item_id)]
    await connection.execute(
        made.on_conflict_do_update(
            index_elements=[KEPT.c.item_id], set_={**anew, "times": KEPT.c.times + made.excluded.times}
        ),
        rows,
    )
    latest = KEPT.alias("latest")
    old = select(latest.c.item_id).order_by(latest.c.at.desc(), latest.c.item_id).offset(MOST_KEPT)
    await connection.execute(delete(KEPT).where(KEPT.c.item_id.in_(old)))
