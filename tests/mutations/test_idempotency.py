"""The same key twice makes one batch and answers it twice, whatever happened in between."""

import asyncio

import pytest

from resolvers.viewer import Role
from tests.migration.support import locks_left, waits_for_lock
from tests.mutations.proxy import proxy_to
from tests.mutations.support import CREATE, Client, serving, stock, stopping_at_harbour
from tests.support import psql

ORDER = {
    "itemId": "mug",
    "quantity": 5,
    "status": "Ordered",
    "costPerUnitUSD": 3.1,
    "freightCostUSD": 12,
    "locationId": "acme-harbour",
    "assignedUserId": "acme-user",
    "orderDate": "2026-07-01T00:30:00+02:00",
    "orderNumber": "PO-7",
    "notes": "räksmörgås",
    "idempotencyKey": "double-click",
}


async def test_the_same_request_again_answers_the_same_batch(client: Client, uncopied_url: str) -> None:
    first = await client.made(**ORDER)
    assert await client.made(**ORDER) == first
    async with psql(uncopied_url) as connection:
        assert await stock(connection, "mug") == (15, 2, 1)


@pytest.mark.parametrize(
    "same",
    [
        {"orderDate": "2026-06-30T22:30:00.0000Z"},
        {"freightCostUSD": 12.0},
        {"expectedArrival": None, "arrivedDate": None},
    ],
)
async def test_the_same_request_in_other_words_is_the_same(
    client: Client, uncopied_url: str, same: dict[str, object]
) -> None:
    first = await client.made(**ORDER)
    assert await client.made(**{**ORDER, **same}) == first


async def test_a_default_that_is_left_out_null_or_written_is_the_same_request(
    client: Client, uncopied_url: str
) -> None:
    bare = {"itemId": "mug", "quantity": 5, "idempotencyKey": "k"}
    first = await client.made(**bare)
    assert await client.made(**bare, freightCostUSD=0, status="ToOrder") == first
    assert await client.made(**bare, freightCostUSD=None, status=None, costPerUnitUSD=None, notes=None) == first


@pytest.mark.parametrize(
    "other",
    [
        {"quantity": 6},
        {"itemId": "pot"},
        {"status": "Arrived"},
        {"costPerUnitUSD": None},
        {"freightCostUSD": 12.5},
        {"locationId": None},
        {"assignedUserId": None},
        {"orderDate": "2026-07-01T00:30:00Z"},
        {"expectedArrival": "2026-07-01T00:30:00Z"},
        {"arrivedDate": "2026-07-01T00:30:00Z"},
        {"orderNumber": "PO-8"},
        {"notes": ""},
    ],
    ids=lambda other: next(iter(other)),
)
async def test_the_same_key_for_something_else_is_a_conflict(
    client: Client, uncopied_url: str, other: dict[str, object]
) -> None:
    await client.made(**ORDER)
    error = await client.refused(**{**ORDER, **other})
    assert (error["field"], error["code"]) == ("input.idempotencyKey", "CONFLICT")
    assert "'double-click'" in error["message"]
    assert "use a new key" in error["message"]
    async with psql(uncopied_url) as connection:
        assert await stock(connection, "mug") == (15, 2, 1)
        assert await stock(connection, "pot") == (0, 0, 0)


async def test_twenty_of_the_same_at_once_make_one(client: Client, uncopied_url: str) -> None:
    payloads = await asyncio.gather(*[client.made(**ORDER) for _ in range(20)])
    assert all(payload == payloads[0] for payload in payloads)
    async with psql(uncopied_url) as connection:
        assert await stock(connection, "mug") == (15, 2, 1)


async def test_one_key_for_two_items_at_once_makes_one_batch_and_no_deadlock(client: Client, uncopied_url: str) -> None:
    both = [dict(ORDER, itemId=item) for item in ("mug", "pot")]
    payloads = await asyncio.gather(*[client.create(**request) for _ in range(10) for request in both])
    codes = [error["code"] for payload in payloads for error in payload["errors"]]
    assert codes == ["CONFLICT"] * 10
    async with psql(uncopied_url) as connection:
        found = [await stock(connection, item) for item in ("mug", "pot")]
    assert sorted(found) == [(0, 0, 0), (15, 2, 1)]


