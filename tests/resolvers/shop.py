"""Rows of the shop that the tests of answers share."""

from collections.abc import Mapping
from typing import Any

from tests.support import Connection, insert, insert_item

BATCH_DEFAULTS: Mapping[str, Any] = {
    "quantity": 1,
    "status": "Arrived",
    "costPerUnitUSD": 3.0,
    "freightCostUSD": 6.0,
    "locationId": "acme-main",
}

STOCK_BATCHES = """
    CREATE TABLE stock_batches (
        id text CONSTRAINT stock_batches_pkey PRIMARY KEY,
        quantity integer NOT NULL DEFAULT 0,
        status "Status" NOT NULL DEFAULT 'ToOrder',
        "costPerUnitUSD" double precision NOT NULL,
        "freightCostUSD" double precision NOT NULL DEFAULT 0,
        "orderDate" timestamp(3), "expectedArrival" timestamp(3), "arrivedDate" timestamp(3),
        "orderNumber" text, notes text,
        "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
        "updatedAt" timestamp(3) NOT NULL,
        "itemId" text NOT NULL, "locationId" text, "assignedUserId" text
    )
"""
"""Made by hand, without a key to anything."""


async def insert_batch(connection: Connection, batch_id: str, item_id: str, **values: Any) -> None:
    await insert(connection, "stock_batches", **{"id": batch_id, "itemId": item_id, **BATCH_DEFAULTS, **values})


async def fill_stock(connection: Connection) -> None:
    await insert_item(connection, "mug", minStockLevel=30)
    await insert_item(connection, "pot", quantityInStock=3, status="Ordered", locationId=None, minStockLevel=2)
    await insert_item(connection, "vase", quantityInStock=8)
    await insert_item(connection, "cup", quantityInStock=2, companyId="globex", locationId="globex-main")


ITEM = """
    id totalQuantity usingBatchSystem statuses stockValueUSD
    locations { id }
    quantityByStatus { status quantity }
    quantityByLocation { location { id } quantity }
    legacy { quantityInStock status location { id } costPerUnitUSD freightCostUSD }
    batches { totalCount edges { node { id quantity } } }
"""
"""Every field that says what stock there is."""

ONE_ITEM = f"query($id: ID!) {{ item(id: $id) {{ {ITEM} }} }}"


def ids(connection: Any) -> list[str]:
    """The ids of a page's nodes."""
    return [edge["node"]["id"] for edge in connection["edges"]]
