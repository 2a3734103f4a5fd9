"""The shop that is under fire: who may write which of its items, and what can be seen of it from outside."""

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from migration.capture import TRIGGERS
from tests.conftest import fill_shop
from tests.online.accounts import LEGACY_COLUMNS, Row
from tests.support import Connection

STATUSES = ("ToOrder", "Ordered", "Arrived", "Sold")
PLACES = ("acme-main", "acme-harbour")
LONG_AGO = datetime(2024, 5, 6, 7, 8, 9, 123_000)  # noqa: DTZ001 - the shop stores UTC without a zone

SHARED = [f"shared-{number:03}" for number in range(48)]
"""Anybody adds and takes units; the clerks divide their other columns among them."""
CLERKS = 2
CHURNERS = 2


def of_clerk(clerk: int) -> list[str]:
    """Items that one clerk alone writes, and that never have another batch than the opening batch."""
    return [f"clerk-{clerk}-{number:03}" for number in range(12)]


def of_churner(churner: int) -> list[str]:
    """Ids under which one churner alone makes items, deletes them and changes their ids; half of them begin."""
    return [f"churn-{churner}-{number:03}" for number in range(24)]


IDLE = [f"idle-{number:03}" for number in range(60)]
"""Nobody writes them."""


async def fill(connection: Connection) -> None:
    await fill_shop(connection)
    begin = [*SHARED, *IDLE]
    for clerk in range(CLERKS):
        begin += of_clerk(clerk)
    for churner in range(CHURNERS):
        begin += of_churner(churner)[::2]
    await connection.execute(
        """
        INSERT INTO items (id, name, status, "quantityInStock", "costPerUnitUSD", "freightCostUSD", "sellingPriceSRD",
                           "createdAt", "updatedAt", "companyId", "locationId", "assignedUserId")
        SELECT id, id, (enum_range(NULL::"Status"))[1 + n % 4], 10 + n % 7, n % 5 + 0.25, n % 3 * 2.5, 10, $2, $2,
               'acme',
               CASE n % 3 WHEN 0 THEN 'acme-main' WHEN 1 THEN 'acme-harbour' END,
               CASE n % 2 WHEN 0 THEN 'acme-user' END
        FROM unnest($1::text[]) WITH ORDINALITY AS begin (id, n)
        """,
        begin,
        LONG_AGO,
    )


async def legacy_rows(connection: Connection) -> dict[str, Row]:
    """Every item's legacy columns, by its id."""
    columns = ", ".join(f'"{column}"' for column in LEGACY_COLUMNS)
    rows = await connection.fetch(f"SELECT id, {columns} FROM items")
    return {row["id"]: {column: row[column] for column in LEGACY_COLUMNS} for row in rows}


def assignments(values: Mapping[str, Any], first: int = 2) -> str:
    """For SET, with parameters from number `first`."""
    return ", ".join(f'"{name}" = ${number}' for number, name in enumerate(values, first))


class Watch:
    """What is in the database by now, seen from a connection of its own. What is once there stays."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.turn = asyncio.Lock()
        self.triggers: set[str] = set()
        self.batches = False

    async def look(self) -> None:
        """A writer that asks after it wrote `items`, before it commits, knows whether its write is captured.

        For a trigger is put on only while no writer is in the middle of a transaction.
        """
        if self.batches and self.triggers >= TRIGGERS.keys():
            return
        async with self.turn:
            rows = await self.connection.fetch(
                "SELECT tgname::text FROM pg_trigger WHERE tgname = ANY($1::text[])", list(TRIGGERS)
            )
            self.triggers.update(row[0] for row in rows)
            self.batches = await self.connection.fetchval(
                "SELECT to_regclass('stock_batches') IS NOT NULL AND to_regclass('stockshift.copy_ledger') IS NOT NULL"
            )
