"""What tests share that is not a fixture."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import pytest
from sqlalchemy.engine import make_url

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[Any]
else:
    Connection = asyncpg.Connection  # generic for the type checker only

REQUIRE_ALL = os.environ.get("STOCKSHIFT_TEST_REQUIRE_ALL") == "1"


def missing(what: str) -> None:
    """Skip a test for want of a program; fail it where everything must be there (CI)."""
    if REQUIRE_ALL:
        pytest.fail(f"{what} is missing, and STOCKSHIFT_TEST_REQUIRE_ALL=1 wants every test run")
    pytest.skip(f"{what} is missing")


def connect_arguments(url: str) -> dict[str, Any]:
    parts = make_url(url)
    return {
        "host": parts.query.get("host") or parts.host,
        "port": parts.query.get("port") or parts.port,
        "user": parts.username,
        "password": parts.password,
        "database": parts.database,
    }


@asynccontextmanager
async def psql(url: str, *, application_name: str = "psql") -> AsyncIterator[Connection]:
    """A plain connection past everything of ours: what an administrator or the legacy application has."""
    connection = await asyncpg.connect(**connect_arguments(url), server_settings={"application_name": application_name})
    try:
        yield connection
    finally:
        await connection.close(timeout=10)


ITEM_DEFAULTS: Mapping[str, Any] = {
    "status": "Arrived",
    "quantityInStock": 10,
    "costPerUnitUSD": 4.25,
    "freightCostUSD": 12.5,
    "sellingPriceSRD": 250.0,
    "companyId": "acme",
    "locationId": "acme-main",
}


UPDATED_AT = datetime(2026, 1, 2, 3, 4, 5, 678_000)  # noqa: DTZ001 - the shop stores UTC without a zone


async def insert(connection: Connection, table: str, **values: Any) -> None:
    """One row, its columns named as the shop names them; updatedAt is given, as the shop's ORM does."""
    row = {"updatedAt": UPDATED_AT, **values}
    names = ", ".join(f'"{name}"' for name in row)
    marks = ", ".join(f"${position}" for position in range(1, len(row) + 1))
    await connection.execute(f'INSERT INTO "{table}" ({names}) VALUES ({marks})', *row.values())


async def insert_item(connection: Connection, item_id: str, **values: Any) -> None:
    await insert(connection, "items", **{"id": item_id, "name": item_id, **ITEM_DEFAULTS, **values})
