"""Folding: with a rollback, quantities that exist only in batches go to the legacy columns of the items that differ.

Which these are takes a sum over all batches. It is found beside everybody; under the lock only for items of which an
item row, a batch or a ledger entry was written since.
"""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from migration.draft import SCHEMA, horizon_of, written_since
from migration.quiet import shop_triggers_off

ITEMS, BATCHES, LEDGER = tables.items.fullname, tables.stock_batches.fullname, tables.copy_ledger.fullname
STOCK = f"""
SELECT b."itemId" AS item_id, sum(b.quantity)::bigint AS units, count(*) AS batches FROM {BATCHES} b
WHERE true {{among}} GROUP BY 1
"""
# A sum that the column cannot hold is left as it is.
DIFFERING = f"""
SELECT i.id AS item_id, i."quantityInStock" AS before, COALESCE(s.units, 0)::integer AS after
FROM {ITEMS} i LEFT JOIN {{stock}} s ON s.item_id = i.id LEFT JOIN {LEDGER} l ON l.item_id = i.id
WHERE (l.item_id IS NOT NULL OR s.item_id IS NOT NULL) AND COALESCE(s.units, 0) <> COALESCE(i."quantityInStock", 0)
  AND COALESCE(s.units, 0) BETWEEN -2147483648 AND 2147483647 {{among}}
"""


@dataclass(frozen=True)
class Folds:
    """As of a snapshot, in SCHEMA: the `stock` of each item, by its `batches`, and the `fold` of each that differs."""

    horizon: str
    batches: int


async def draft_folds(connection: AsyncConnection) -> Folds:
    """In the transaction of `one_draft_snapshot`."""
    await connection.exec_driver_sql(f"CREATE TABLE {SCHEMA}.stock AS {STOCK.format(among='')}")
    await connection.exec_driver_sql(f"ALTER TABLE {SCHEMA}.stock ADD PRIMARY KEY (item_id)")
    await connection.exec_driver_sql(f"ANALYZE {SCHEMA}.stock")
    differing = DIFFERING.format(stock=f"{SCHEMA}.stock", among="")
    await connection.exec_driver_sql(f"CREATE TABLE {SCHEMA}.fold AS {differing}")
    await connection.exec_driver_sql(f"ALTER TABLE {SCHEMA}.fold ADD PRIMARY KEY (item_id)")
    await connection.exec_driver_sql(f"ANALYZE {SCHEMA}.fold")
    counted = await connection.execute(text(f"SELECT COALESCE(sum(batches), 0)::bigint FROM {SCHEMA}.stock"))
    return Folds(await horizon_of(connection), counted.scalar_one())


async def catch_up_folds(connection: AsyncConnection, folds: Folds, items: list[str]) -> None:
    """Of these items and others whose batches were written since, while nobody writes.

    A batch that went, or went to another item, is not among those written; but then the numbers do not add up.
    """
    batches = await written_since(connection, BATCHES, '"itemId"', folds.horizon)
    entries = await written_since(connection, LEDGER, "item_id", folds.horizon)
    wanted = {"among": list({*items, *batches.keys, *entries.keys})}
    was = text(f"SELECT COALESCE(sum(batches), 0)::bigint FROM {SCHEMA}.stock WHERE item_id = ANY (:among)")
    now = text(f'SELECT count(*) FROM {BATCHES} WHERE "itemId" = ANY (:among)')
    left = folds.batches - (await connection.execute(was, wanted)).scalar_one()
    if left + (await connection.execute(now, wanted)).scalar_one() == batches.rows:
        theirs = STOCK.format(among='AND b."itemId" = ANY (:among)')
        again = DIFFERING.format(stock=f"({theirs})", among="AND i.id = ANY (:among)")
        await connection.execute(text(f"DELETE FROM {SCHEMA}.fold WHERE item_id = ANY (:among)"), wanted)
        await connection.execute(text(f"INSERT INTO {SCHEMA}.fold {again}"), wanted)
    else:
        await connection.exec_driver_sql(f"DELETE FROM {SCHEMA}.fold")
        whole = DIFFERING.format(stock=f"({STOCK.format(among='')})", among="")
        await connection.exec_driver_sql(f"INSERT INTO {SCHEMA}.fold {whole}")


async def make_folds(connection: AsyncConnection, place: str) -> int:
    """Each with what was there before and is there since, in `place`. No trigger of ours is on any more."""
    async with shop_triggers_off(connection, ITEMS):
        done = await connection.exec_driver_sql(
            f'UPDATE {ITEMS} i SET "quantityInStock" = f.after FROM {place}.fold f WHERE f.item_id = i.id'
        )
    count = await connection.scalar(text(f"SELECT count(*) FROM {place}.fold"))
    if done.rowcount != count:  # an item was deleted since
        gone = f"DELETE FROM {place}.fold f WHERE NOT EXISTS (SELECT FROM {ITEMS} i WHERE i.id = f.item_id)"
        await connection.exec_driver_sql(gone)
    return done.rowcount
