"""Services and databases that several tests share."""

import uuid
from collections.abc import Iterator

import pytest

from tests.conftest import administer, database_on
from tests.resolvers.conftest import batches_template, batches_url, stock_template, stock_url
from tests.service.processes import Service, serving

__all__ = ["batches_template", "batches_url", "stock_template", "stock_url"]


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
