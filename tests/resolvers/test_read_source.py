"""R4: the read source is in the database, so every process changes over with its next statement."""

from typing import Any

from resolvers.viewer import Role, Viewer
from tests.graphql_client import Client, client_of
from tests.resolvers.shop import ONE_ITEM, insert_batch
from tests.support import psql

SET = """
    mutation($source: ReadSource!) {
        setReadSource(source: $source) { migration { readSource } errors { code message } }
    }
"""


async def answers(client: Client) -> tuple[Any, ...]:
    mug = (await client.ask(ONE_ITEM, id="mug"))["item"]
    vase = (await client.ask(ONE_ITEM, id="vase"))["item"]
    source = (await client.ask("{ migration { readSource } }"))["migration"]["readSource"]
    return source, mug["totalQuantity"], mug["usingBatchSystem"], mug["statuses"], vase["totalQuantity"]


AUTO = ("AUTO", 22, True, ["ToOrder", "Arrived"], 0)
LEGACY = ("LEGACY", 10, False, ["Arrived"], 8)


async def test_two_processes_change_over_together_at_once_and_back(batches_url: str) -> None:
    async with client_of(batches_url) as one, client_of(batches_url) as other:
        assert (await answers(one), await answers(other)) == (AUTO, AUTO)
        for source, expected in (("LEGACY", LEGACY), ("LEGACY", LEGACY), ("AUTO", AUTO)):
            payload = (await one.ask(SET, source=source))["setReadSource"]
            assert payload == {"migration": {"readSource": source}, "errors": []}
            assert (await answers(other), await answers(one)) == (expected, expected)


async def test_under_legacy_the_batches_are_still_there_to_look_at(batches_url: str) -> None:
    async with client_of(batches_url) as client, psql(batches_url) as connection:
        await connection.execute("UPDATE stockshift.setting SET read_source = 'LEGACY'")
        mug = (await client.ask(ONE_ITEM, id="mug"))["item"]
        assert (mug["totalQuantity"], mug["batches"]["totalCount"]) == (10, 3)
        await insert_batch(connection, "mug-4", "mug", quantity=1)
        assert (await client.ask(ONE_ITEM, id="mug"))["item"]["totalQuantity"] == 10
        assert (await client.ask('{ batch(id: "mug-4") { quantity } }'))["batch"]["quantity"] == 1


async def test_without_a_stored_setting_the_source_is_auto(batches_url: str) -> None:
    async with client_of(batches_url) as client, psql(batches_url) as connection:
        await connection.execute("UPDATE stockshift.setting SET read_source = 'LEGACY'")
        assert await answers(client) == LEGACY
        await connection.execute("DELETE FROM stockshift.setting")
        assert await answers(client) == AUTO
        payload = (await client.ask(SET, source="LEGACY"))["setReadSource"]
        assert payload == {"migration": {"readSource": "LEGACY"}, "errors": []}


async def test_before_the_migration_there_is_nothing_to_choose(stock_url: str) -> None:
    async with client_of(stock_url) as client:
        payload = (await client.ask(SET, source="LEGACY"))["setReadSource"]
    assert payload["migration"] is None
    assert [error["code"] for error in payload["errors"]] == ["MIGRATION_NOT_STARTED"]


async def test_who_sees_one_company_does_not_choose_for_all(batches_url: str) -> None:
    async with client_of(batches_url) as client:
        answer = await client.answer(SET, Viewer("a", Role.ADMIN, "acme"), source="LEGACY")
        assert await answers(client) == AUTO
    assert answer.codes == ["FORBIDDEN"]
