"""A shop to try things on: the legacy tables, filled with rows that look real and are the same everywhere.

Three companies in Suriname import electronics and household goods: costs and freight are in USD, selling prices in
SRD, times in UTC. Companies, locations and users have friendly ids; items and expenses have ids like the shop's own.

| famous item | what it is |
|---|---|
| `demo-item-1` | desk fan, Arrived: 10 units in the Main Warehouse (`demo-location-1`), cost 4.25, freight 12.5 |
| `demo-item-2` | rice cooker, Ordered: 6 units for the Harbour Depot (`demo-location-5`), cost 18.9, freight 20 |
| `demo-item-3` | television, Sold: 0 units left in Shop Centrum (`demo-location-2`) |
| `demo-item-4` | drill, ToOrder: no location, no order date, nobody assigned |
| `demo-item-5` | the same desk fan at `demo-company-2`: 3 units in its own Main Warehouse (`demo-location-8`) |
| `demo-item-6` | charger, Arrived: -2 units, since two were sold that had never been counted in |

Items 7 to 47 are the oddities that real tables hold (listed in `sql/demo_shop.sql`); a smaller shop has fewer of
them. The first n items are the same in every shop of at least n items.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from db.errors import StockshiftError

MOST_ITEMS = 10_000_000


class DemoCompany(NamedTuple):
    id: str
    name: str


DEMO_COMPANIES: Sequence[DemoCompany] = (
    DemoCompany("demo-company-1", "Paramart Elektro & Huishoud N.V."),
    DemoCompany("demo-company-2", "Nickerie Trading N.V."),
    DemoCompany("demo-company-3", "Tamanredjo Bouw & Tuin"),
)
"""The companies, the one with most of the items (about four in five) first."""


class DemoShopExists(StockshiftError):
    """The database already has the shop's tables. Load the demo shop into an empty database."""


class DemoShopSize(StockshiftError):
    """The demo shop cannot have that many items."""


async def load_demo_shop(connection: AsyncConnection, *, items: int = 5_000) -> None:
    """Creates the legacy tables in `public` and fills them, in the caller's transaction; the caller commits.

    Beside the items there are two expenses for every five of them. The same number of items gives the same rows on any
    server, in any locale; the database's encoding must be UTF8. A million items take about a minute.

    Raises DemoShopExists when `public` already has one of the tables or types, DemoShopSize when `items` is out of
    range; both before anything is written.
    """
    if not 0 <= items <= MOST_ITEMS:
        raise DemoShopSize(f"A demo shop of {items} items cannot be made. Ask for 0 to {MOST_ITEMS}.")
    found = await connection.exec_driver_sql(
        """
        SELECT typname FROM pg_type
        WHERE typnamespace = 'public'::regnamespace
          AND typname IN ('companies', 'users', 'locations', 'items', 'expenses',
                          'UserRole', 'Status', 'ExpenseCategory', 'Currency')
        ORDER BY typname
        """  # a table or a view is found by its row type
    )
    if names := found.scalars().all():
        raise DemoShopExists(
            f"The database already has {', '.join(names)} in public. Load the demo shop into an empty database."
        )
    for statement in _statements("legacy.sql") + _statements("demo_shop.sql"):
        await connection.exec_driver_sql(statement, (items,) if "$1::int" in statement else ())


def _statements(file: str) -> list[str]:
    """The statements of one of our SQL files, in which each, and nothing else, ends a line with a semicolon."""
    script = (Path(__file__).parent / "sql" / file).read_text(encoding="utf-8")
    return [statement for statement in re.split(r";\n", script) if statement.strip()]
