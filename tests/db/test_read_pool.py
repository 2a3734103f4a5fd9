"""Reads straight through the driver: bounded, each on a connection that works, and never asked more often than told."""

import asyncio

import asyncpg
import pytest

from db.connection_failed import ConnectionFailed, PoolFull
from db.read_pool import ReadPool
from tests.db.engines import ReadPools, wait_for
from tests.db.servers import free_port
from tests.support import Connection, psql

PID = "SELECT pg_backend_pid()"
SESSIONS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'test reads' AND datname = current_database()"
LOCK = "SELECT pg_advisory_lock(1)"
WAIT = "SELECT $1::int FROM (SELECT pg_advisory_lock_shared(1), pg_advisory_unlock_shared(1)) AS waited"


async def pid(pool: ReadPool) -> int:
    return int((await pool.row(PID))[0])


async def waiting(connection: Connection, count: int) -> None:
    """Until so many reads wait for the advisory lock."""

    async def as_many() -> bool:
        found = await connection.fetchval(f"SELECT count(*) FROM ({SESSIONS} AND wait_event = 'advisory') AS found")
        return bool(found == count)

    await wait_for(as_many)


async def ended(connection: Connection) -> None:
    """Until no read is under way on the server."""

    async def none() -> bool:
        return not await connection.fetch(f"{SESSIONS} AND state = 'active'")

    await wait_for(none)


async def test_rows_have_their_values_and_statements_their_arguments(database_url: str, read_pools: ReadPools) -> None:
    pool = read_pools(database_url)
    assert tuple(await pool.row("SELECT $1::int + 1, $2::text, NULL", (41, "é"))) == (42, "é", None)


async def test_reads_at_once_have_a_connection_each_up_to_the_limit(database_url: str, read_pools: ReadPools) -> None:
    pool = read_pools(database_url, size=3)
    async with psql(database_url) as connection:
        await connection.execute(LOCK)
        reads = [asyncio.create_task(pool.row(WAIT, (number,))) for number in range(12)]
        await waiting(connection, 3)
        await connection.execute("SELECT pg_advisory_unlock(1)")
        assert [row[0] for row in await asyncio.gather(*reads)] == list(range(12))
        assert len(await connection.fetch(SESSIONS)) == 3


async def test_there_are_never_more_connections_than_the_url_allows(database_url: str, read_pools: ReadPools) -> None:
    pool = read_pools(database_url, "connection_limit=1", size=5)
    assert len(set(await asyncio.gather(*[pid(pool) for _ in range(5)]))) == 1


async def test_who_waits_too_long_for_a_connection_is_told_what_to_do(database_url: str, read_pools: ReadPools) -> None:
    pool = read_pools(database_url, "pool_timeout=1", size=1)
    async with psql(database_url) as connection:
        await connection.execute(LOCK)
        first = asyncio.create_task(pool.row(WAIT, (1,)))
        await waiting(connection, 1)
        with pytest.raises(PoolFull, match="every connection of the pool is in use; try again, or raise"):
            await pool.row(PID)
        await connection.execute("SELECT pg_advisory_unlock(1)")
        assert (await first)[0] == 1
    assert await pid(pool)


async def test_a_server_that_is_not_there_is_told_as_by_an_engine(read_pools: ReadPools) -> None:
    pool = read_pools(f"postgresql://someone@127.0.0.1:{free_port()}/shop", size=1)
    for _ in range(3):  # a failure takes no place in the pool
        with pytest.raises(ConnectionFailed, match="the connection was refused; see that the server runs"):
            await pool.row("SELECT 1")


async def test_connections_that_were_lost_while_idle_are_not_noticed_by_who_reads(
    database_url: str, read_pools: ReadPools
) -> None:
    pool = read_pools(database_url, size=3)
    async with psql(database_url) as connection:
        await connection.execute(LOCK)
        reads = [asyncio.create_task(pool.row(WAIT, (number,))) for number in range(3)]
        await waiting(connection, 3)
        await connection.execute("SELECT pg_advisory_unlock(1)")
        await asyncio.gather(*reads)
        before = {row[0] for row in await connection.fetch(SESSIONS)}
        await connection.execute(f"SELECT pg_terminate_backend(pid, 10000) FROM ({SESSIONS}) AS found")
        after = set(await asyncio.gather(*[pid(pool) for _ in range(6)]))
    assert len(before) == 3
    assert not before & after


async def test_a_read_that_lost_its_connection_twice_fails_and_leaves_the_pool_whole(
    database_url: str, read_pools: ReadPools
) -> None:
    pool = read_pools(database_url, size=1)
    killer = f"SELECT pg_terminate_backend(pid, 10000) FROM ({SESSIONS}) AS found"
    async with psql(database_url) as connection:
        await connection.execute(LOCK)
        read = asyncio.create_task(pool.row(WAIT, (1,)))
        for _ in range(2):
            await waiting(connection, 1)
            await connection.execute(killer)
        with pytest.raises(ConnectionFailed, match=r"was lost twice in a read: .*terminating connection"):
            await read
    assert await pid(pool)


