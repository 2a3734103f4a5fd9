"""The shop that is written while it migrates."""

import pytest

from tests.conftest import CopyTemplate, MakeTemplate
from tests.online.shop import fill


@pytest.fixture(scope="session")
def busy_template(make_template: MakeTemplate) -> str:
    return make_template(fill)


@pytest.fixture
def busy_url(copy_template: CopyTemplate, busy_template: str) -> str:
    """A fresh database with the shop of tests/online/shop.py, before any migration."""
    return copy_template(busy_template)
