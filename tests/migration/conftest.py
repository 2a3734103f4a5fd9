"""The shop that most tests of the migration start from."""

from collections.abc import Iterator

import pytest
import stamina

from tests.conftest import CopyTemplate, MakeTemplate, fill_shop, url_of
from tests.migration.support import migrate
from tests.support import Connection, insert_item


async def fill_items(connection: Connection) -> None:
    """The shop with an item of every sort that can be copied."""
    await fill_shop(connection)
    for status in ("ToOrder", "Ordered", "Arrived", "Sold"):
        await insert_item(connection, f"item-{status}", status=status, assignedUserId="acme-user")
    await insert_item(connection, "item-negative", quantityInStock=-2, notes="sold twice")
    await insert_item(connection, "item-nowhere", locationId=None, quantityInStock=0)
    await insert_item(connection, "item-globex", companyId="globex", locationId="globex-main", quantityInStock=7)


@pytest.fixture(scope="session")
def items_template(make_template: MakeTemplate) -> str:
    return make_template(fill_items)


@pytest.fixture
def items_url(copy_template: CopyTemplate, items_template: str) -> str:
    """A fresh database with the shop and seven items that can be copied: 45 units, 7 of them of company globex."""
    return copy_template(items_template)


@pytest.fixture
def no_backoff() -> Iterator[None]:
    """A lock that is not had is not asked for again."""
    with stamina.set_testing(testing=True, attempts=1):
        yield


@pytest.fixture(scope="session")
def migrated_template(make_template: MakeTemplate, server_url: str) -> str:
    async def fill(connection: Connection) -> None:
        await fill_items(connection)
        await migrate(await url_of(connection, server_url))

    return make_template(fill)


@pytest.fixture
def migrated_url(copy_template: CopyTemplate, migrated_template: str) -> str:
    """The same seven items, which an atomic migration has copied."""
    return copy_template(migrated_template)
