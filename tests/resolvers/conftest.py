"""Shops that the tests of answers start from, each once as it was and once migrated."""

import pytest

from tests.conftest import CopyTemplate, MakeTemplate, fill_shop, url_of
from tests.migration.support import migrate
from tests.resolvers.shop import fill_stock, insert_batch
from tests.support import Connection, insert_item


@pytest.fixture(scope="session")
def expanded_template(make_template: MakeTemplate, server_url: str) -> str:
    async def fill(connection: Connection) -> None:
        await fill_shop(connection)
        await migrate(await url_of(connection, server_url))

    return make_template(fill)


@pytest.fixture
def expanded_url(copy_template: CopyTemplate, expanded_template: str) -> str:
    """The shop without an item, expanded: nothing was copied."""
    return copy_template(expanded_template)


@pytest.fixture(scope="session")
def stock_template(make_template: MakeTemplate) -> str:
    async def fill(connection: Connection) -> None:
        await fill_shop(connection)
        await fill_stock(connection)

    return make_template(fill)


@pytest.fixture
def stock_url(copy_template: CopyTemplate, stock_template: str) -> str:
    """Items `mug`, `pot` and `vase` of company acme and `cup` of globex, before the migration."""
    return copy_template(stock_template)


@pytest.fixture(scope="session")
def batches_template(make_template: MakeTemplate, server_url: str) -> str:
    async def fill(connection: Connection) -> None:
        await fill_shop(connection)
        await fill_stock(connection)
        await migrate(await url_of(connection, server_url))
        await insert_batch(
            connection,
            "mug-2",
            "mug",
            quantity=5,
            status="ToOrder",
            locationId="acme-harbour",
            assignedUserId="acme-user",
        )
        await insert_batch(connection, "mug-3", "mug", quantity=7, costPerUnitUSD=2.0, locationId=None)
        await connection.execute("""DELETE FROM stock_batches WHERE "itemId" = 'vase'""")
        await insert_item(connection, "rug", quantityInStock=6, useBatchSystem=True)
        await insert_item(connection, "bed", quantityInStock=9)
        await insert_batch(connection, "bed-1", "bed", quantity=4, status="Sold")

    return make_template(fill)


@pytest.fixture
def batches_url(copy_template: CopyTemplate, batches_template: str) -> str:
    """The same migrated: `mug` has three batches, `vase` is sold out and its batches are gone, `rug` is flagged but
    was never copied, `bed` was never copied and has a batch of its own."""
    return copy_template(batches_template)
