"""The shop that everybody is measured on."""

import pytest

from bench.data import index_names
from tests.support import psql


@pytest.mark.parametrize(
    ("there", "made"),
    [
        (None, True),
        ("CREATE INDEX stockshift_items_name_idx ON items (name, id)", False),
        ("CREATE INDEX stockshift_items_name_idx ON items (name, id, quantity)", False),
        ("CREATE INDEX some_idx ON items (name)", True),
        ("CREATE INDEX some_idx ON items (quantity, name, id)", True),
        ("CREATE INDEX some_idx ON items (name, id) WHERE quantity > 0", True),
    ],
)
async def test_names_are_indexed_unless_the_migration_did_it(
    empty_database_url: str, there: str | None, made: bool
) -> None:
    async with psql(empty_database_url) as connection:
        await connection.execute("CREATE TABLE items (id text, name text, quantity int)")
        if there:
            await connection.execute(there)
    assert await index_names(empty_database_url) is made
    assert await index_names(empty_database_url) is False
