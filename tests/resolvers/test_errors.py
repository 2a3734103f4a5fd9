"""What a client is told when something goes wrong: a code each, and of a fault nothing but an id that the log has."""

import asyncio
import logging
import re
from collections.abc import Sequence
from typing import Any

import pytest

from db.read_pool import Row
from tests.graphql_client import client_of, web_on
from tests.migration.support import until
from tests.mutations.support import serving
from tests.support import Connection, psql

NEWER = "application/graphql-response+json"


async def break_items(url: str) -> None:
    """Makes a fault of every question about items' times."""
    async with psql(url) as connection:
        await connection.execute('ALTER TABLE items ALTER "updatedAt" TYPE text')


async def test_a_fault_is_masked_and_logged_whole_under_the_id_that_the_client_gets(
    stock_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    await break_items(stock_url)
    async with web_on(stock_url) as web:
        response = await web.post('{ item(id: "mug") { updatedAt } }')
    (error,) = response.json()["errors"]
    assert error["extensions"]["code"] == "FAULT"
    assert re.fullmatch(
        r"something failed on our side; quote [0-9a-f]{32} to whoever runs this service", error["message"]
    )
    for secret in ("timestamp", "SELECT", "items", "sqlalchemy", "asyncpg"):
        assert secret not in response.text
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.name == "stockshift.graphql"
    assert error["extensions"]["id"] in error["message"]
    assert error["extensions"]["id"] in record.getMessage()
    assert record.exc_info is not None
    assert "operator does not exist" in str(record.exc_info[1])


async def test_a_fault_in_one_operation_leaves_the_next_unharmed(stock_url: str) -> None:
    await break_items(stock_url)
    async with client_of(stock_url) as client:
        answer = await client.answer('{ item(id: "mug") { updatedAt } }')
        assert answer.codes == ["FAULT"]
        assert await client.ask('{ item(id: "mug") { name } }') == {"item": {"name": "mug"}}


async def test_a_root_field_that_is_refused_leaves_the_others_answered(stock_url: str) -> None:
    async with client_of(stock_url) as client:
        answer = await client.answer(
            '{ item(id: "mug") { name } pot: item(id: "pot") { batches(first: -1) { totalCount } } locations { id } }'
        )
    assert answer.data["item"] == {"name": "mug"}
    assert answer.data["pot"] is None
    assert len(answer.data["locations"]) == 4
    assert answer.codes == ["BAD_REQUEST"]
    assert answer.errors[0]["path"] == ["pot"]


async def test_a_query_that_takes_too_long_is_a_timeout(stock_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A lock keeps it waiting for longer than it may take."""
    async with web_on(stock_url, statement_timeout_ms=100) as web, psql(stock_url) as connection:
        await web.post("{ items { totalCount } }")
        async with connection.transaction():
            await connection.execute("LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
            response = await web.post("{ items { totalCount } locations { id } }")
        after = await web.post("{ items { totalCount } }")
    assert {error["extensions"]["code"] for error in response.json()["errors"]} == {"TIMEOUT"}
    assert "took too long" in response.json()["errors"][0]["message"]
    assert after.json() == {"data": {"items": {"totalCount": 4}}}
    assert not caplog.records


async def end_waiting(connection: Connection) -> None:
    """Ends the connection that waits for a lock on items."""
    killer = "SELECT pg_terminate_backend(pid, 10000) FROM pg_locks WHERE NOT granted AND relation = 'items'::regclass"

    async def ended() -> bool:
        return bool(await connection.fetch(killer))

    await until(ended, "the query waits for the lock")


async def test_a_read_whose_connection_is_lost_is_made_once_more_on_a_new_one(stock_url: str) -> None:
    async with client_of(stock_url) as client, psql(stock_url) as connection:
        await client.ask("{ items { totalCount } }")
        async with connection.transaction():
            await connection.execute("LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
            asking = asyncio.create_task(client.ask("{ items { totalCount } }"))
            await end_waiting(connection)
        assert await asking == {"items": {"totalCount": 4}}


async def test_a_connection_that_is_lost_twice_is_unavailable_and_the_next_operation_has_another(
    stock_url: str,
) -> None:
    async with web_on(stock_url) as web, psql(stock_url) as connection:
        for _ in range(2):  # without a plan, then with
            async with connection.transaction():
                await connection.execute("LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
                asking = asyncio.create_task(web.post("{ items { totalCount } }"))
                await end_waiting(connection)
                await end_waiting(connection)
                response = await asking
            assert response.status_code == 503
            assert response.headers["retry-after"] == "1"
            assert [error["extensions"] for error in response.json()["errors"]] == [{"code": "UNAVAILABLE"}]
            assert "data" not in response.json()
            assert (await web.post("{ items { totalCount } }")).json() == {"data": {"items": {"totalCount": 4}}}


READ = "{ items { totalCount } }"
WRITE = 'mutation { createBatch(input: { itemId: "mug", quantity: 1 }) { errors { code } } }'


@pytest.mark.parametrize("query", [READ, WRITE])
async def test_who_waits_too_long_for_a_connection_is_turned_away_with_503(batches_url: str, query: str) -> None:
    """The only connection waits for a lock meanwhile."""
    async with web_on(f"{batches_url}&pool_timeout=1", pool_size=1) as web, psql(batches_url) as connection:
        for _ in range(2):  # without a plan, then with
            async with connection.transaction():
                await connection.execute("LOCK TABLE items, stock_batches IN ACCESS EXCLUSIVE MODE")
                first = asyncio.create_task(web.post(query))

                async def waits() -> bool:
                    return bool(await connection.fetch("SELECT FROM pg_locks WHERE NOT granted"))

                await until(waits, "the first request waits for the lock")
                second = await web.post(query, accept=NEWER)
            assert second.status_code == 503
            assert second.headers["retry-after"] == "1"
            (error,) = second.json()["errors"]
            assert error["extensions"] == {"code": "UNAVAILABLE"}
            assert error["message"].endswith("no connection to the database came free in time; try again in a moment")
            assert set(second.json()) == {"errors"}
            assert (await first).status_code == 200


async def test_a_plan_that_fails_is_not_asked_for_again(stock_url: str) -> None:
    async with serving(stock_url, statement_timeout_ms=100) as client, psql(stock_url) as connection:
        await client.data(READ)
        reads, asked = client.runtime.reader.reads, []
        row = reads.row

        async def noted(sql: str, arguments: Sequence[Any] = ()) -> Row:
            asked.append(sql)
            return await row(sql, arguments)

        reads.row = noted  # type: ignore[method-assign]  # to count
        async with connection.transaction():
            await connection.execute("LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
            failed = await client.ask(READ)
    assert [(error["path"], error["extensions"]["code"]) for error in failed["errors"]] == [(["items"], "TIMEOUT")]
    assert len(asked) == 1


async def test_a_database_that_is_away_is_unavailable_and_is_not_named(
    stock_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    away = stock_url.replace("stockshift_test_", "stockshift_gone_")
    async with web_on(away) as web:
        response = await web.post('{ items { totalCount } item(id: "mug") { id } migration { items } __typename }')
        mutation = await web.post('mutation { createBatch(input: { itemId: "a", quantity: 1 }) { errors { code } } }')
        assert response.status_code == mutation.status_code == 503
        assert (await web.http.get("/healthz")).status_code == 200
        assert (await web.http.get("/readyz")).status_code == 503
    for errors in (response.json()["errors"], mutation.json()["errors"]):
        assert {error["extensions"]["code"] for error in errors} == {"UNAVAILABLE"}
        assert {error["message"] for error in errors} == {"the database cannot be reached now; try again in a moment"}
    assert "stockshift_gone_" not in response.text
    assert "there is no such database" in caplog.text


async def test_a_mutation_that_fails_has_changed_nothing(batches_url: str) -> None:
    """The batch is made, and then the payload cannot be read back."""
    mutation = 'mutation { createBatch(input: { itemId: "mug", quantity: 1 }) { item { updatedAt } errors { code } } }'
    await break_items(batches_url)
    async with client_of(batches_url) as client, psql(batches_url) as connection:
        before = await connection.fetch("SELECT * FROM stock_batches ORDER BY id")
        assert (await client.answer(mutation)).codes == ["FAULT"]
        assert await connection.fetch("SELECT * FROM stock_batches ORDER BY id") == before


WRONG: list[tuple[dict[str, Any], int]] = [
    ({"query": ""}, 400),
    ({}, 400),
    ({"query": "{"}, 400),
    ({"query": "type A { b: Int }"}, 400),
    ({"query": "{ nothing }"}, 400),
    ({"query": "query A { __typename }", "operationName": "B"}, 400),
    ({"query": "query A { __typename } query B { __typename }"}, 400),
    ({"query": "query($a: Int!) { items(first: $a) { totalCount } }"}, 400),
    ({"query": "query($a: Int!) { items(first: $a) { totalCount } }", "variables": {"a": "x"}}, 400),
    ({"query": "{ items(first: -1) { totalCount } }"}, 200),
    ({"query": "{" * 900 + "}" * 900}, 400),
    ({"query": "{ items { edges { node {" + " name" * 2_000 + " } } } }"}, 400),
]


async def test_every_error_has_a_code_and_nothing_executed_is_400_in_the_newer_media_type(stock_url: str) -> None:
    async with web_on(stock_url) as web:
        for body, status in WRONG:
            response = await web.raw(body, accept=NEWER)
            assert response.status_code == status, body
            assert ("data" in response.json()) == (status == 200)
            assert {error["extensions"]["code"] for error in response.json()["errors"]} == {"BAD_REQUEST"}
