"""Plans behind PgBouncer in transaction mode: right at once while the database changes shape under a running reader."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from db.url import DatabaseUrl
from tests.db.servers import pgbouncer
from tests.graphql_client import Web, web_on
from tests.migration.support import migrate
from tests.resolvers.shop import ITEM
from tests.support import psql

QUERIES = [
    f'{{ item(id: "mug") {{ {ITEM} minStockLevel }} }}',
    'query($id: ID! = "pot") { item(id: $id) { id name totalQuantity statuses } }',
    "{ items(first: 3, filter: { statuses: [Arrived] }) { totalCount edges { cursor node { id name } } } }",
    "{ stockSummary { items totalQuantity quantityByLocation { location { name } quantity } } locations { id } }",
]
SERVER_CONNECTIONS = 3


@pytest.fixture
def pooled_url(stock_url: str) -> Iterator[str]:
    database = DatabaseUrl.parse(stock_url)
    with pgbouncer(database, connections=SERVER_CONNECTIONS) as port:
        yield f"postgresql://anyone@127.0.0.1:{port}/{database.database}?pgbouncer=true"


async def answers(web: Web, times: int = 1) -> list[Any]:
    """Of all queries at once, each as often as said; every answer to the same query is the same."""
    responses = await asyncio.gather(*[web.post(query) for query in QUERIES * times])
    bodies = [response.json() for response in responses]
    for number, body in enumerate(bodies):
        assert "errors" not in body, body
        assert body == bodies[number % len(QUERIES)]
    return bodies[: len(QUERIES)]


CHANGES = [
    'ALTER TABLE items ADD shelf text, ALTER "quantityInStock" TYPE bigint, ALTER name TYPE varchar(300)',
    'ALTER TABLE items DROP "minStockLevel"',
    'ALTER TABLE items RENAME shelf TO "minStockLevel"; ALTER TABLE items ALTER "minStockLevel" TYPE int USING 7',
    """ALTER TYPE "Status" ADD VALUE 'Lent'""",
    """UPDATE items SET status = 'Lent' WHERE id = 'pot'""",
    """ALTER TYPE "Status" RENAME VALUE 'Lent' TO 'Borrowed'""",
    "DROP SCHEMA stockshift CASCADE; DROP TABLE stock_batches",
]


async def test_every_change_of_shape_is_seen_at_once_by_readers_that_share_server_connections(
    stock_url: str, pooled_url: str
) -> None:
    """As a process answers that has just started and stands before the database itself."""
    async with web_on(pooled_url, pool_size=8) as web, psql(stock_url) as connection:
        before = await answers(web, times=6)
        await migrate(stock_url)
        migrated = await answers(web, times=6)
        assert before[0]["data"]["item"]["usingBatchSystem"] is False
        assert migrated[0]["data"]["item"]["usingBatchSystem"] is True
        for change in CHANGES:
            await connection.execute(change)
            async with web_on(stock_url) as fresh:
                assert await answers(web, times=3) == await answers(fresh), change


async def test_a_plan_that_takes_too_long_through_the_pooler_is_a_timeout(stock_url: str, pooled_url: str) -> None:
    async with web_on(pooled_url, statement_timeout_ms=300) as web, psql(stock_url) as connection:
        for _ in range(2):
            assert (await web.post(QUERIES[0])).status_code == 200
        async with connection.transaction():
            await connection.execute("LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
            slow = (await web.post(QUERIES[0])).json()
        assert [error["extensions"]["code"] for error in slow["errors"]] == ["TIMEOUT"]
        assert "errors" not in (await web.post(QUERIES[0])).json()
