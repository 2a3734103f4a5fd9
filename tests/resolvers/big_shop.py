"""A shop of 100,000 items, made by a few statements of SQL in some seconds.

All but every fiftieth item are of company acme. Each has two batches, but one in a hundred was never copied and has
none; one item has CROWD more, the first of which has as many movements. Rare are the status Sold and the location
acme-harbour: of a few items on the batch system, and of a few off it. Every ninth item is low on stock, every seventh
is called a display.
"""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine

from migration.expand import existing, flag_to_add, indexes_to_make, keys_to_add, tables_to_make
from tests.conftest import fill_shop
from tests.support import Connection, insert_item

ITEMS = 100_000
RARE = 8  # items of each rare kind
CROWDED, CROWD = "crowded", 5_000

FILL_ITEMS = """
INSERT INTO items (id, name, status, "quantityInStock", "costPerUnitUSD", "sellingPriceSRD", "minStockLevel",
                   "createdAt", "updatedAt", "companyId", "locationId")
SELECT md5('item ' || n),
       n * 7919 % 60000 || CASE n % 7 WHEN 0 THEN ' Display' ELSE ' Thing' END,
       (CASE WHEN n % 25000 = 300 THEN 'Sold' ELSE (ARRAY['ToOrder', 'Ordered', 'Arrived'])[1 + n % 3] END)::"Status",
       5 + n % 90, 2.5, 100, CASE WHEN n % 9 = 0 THEN 1000 END,
       TIMESTAMP '2024-01-01' + n * 6113 % 50000 * INTERVAL '7 minutes', TIMESTAMP '2026-01-01', company,
       CASE WHEN n % 25000 = 500 THEN 'acme-harbour' WHEN n % 3 > 0 THEN company || '-main' END
FROM generate_series(1, $1::bigint) AS n,
     LATERAL (SELECT CASE WHEN n % 50 = 7 THEN 'globex' ELSE 'acme' END) AS owner (company)
"""

COPY = """
WITH copied AS (
    INSERT INTO stockshift.copy_ledger (item_id, batch_id, original)
    SELECT id, md5('first of ' || id), '{}' FROM items
    WHERE status <> 'Sold' AND "locationId" IS DISTINCT FROM 'acme-harbour' AND hashtext(id) % 100 <> 0
    RETURNING item_id
)
INSERT INTO stock_batches (id, quantity, status, "costPerUnitUSD", "createdAt", "updatedAt", "itemId", "locationId")
SELECT md5(which || ' of ' || id), "quantityInStock", status, "costPerUnitUSD", "createdAt", "updatedAt", id,
       "locationId"
FROM copied JOIN items ON id = item_id CROSS JOIN unnest(ARRAY['first', 'second']) AS which
"""

MAKE_RARE = """
UPDATE stock_batches SET status = CASE WHEN n <= 4 THEN 'Sold' ELSE status END,
    "locationId" = CASE WHEN n > 4 THEN 'acme-harbour' ELSE "locationId" END
FROM (
    SELECT batch.id, row_number() OVER (ORDER BY batch.id) AS n FROM stock_batches AS batch
    JOIN items ON items.id = batch."itemId" WHERE "companyId" = 'acme' ORDER BY batch.id LIMIT 8
) AS few WHERE few.id = stock_batches.id
"""

ADD_CROWD = """
INSERT INTO stock_batches (id, quantity, status, "costPerUnitUSD", "createdAt", "updatedAt", "itemId")
SELECT md5('crowd ' || n), 1, (ARRAY['ToOrder', 'Ordered'])[1 + n % 2]::"Status", 1,
       TIMESTAMP '2025-01-01' + n * INTERVAL '1 minute', TIMESTAMP '2026-01-01', $1
FROM generate_series(1, $2::int) AS n
"""


ADD_MOVEMENTS = """
INSERT INTO stockshift.movement (batch_id, item_id, delta, reason, role)
SELECT id, "itemId", quantity, 'RECEIVED', 'shop' FROM stock_batches
UNION ALL SELECT md5('crowd 1'), $1, 1, 'DIRECT', 'shop' FROM generate_series(2, $2::int)
"""


async def fill_big_shop(connection: Connection, engine: AsyncEngine) -> None:
    await fill_shop(connection)
    await connection.execute(FILL_ITEMS, ITEMS)
    async with engine.begin() as migration:
        there = await existing(migration)
        for step in tables_to_make(there):
            await migration.exec_driver_sql(step.sql)
    await connection.execute(COPY)
    await connection.execute(MAKE_RARE)
    await insert_item(connection, CROWDED, name="20000 Crowd", createdAt=datetime(2024, 3, 1))  # noqa: DTZ001
    await connection.execute(ADD_CROWD, CROWDED, CROWD)
    await connection.execute(ADD_MOVEMENTS, CROWDED, CROWD)
    async with engine.begin() as migration:
        for step in (*keys_to_add(there), *indexes_to_make(there), *flag_to_add(there)):
            await migration.exec_driver_sql(step.sql)
    await connection.execute("VACUUM ANALYZE")
