"""Services and databases that several tests share."""

import asyncio
import uuid
from collections.abc import Iterator

import pytest

from tests.conftest import CopyTemplate, MakeTemplate, administer, database_on, fill_shop, url_of
from tests.migration.support import migrate
from tests.resolvers.conftest import batches_template, batches_url, stock_template, stock_url
from tests.service.processes import Service, add_items, serving
from tests.support import Connection

__all__ = ["batches_template", "batches_url", "stock_template", "stock_url"]


@pytest.fixture(scope="session")
def five_items_template(make_template: MakeTemplate, server_url: str) -> str:
    async def fill(connection: Connection) -> None:
        await fill_shop(connection)
        url = await url_of(connection, server_url)
        await asyncio.to_thread(add_items, url, 5)
        await migrate(url)

    return make_template(fill)


@pytest.fixture
def migrated_url(copy_template: CopyTemplate, five_items_template: str) -> str:
    """A fresh database with five items, which are copied."""
    return copy_template(five_items_template)


@pytest.fixture(scope="module")
def module_shop_url(server_url: str, shop_template: str) -> Iterator[str]:
    """A shop that the tests of a module share."""
    name = f"stockshift_test_{uuid.uuid4().hex[:12]}"
    administer(server_url, f'CREATE DATABASE "{name}" TEMPLATE "{shop_template}"')
    yield database_on(server_url, name)
    administer(server_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture(scope="module")
def service(module_shop_url: str) -> Iterator[Service]:
    """A service in front of it, which answers to two names only."""
    with serving(module_shop_url, env={"STOCKSHIFT_ALLOWED_HOSTS": "127.0.0.1,shop.example"}) as service:
        yield service
