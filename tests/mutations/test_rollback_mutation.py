"""`rollbackMigration` and `undoRollback`: what is answered, and what is refused."""

from typing import Any

import pytest

from resolvers import going_back
from tests.graphql_client import Client, client_of
from tests.migration.support import migrate
from tests.migration.test_rollback import name_of
from tests.online.test_locks import reading
from tests.resolvers.conftest import stock_template, stock_url
from tests.support import psql

__all__ = ["stock_template", "stock_url"]

ITEM = '{ item(id: "mug") { totalQuantity usingBatchSystem } }'


async def done(client: Client, mutation: str, confirm: str) -> Any:
    payload = "{ migration { phase } errors { field code message } }"
    document = f"mutation ($name: String!) {{ {mutation}(confirm: $name) {payload} }}"
    return (await client.ask(document, name=confirm))[mutation]


async def test_a_rollback_and_its_undo_are_answered_with_the_phase(stock_url: str) -> None:
    await migrate(stock_url)
    name = await name_of(stock_url)
    async with client_of(stock_url) as client:
        before = await client.ask(ITEM)
        assert await done(client, "rollbackMigration", name) == {"migration": {"phase": "ROLLED_BACK"}, "errors": []}
        assert (await client.ask(ITEM))["item"] == {"totalQuantity": 10, "usingBatchSystem": False}
        assert await done(client, "undoRollback", name) == {"migration": {"phase": "DUAL_RUN"}, "errors": []}
        assert await client.ask(ITEM) == before
    async with psql(stock_url) as connection:
        acts = await connection.fetch("SELECT action, actor FROM stockshift.audit ORDER BY id DESC LIMIT 2")
    assert [tuple(act) for act in acts] == [
        ("ROLLBACK_UNDONE", "admin@example.com"),
        ("ROLLED_BACK", "admin@example.com"),
    ]


async def test_what_is_refused_is_an_error_of_the_payload(stock_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = await name_of(stock_url)
    async with client_of(stock_url) as client:

        async def refused(mutation: str, confirm: str) -> tuple[str, list[str] | None]:
            answer = await done(client, mutation, confirm)
            assert answer["migration"] is None
            (error,) = answer["errors"]
            return error["code"], error["field"]

        assert await refused("rollbackMigration", name) == ("MIGRATION_NOT_STARTED", None)
        await migrate(stock_url)
        assert await refused("rollbackMigration", "shop") == ("CONFIRMATION_MISMATCH", ["confirm"])
        assert await refused("undoRollback", name) == ("CONFLICT", None)
        monkeypatch.setattr(going_back, "PATIENCE_SECONDS", 0.1)
        async with reading(stock_url):
            assert await refused("rollbackMigration", name) == ("CONFLICT", None)
        await done(client, "rollbackMigration", name)
        assert await refused("rollbackMigration", name) == ("MIGRATION_NOT_STARTED", None)
