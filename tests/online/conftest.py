"""The shop that is written while it migrates."""

import pytest

from tests.conftest import CopyTemplate, MakeTemplate, fill_shop, url_of
from tests.migration.support import migrate
from tests.online import crash
from tests.online.shop import fill
from tests.online.support import migrate_live
from tests.support import Connection, insert_item


@pytest.fixture(scope="session")
def busy_template(make_template: MakeTemplate) -> str:
    return make_template(fill)


@pytest.fixture
def busy_url(copy_template: CopyTemplate, busy_template: str) -> str:
    """A fresh database with the shop of tests/online/shop.py, before any migration."""
    return copy_template(busy_template)


async def fill_captured(connection: Connection, server_url: str) -> None:
    await fill(connection)
    await migrate(await url_of(connection, server_url))


@pytest.fixture(scope="session")
def captured_template(make_template: MakeTemplate, server_url: str) -> str:
    return make_template(lambda connection: fill_captured(connection, server_url))


@pytest.fixture
def captured_url(copy_template: CopyTemplate, captured_template: str) -> str:
    """A fresh database with the same shop, every item of which an atomic migration has copied."""
    return copy_template(captured_template)


async def fill_half_copied(connection: Connection, server_url: str) -> None:
    """An item was copied online, and since then the shop made three more of ten units each."""
    await fill_shop(connection)
    await insert_item(connection, "copied")
    await migrate_live(await url_of(connection, server_url))
    for item_id in ("cup", "mug", "pot"):
        await insert_item(connection, item_id)


@pytest.fixture(scope="session")
def half_copied_template(make_template: MakeTemplate, server_url: str) -> str:
    return make_template(lambda connection: fill_half_copied(connection, server_url))


@pytest.fixture
def half_copied_url(copy_template: CopyTemplate, half_copied_template: str) -> str:
    """A fresh database with capture on: item `copied`, and `cup`, `mug` and `pot`, which the next run copies."""
    return copy_template(half_copied_template)


@pytest.fixture(scope="session")
def quiet_template(make_template: MakeTemplate) -> str:
    return make_template(crash.fill)


@pytest.fixture
def quiet_url(copy_template: CopyTemplate, quiet_template: str) -> str:
    """A fresh database with thirty items, before any migration."""
    return copy_template(quiet_template)
