"""Reads from a real streaming replica: only what it vouches for, the primary for all else, and nobody waits for it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager

import httpx
import pytest

from db.read_pool import ReadPool
from db.replica import Replica
from db.url import DatabaseUrl
from db.wal import Consistency, format_lsn, parse_lsn
from tests.db.servers import free_port
from tests.migration.support import migrate, until
from tests.mutations.support import CREATE, Client, serving
from tests.service.replicas import Pair, caught_up, make_shop, paused, primary_server, replica_of, shop_on
from tests.support import psql

TOTAL = '{ item(id: "mug") { totalQuantity } }'
HOURS = 3_600_000


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with primary_server() as primary, replica_of(primary) as replica:
        yield Pair(primary, replica)


@pytest.fixture
async def urls(pair: Pair) -> AsyncIterator[tuple[str, str]]:
    async with shop_on(pair) as urls:
        yield urls


@asynccontextmanager
async def served(url: str, replica_url: str, max_lag_ms: int = HOURS) -> AsyncIterator[Client]:
    """The service in front of both."""
    settings = {"DATABASE_REPLICA_URL": replica_url, "replica_max_lag_ms": max_lag_ms}
    async with serving(url, **settings) as client:
        yield client


async def post(client: Client, query: str, lsn: str | None = None, **variables: object) -> httpx.Response:
    headers = {"authorization": f"Bearer {client.token}", **({"stockshift-lsn": lsn} if lsn else {})}
    return await client.http.post("/graphql", json={"query": query, "variables": variables}, headers=headers)


async def total(client: Client, lsn: str | None = None) -> tuple[int, str]:
    """What an item's total is, and which server said so."""
    response = await post(client, TOTAL, lsn)
    return response.json()["data"]["item"]["totalQuantity"], response.headers["stockshift-read"]


async def create(client: Client) -> str:
    """Makes a batch of five mugs; the position after it."""
    response = await post(client, CREATE, input={"itemId": "mug", "quantity": 5})
    assert response.json()["data"]["createBatch"]["errors"] == []
    return response.headers["stockshift-lsn"]


async def from_the_replica(client: Client, lsn: str | None = None) -> int:
    """The total when the replica says it, which must come to be."""
    answers: list[tuple[int, str]] = []

    async def answered() -> bool:
        answers.append(await total(client, lsn))
        return answers[-1][1] == "replica"

    await until(answered, "the replica answers")
    return answers[-1][0]


async def test_a_client_sees_what_it_wrote_and_the_replica_answers_everybody_else(urls: tuple[str, str]) -> None:
    url, replica_url = urls
    await migrate(url)
    async with served(url, replica_url) as client, psql(url) as primary:
        async with psql(replica_url) as replica:
            await caught_up(primary, replica)
        assert await from_the_replica(client) == 10
        async with paused(replica_url):
            lsn = await create(client)
            for _ in range(3):
                assert await total(client) == (10, "replica")
                assert await total(client, lsn) == (15, "primary")
        assert await from_the_replica(client, lsn) == 15


async def test_a_replica_that_is_too_far_behind_is_not_asked_until_it_has_caught_up(urls: tuple[str, str]) -> None:
    url, replica_url = urls
    await migrate(url)
    async with served(url, replica_url, max_lag_ms=100) as client:
        await from_the_replica(client)
        async with paused(replica_url):
            await create(client)

            async def refused() -> bool:
                return await total(client) == (15, "primary")

            await until(refused, "the replica is too far behind")
            for _ in range(5):
                assert await total(client) == (15, "primary")
        assert await from_the_replica(client) == 15


async def test_a_change_of_shape_that_the_replica_has_not_replayed_is_answered_by_the_primary(
    urls: tuple[str, str],
) -> None:
    url, replica_url = urls
    query = '{ item(id: "mug") { usingBatchSystem } }'
    async with served(url, replica_url) as client:
        await from_the_replica(client)
        async with paused(replica_url):
            await migrate(url)
            assert await total(client) == (10, "replica"), "not yet known to have changed"
            lsn = await create(client)
            for _ in range(3):
                response = await post(client, query, lsn)
                assert response.json() == {"data": {"item": {"usingBatchSystem": True}}}
                assert await total(client) == (15, "primary"), "the replica has no such tables"
        assert await from_the_replica(client, lsn) == 15


