"""`cutOverItems`, `takeBackItems` and `setWriteBack`: which items are meant, what is done, what a client is told."""

from collections.abc import Mapping
from typing import Any

import pytest

from resolvers.viewer import Role
from tests.migration.cutting_over import cut_over_items, legacy
from tests.mutations.support import Client, serving
from tests.resolvers.shop import insert_batch
from tests.support import insert_item, psql

PAYLOAD = """
    done items { id usingBatchSystem totalQuantity } refused { itemId code reason }
    migration { phase cutOver } errors { field message code }
"""


async def act(client: Client, name: str, **given: Any) -> dict[str, Any]:
    document = f"mutation ($input: CutOverItemsInput!) {{ {name}(input: $input) {{ {PAYLOAD} }} }}"
    payload: dict[str, Any] = (await client.data(document, input=given))[name]
    return payload


async def cut_over(client: Client, **given: Any) -> dict[str, Any]:
    return await act(client, "cutOverItems", **given)


def told(payload: Mapping[str, Any]) -> list[tuple[list[str] | None, str]]:
    return [(error["field"], error["code"]) for error in payload["errors"]]


async def test_items_are_cut_over_and_taken_back(client: Client, uncopied_url: str) -> None:
    done = await cut_over(client, itemIds=["copied", "mug"])
    assert done == {
        "done": 2,
        "items": [
            {"id": "copied", "usingBatchSystem": True, "totalQuantity": 10},
            {"id": "mug", "usingBatchSystem": True, "totalQuantity": 10},
        ],
        "refused": [],
        "migration": {"phase": "CUT_OVER", "cutOver": 2},
        "errors": [],
    }
    back = await act(client, "takeBackItems", itemIds=["mug"])
    assert (back["done"], back["migration"], back["errors"]) == (1, {"phase": "DUAL_RUN", "cutOver": 1}, [])
    async with psql(uncopied_url) as connection:
        assert await cut_over_items(connection) == ["copied"]
        actors = await connection.fetch(
            "SELECT DISTINCT actor FROM stockshift.audit WHERE action LIKE '%CUT%' OR action LIKE 'TAKEN%'"
        )
    assert [row[0] for row in actors] == ["admin@test"]


async def test_what_is_refused_is_named_and_the_rest_is_done(client: Client, uncopied_url: str) -> None:
    async with psql(uncopied_url) as connection:
        await connection.execute("""UPDATE stock_batches SET quantity = 3 WHERE "itemId" = 'copied'""")
        await connection.execute("""UPDATE items SET "costPerUnitUSD" = 'NaN' WHERE id = 'pot'""")
        await insert_item(connection, "hidden")
        await insert_batch(connection, "hidden-1", "hidden", quantity=99)
    payload = await cut_over(client, itemIds=["copied", "hidden", "mug", "nowhere"])
    assert payload["done"] == 1
    assert [item["id"] for item in payload["items"]] == ["copied", "hidden", "mug"]
    assert [(each["itemId"], each["code"]) for each in payload["refused"]] == [
        ("copied", "NOT_VERIFIED"),
        ("hidden", "NOT_VERIFIED"),
        ("nowhere", "NOT_FOUND"),
    ]
    assert told(payload) == [(["input", "itemIds"], "NOT_VERIFIED"), (["input", "itemIds"], "NOT_FOUND")]
    assert payload["errors"][0]["message"].startswith("item 'copied': its opening batch and its legacy columns differ")
    assert payload["errors"][0]["message"].endswith("; 1 more in `refused`")


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"all": True}, ["copied", "empty", "globex", "mug", "pot"]),
        ({"filter": {"companyId": "globex"}}, ["globex"]),
        ({"filter": {"statuses": ["Ordered"]}}, ["pot"]),
        ({"filter": {"locationIds": ["acme-main"], "search": "M"}}, ["empty", "mug"]),
        ({"filter": {"usingBatchSystem": True}}, ["copied"]),
        ({"filter": {"statuses": []}}, []),
        ({"filter": {"lowStock": True}}, ["mug"]),
    ],
)
async def test_items_are_chosen_by_what_they_answer(
    client: Client, uncopied_url: str, given: dict[str, Any], found: list[str]
) -> None:
    async with psql(uncopied_url) as connection:
        await connection.execute("""UPDATE items SET "minStockLevel" = 10 WHERE id = 'mug'""")
        payload = await cut_over(client, **given)
        assert (payload["done"], payload["items"], payload["errors"]) == (len(found), None, [])
        assert await cut_over_items(connection) == found


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({}, ["input"]),
        ({"itemIds": ["mug"], "all": True}, ["input"]),
        ({"all": False}, ["input"]),
        ({"itemIds": []}, ["input", "itemIds"]),
        ({"filter": {}}, ["input", "filter"]),
        ({"filter": {"search": None}}, ["input", "filter"]),
    ],
)
async def test_which_items_must_be_said_in_one_way(client: Client, given: dict[str, Any], field: list[str]) -> None:
    payload = await cut_over(client, **given)
    assert payload["done"] is payload["migration"] is payload["refused"] is None
    assert told(payload) == [(field, "INVALID")]


async def test_an_admin_of_one_company_acts_on_its_items_alone(client: Client, uncopied_url: str) -> None:
    acme = client.of(Role.ADMIN, "acme")
    payload = await cut_over(acme, itemIds=["globex"])
    assert (told(payload), payload["items"]) == ([(["input", "itemIds"], "NOT_FOUND")], [])
    assert (await cut_over(acme, all=True))["done"] == 4
    async with psql(uncopied_url) as connection:
        assert await cut_over_items(connection) == ["copied", "empty", "mug", "pot"]
        await cut_over(client, all=True)
        assert (await act(acme, "takeBackItems", all=True))["done"] == 4
        assert await cut_over_items(connection) == ["globex"]
    document = "mutation { setWriteBack(on: true) { errors { code } } }"
    answer = await acme.ask(document)
    assert [error["extensions"]["code"] for error in answer["errors"]] == ["FORBIDDEN"]


async def test_drift_stands_against_a_take_back(client: Client, uncopied_url: str) -> None:
    await cut_over(client, itemIds=["mug"])
    async with psql(uncopied_url) as connection:
        await connection.execute("""UPDATE items SET "quantityInStock" = 3 WHERE id = 'mug'""")
    payload = await act(client, "takeBackItems", all=True)
    assert (payload["done"], told(payload)) == (0, [(None, "CONFLICT")])
    assert "--keep-batches" in payload["errors"][0]["message"]


async def test_write_back_is_switched(client: Client, uncopied_url: str) -> None:
    document = "mutation ($on: Boolean!) { setWriteBack(on: $on) { migration { writeBack } errors { code } } }"
    await cut_over(client, itemIds=["mug"])
    await client.made(itemId="mug", quantity=5)
    async with psql(uncopied_url) as connection:
        for on, quantity in ((True, 15), (False, 15)):
            payload = (await client.data(document, on=on))["setWriteBack"]
            assert payload == {"migration": {"writeBack": on}, "errors": []}
            assert (await legacy(connection, "mug"))[0] == quantity
        await client.made(itemId="mug", quantity=5)
        assert (await legacy(connection, "mug"))[0] == 15


async def test_before_the_migration_a_client_is_told_so(shop_url: str) -> None:
    async with serving(shop_url) as client:
        payload = await cut_over(client, all=True)
        switched = await client.data("mutation { setWriteBack(on: true) { errors { code } } }")
    assert told(payload) == [(None, "MIGRATION_NOT_STARTED")]
    assert switched["setWriteBack"]["errors"] == [{"code": "MIGRATION_NOT_STARTED"}]