async def test_whoever_waits_for_a_key_gets_it_when_the_first_is_refused(client: Client, uncopied_url: str) -> None:
    """The first has the key, and fails at a location that goes while it inserts."""
    async with psql(uncopied_url) as watcher:
        async with stopping_at_harbour(uncopied_url) as closing:
            first = asyncio.create_task(client.refused(**ORDER))
            await waits_for_lock(watcher)
            second = asyncio.create_task(client.made(**{**ORDER, "itemId": "empty", "locationId": None}))
            await waits_for_lock(watcher, 2)
            await closing.execute('UPDATE items SET "locationId" = NULL WHERE "locationId" = \'acme-harbour\'')
            await closing.execute("DELETE FROM locations WHERE id = 'acme-harbour'")
        assert (await second)["item"]["totalQuantity"] == 5
        assert (await first)["code"] in ("NOT_FOUND", "CONFLICT")
        assert await stock(watcher, "mug") == (0, 0, 0)


async def test_another_companys_key_is_another_key(client: Client, uncopied_url: str) -> None:
    acme, globex = client.of(Role.STAFF, "acme"), client.of(Role.STAFF, "globex")
    await acme.made(itemId="mug", quantity=5, idempotencyKey="k")
    payload = await globex.made(itemId="globex", quantity=1, idempotencyKey="k")
    assert payload["item"]["totalQuantity"] == 8
    error = await globex.refused(itemId="mug", quantity=5, idempotencyKey="k")
    assert (error["field"], error["code"]) == ("input.itemId", "NOT_FOUND")


async def test_a_key_whose_batch_was_deleted_is_not_used_again(client: Client, uncopied_url: str) -> None:
    made = await client.made(**ORDER)
    async with psql(uncopied_url) as connection:
        await connection.execute("DELETE FROM stock_batches WHERE id = $1", made["batch"]["id"])
        error = await client.refused(**ORDER)
        assert (error["field"], error["code"]) == ("input.idempotencyKey", "CONFLICT")
        assert "was deleted since; use a new key" in error["message"]
        assert await stock(connection, "mug") == (10, 1, 1)


async def test_what_was_made_is_answered_though_it_could_not_be_made_any_more(
    client: Client, uncopied_url: str
) -> None:
    made = await client.made(**ORDER)
    async with psql(uncopied_url) as connection:
        await connection.execute("DELETE FROM locations WHERE id = 'acme-harbour'")
    again = await client.made(**ORDER)
    assert again["batch"]["id"] == made["batch"]["id"]
    assert again["batch"]["location"] is None


async def test_a_refused_request_leaves_its_key_free(client: Client, uncopied_url: str) -> None:
    await client.refused(**{**ORDER, "locationId": "nowhere"})
    await client.made(**ORDER)


async def test_a_connection_that_is_lost_before_the_commit_leaves_nothing(client: Client, uncopied_url: str) -> None:
    async with psql(uncopied_url) as admin:
        async with stopping_at_harbour(uncopied_url):
            making = asyncio.create_task(client.ask(CREATE, input=ORDER))
            await waits_for_lock(admin)
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'stockshift serve'"
            )
            answer = await making
        assert answer["errors"][0]["extensions"]["code"] == "UNAVAILABLE"
        assert await stock(admin, "mug") == (0, 0, 0)
        assert await locks_left(admin) == 0
        assert (await client.made(**ORDER))["item"]["totalQuantity"] == 15
        assert await stock(admin, "mug") == (15, 2, 1)


async def test_a_connection_that_is_lost_while_it_commits_is_asked_again(uncopied_url: str) -> None:
    """The server committed, and nobody heard."""
    async with psql(uncopied_url) as admin, proxy_to(uncopied_url) as proxy, serving(proxy.url) as client:
        await client.data('{ item(id: "mug") { id } }')
        proxy.words = b"COMMIT;\0"
        answer = await client.ask(CREATE, input=ORDER)
        assert answer["errors"][0]["extensions"]["code"] == "UNAVAILABLE"
        assert proxy.hung_up.is_set()
        assert await stock(admin, "mug") == (15, 2, 1)
        assert (await client.made(**ORDER))["item"]["totalQuantity"] == 15
        assert await stock(admin, "mug") == (15, 2, 1)