async def test_reads_of_the_replica_are_compared_and_what_differs_is_kept_on_the_primary(urls: tuple[str, str]) -> None:
    url, replica_url = urls
    await migrate(url)
    settings = {"DATABASE_REPLICA_URL": replica_url, "replica_max_lag_ms": HOURS, "compare_reads": 1.0}
    async with serving(url, **settings) as client, psql(url) as primary, psql(replica_url) as replica:
        await create(client)
        await caught_up(primary, replica)
        assert await from_the_replica(client) == 15

        async def written() -> bool:
            return bool(await primary.fetchval("SELECT count(*) FROM stockshift.read_difference"))

        await until(written, "it is written by itself")
        found = await primary.fetchrow("SELECT * FROM stockshift.read_difference")
        assert found
        assert (found["item_id"], found["cause"], found["batch_quantity"]) == ("mug", "RECEIVED_SINCE", 15)


async def test_a_read_source_that_the_replica_has_not_replayed_is_answered_by_the_primary(
    urls: tuple[str, str],
) -> None:
    url, replica_url = urls
    await migrate(url)
    async with served(url, replica_url) as client, psql(url) as primary, psql(replica_url) as replica:
        await caught_up(primary, replica)
        await create(client)
        await caught_up(primary, replica)
        assert await from_the_replica(client) == 15
        async with paused(replica_url):
            switch = "mutation { setReadSource(source: LEGACY) { errors { message } } }"
            lsn = (await post(client, switch)).headers["stockshift-lsn"]
            assert await total(client, lsn) == (10, "primary")
            assert await total(client) == (10, "primary"), "the replica's read source is another"
        assert await from_the_replica(client) == 10


async def test_a_replica_that_is_stopped_is_missed_by_nobody_and_found_again(pair: Pair, urls: tuple[str, str]) -> None:
    async with served(*urls) as client:
        await from_the_replica(client)
        assert (await client.http.get("/readyz")).json() == {"status": "ok", "replica": "up"}
        pair.replica.stop()
        try:
            assert await total(client) == (10, "primary")

            async def missed() -> bool:
                return bool((await client.http.get("/readyz")).json() == {"status": "ok", "replica": "away"})

            await until(missed, "it is known to be away")
        finally:
            pair.replica.start()
        assert await from_the_replica(client) == 10
        pair.replica.stop()
        try:
            await until(missed, "it is known to be away although nobody read")
        finally:
            pair.replica.start()


async def test_a_replica_that_was_never_there_is_no_reason_not_to_serve(urls: tuple[str, str]) -> None:
    async with served(urls[0], f"postgresql://postgres@127.0.0.1:{free_port()}/shop") as client:
        for _ in range(3):
            assert await total(client) == (10, "primary")
        assert (await client.http.get("/readyz")).json() == {"status": "ok", "replica": "away"}


async def test_a_replica_that_was_promoted_is_not_taken_for_fresh(pair: Pair, urls: tuple[str, str]) -> None:
    url, _ = urls
    with replica_of(pair.primary) as other:
        promoted = other.url(DatabaseUrl.parse(url).database)
        async with served(url, promoted) as client, psql(promoted) as connection, psql(url) as primary:
            await from_the_replica(client)
            assert await connection.fetchval("SELECT pg_promote(true)")
            await connection.execute("UPDATE items SET \"quantityInStock\" = 1 WHERE id = 'mug'")
            await primary.execute("UPDATE items SET \"quantityInStock\" = 12 WHERE id = 'mug'")
            for _ in range(3):
                assert await total(client) == (12, "primary")


async def test_while_the_primary_is_away_reads_go_on_and_nothing_else() -> None:
    with ExitStack() as running:
        primary = running.enter_context(primary_server())
        with replica_of(primary) as replica:
            urls = await make_shop(Pair(primary, replica), "shop")
            async with served(*urls, max_lag_ms=1) as client:
                await from_the_replica(client)
                lsn = format_lsn(2**63)
                running.close()
                for _ in range(20):
                    assert await total(client) == (10, "replica")
                assert (await post(client, TOTAL, lsn)).status_code == 503
                refused = await post(client, CREATE, input={"itemId": "mug", "quantity": 5})
                assert refused.status_code == 503
                assert (await client.http.get("/readyz")).status_code == 503


