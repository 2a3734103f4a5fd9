"""A shop whose database is expanded, with items that were not copied, and the service in front of it."""

from collections.abc import AsyncIterator, Iterator

import pytest
import stamina

from tests.conftest import CopyTemplate, MakeTemplate, administer, database_on, fill_shop, url_of
from tests.migration.support import migrate
from tests.mutations.support import Client, serving
from tests.support import Connection, insert_item


async def fill_uncopied(connection: Connection, server_url: str) -> None:
    """The migration ran, and since then the legacy application made items: ten units each but `empty` and `globex`."""
    await fill_shop(connection)
    await insert_item(connection, "copied", quantityInStock=10)
    await migrate(await url_of(connection, server_url))
    await insert_item(connection, "mug", quantityInStock=10)
    await insert_item(connection, "pot", quantityInStock=10, status="Ordered", locationId="acme-harbour")
    await insert_item(connection, "empty", quantityInStock=0)
    await insert_item(connection, "globex", quantityInStock=7, companyId="globex", locationId="globex-main")


@pytest.fixture(scope="session")
def uncopied_template(make_template: MakeTemplate, server_url: str) -> str:
    return make_template(lambda connection: fill_uncopied(connection, server_url))


@pytest.fixture
def uncopied_url(copy_template: CopyTemplate, uncopied_template: str) -> str:
    """A fresh database, expanded, with four items that have no batch yet."""
    return copy_template(uncopied_template)


@pytest.fixture
async def client(uncopied_url: str) -> AsyncIterator[Client]:
    """An admin of all companies, in front of `uncopied_url`."""
    async with serving(uncopied_url) as admin:
        yield admin


@pytest.fixture(scope="module")
def unchanging_url(server_url: str, uncopied_template: str) -> Iterator[str]:
    """The same database for all tests of a module that must not change it."""
    name = f"{uncopied_template}_unchanging"
    administer(server_url, f'CREATE DATABASE "{name}" TEMPLATE "{uncopied_template}"')
    yield database_on(server_url, name)
    administer(server_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture
def no_backoff() -> Iterator[None]:
    """A lock that is not had is not asked for again."""
    with stamina.set_testing(testing=True, attempts=1):
        yield