async def test_what_fails_for_another_reason_is_asked_once(database_url: str, read_pools: ReadPools) -> None:
    pool = read_pools(database_url)
    async with psql(database_url) as connection:
        await connection.execute("CREATE SEQUENCE asked")
        with pytest.raises(asyncpg.DivisionByZeroError):
            await pool.row("SELECT nextval('asked') / $1::int", (0,))
        assert await connection.fetchval("SELECT last_value FROM asked") == 1
        assert len(await connection.fetch(SESSIONS)) == 1, "and its connection is kept"


async def test_a_read_that_is_given_up_ends_on_the_server_and_its_place_is_free(
    database_url: str, read_pools: ReadPools
) -> None:
    """And its connection is not used again: the request to cancel might reach the next statement."""
    pool = read_pools(database_url, size=1)
    async with psql(database_url) as connection:
        before = await pid(pool)
        await connection.execute(LOCK)
        read = asyncio.create_task(pool.row(WAIT, (1,)))
        await waiting(connection, 1)
        read.cancel()
        with pytest.raises(asyncio.CancelledError):
            await read
        assert await pid(pool) != before
        await ended(connection)


async def test_a_statement_that_takes_too_long_is_ended_by_the_server(database_url: str, read_pools: ReadPools) -> None:
    pool = read_pools(database_url, statement_timeout_ms=50)
    before = await pid(pool)
    with pytest.raises(asyncpg.QueryCanceledError, match="statement timeout"):
        await pool.row("SELECT pg_sleep(60)")
    assert await pid(pool) == before


async def test_sessions_are_as_the_url_says_and_plans_are_made_once(database_url: str, read_pools: ReadPools) -> None:
    pool, other = read_pools(database_url), read_pools(database_url, "options=-c%20plan_cache_mode%3Dauto")
    assert (await pool.row("SHOW plan_cache_mode"))[0] == "force_generic_plan"
    assert (await pool.row("SHOW timezone"))[0] == "UTC"
    assert (await other.row("SHOW plan_cache_mode"))[0] == "auto"
    for number in range(3):
        await pool.row("SELECT $1::int", (number,))
    plans = "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement = 'SELECT $1::int'"
    assert tuple(await pool.row(plans)) == (3, 0)


async def test_a_long_statement_is_prepared_once_too(database_url: str, read_pools: ReadPools) -> None:
    pool = read_pools(database_url)
    for _ in range(3):
        await pool.row(f"SELECT 1 -- {'long ' * 10_000}")
    plans = "SELECT generic_plans FROM pg_prepared_statements WHERE statement LIKE 'SELECT 1 --%'"
    assert tuple(await pool.row(plans)) == (3,)


@pytest.mark.parametrize(
    "query", ["single_use_connections=true", "max_connection_lifetime=1", "max_idle_connection_lifetime=1"]
)
async def test_connections_are_replaced_as_the_url_says(database_url: str, read_pools: ReadPools, query: str) -> None:
    pool = read_pools(database_url, query, size=1)
    async with psql(database_url) as connection:
        before = await pid(pool)

        async def replaced() -> bool:
            return await pid(pool) != before

        if "idle" in query:
            await connection.execute("SELECT pg_sleep(1)")
        await wait_for(replaced)
        assert len(await connection.fetch(SESSIONS)) <= 1


async def test_a_type_that_changes_under_a_prepared_statement_is_followed(
    database_url: str, read_pools: ReadPools
) -> None:
    pool = read_pools(database_url, size=1)
    async with psql(database_url) as connection:
        await connection.execute("CREATE TABLE t AS SELECT 1 AS c")
        assert (await pool.row("SELECT c FROM t"))[0] == 1
        await connection.execute("ALTER TABLE t ALTER c TYPE text")
        assert (await pool.row("SELECT c FROM t"))[0] == "1"


async def test_closing_ends_every_connection(database_url: str, read_pools: ReadPools) -> None:
    pool = read_pools(database_url)
    async with psql(database_url) as connection:
        await connection.execute(LOCK)
        read = asyncio.create_task(pool.row(WAIT, (1,)))
        await waiting(connection, 1)
        await pid(pool)
        await pool.close()
        await connection.execute("SELECT pg_advisory_unlock(1)")
        assert (await read)[0] == 1, "what was under way is answered"

        async def gone() -> bool:
            return not await connection.fetch(SESSIONS)

        await wait_for(gone)