async def test_a_position_that_is_none_is_refused(urls: tuple[str, str]) -> None:
    async with served(*urls) as client:
        for wrong in ("1", "0/", "x/1", "0/123456789", "0/1;", "0/1 0/2"):
            response = await post(client, TOTAL, wrong)
            assert response.status_code == 400
            assert "such as 16/B374D848" in response.json()["errors"][0]["message"]


async def test_nothing_is_said_of_servers_where_there_is_no_replica(urls: tuple[str, str]) -> None:
    async with serving(urls[0]) as client:
        response = await post(client, TOTAL, "0/1")
        assert response.json() == {"data": {"item": {"totalQuantity": 10}}}
        assert "stockshift-read" not in response.headers
        assert (await client.http.get("/readyz")).json() == {"status": "ok"}


def test_positions_are_read_and_written_as_postgresql_does() -> None:
    assert parse_lsn("16/B374D848") == 0x16_B374D848
    assert format_lsn(0x16_B374D848) == "16/B374D848"
    assert format_lsn(0) == "0/0"


@asynccontextmanager
async def watched(url: str, replica_url: str) -> AsyncIterator[Replica]:
    """A replica that is up and required to have nothing but what a read asks for."""
    primary, other = DatabaseUrl.parse(url), DatabaseUrl.parse(replica_url)
    pools = [ReadPool(one, application_name="test reads", size=1) for one in (other, primary, other)]
    replica = Replica(*pools, max_lag_ms=HOURS)
    await replica.note_primary()
    async with replica.watched():

        async def up() -> bool:
            return replica.is_up

        await until(up, "the replica is up")
        yield replica


SLOW = """SELECT true, (SELECT "quantityInStock" FROM items WHERE id = 'mug')
    FROM (SELECT pg_advisory_lock(7), pg_advisory_unlock(7)) AS waited"""


async def test_an_answer_from_before_the_write_is_not_given_although_the_replica_has_it_by_now(
    urls: tuple[str, str],
) -> None:
    """The statement's snapshot is taken, then the write is replayed, then the statement reads the position."""
    url, replica_url = urls
    async with psql(url) as primary, psql(replica_url) as other, watched(url, replica_url) as replica:
        await caught_up(primary, other)
        await other.execute("SELECT pg_advisory_lock(7)")
        async with paused(replica_url):
            await primary.execute("UPDATE items SET \"quantityInStock\" = 77 WHERE id = 'mug'")
            position = await primary.fetchval("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")
            reading = asyncio.create_task(replica.row(SLOW, (), Consistency(at_least=position)))

            async def waits() -> bool:
                return bool(await other.fetch("SELECT FROM pg_stat_activity WHERE wait_event = 'advisory'"))

            await until(waits, "the read waits, with its snapshot taken")
        await caught_up(primary, other)
        await other.execute("SELECT pg_advisory_unlock(7)")
        assert await reading == (True, 77)


async def test_a_read_that_stands_in_the_way_of_the_replica_is_left_to_the_primary(urls: tuple[str, str]) -> None:
    """What it reads is dropped on the primary, and the replica does not wait for readers."""
    url, replica_url = urls
    async with psql(url) as primary, psql(replica_url) as other, watched(url, replica_url) as replica:
        await caught_up(primary, other)
        await other.execute("SELECT pg_advisory_lock(7)")
        reading = asyncio.create_task(replica.row(SLOW, (), Consistency()))

        async def waits() -> bool:
            return bool(await other.fetch("SELECT FROM pg_stat_activity WHERE wait_event = 'advisory'"))

        await until(waits, "the read waits, with its table locked")
        await primary.execute("ALTER TABLE items ADD shelf text")
        assert await reading is None
        await other.execute("SELECT pg_advisory_unlock(7)")
        assert await replica.row("SELECT true", (), Consistency()) == (True,)
