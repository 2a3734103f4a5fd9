"""Behind PgBouncer in transaction mode, where the next transaction may be on another connection."""

import asyncio
import subprocess
from collections.abc import Iterator

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from db.embedded import binaries
from db.engine import connecting
from db.url import DatabaseUrl
from tests.db.engines import Engines, ReadPools, ask, failure, wait_for
from tests.db.servers import pgbouncer
from tests.mutations.proxy import proxy_to
from tests.support import psql


@pytest.fixture
def pooled_url(database_url: str) -> Iterator[str]:
    with pgbouncer(DatabaseUrl.parse(database_url)) as port:
        yield f"postgresql://anyone@127.0.0.1:{port}/{DatabaseUrl.parse(database_url).database}?pgbouncer=true"


async def test_many_clients_share_a_connection_without_taking_each_others_statements(
    pooled_url: str, engines: Engines
) -> None:
    pair = [engines(pooled_url, "connection_limit=5") for _ in range(2)]

    async def work(number: int) -> set[str]:
        seen = set()
        for turn in range(5):
            async with connecting(pair[number % 2]) as connection:
                query = text(f"SELECT {number} * :factor, pg_backend_pid()")
                product, pid = (await connection.execute(query, {"factor": turn})).one()
                assert product == number * turn
                rows = await connection.execute(text(f"SELECT {number} FROM generate_series(1, 100)"))
                assert set(rows.scalars()) == {number}
                await connection.commit()
                seen.add(str(pid))
        return seen

    backends = await asyncio.gather(*(work(number) for number in range(10)))
    assert len(set.union(*backends)) == 1
    assert await ask(pair[0], "SELECT count(*) FROM pg_prepared_statements") == "0"


async def test_many_clients_share_a_connection_in_autocommit(pooled_url: str, engines: Engines) -> None:
    engine = engines(pooled_url).execution_options(isolation_level="AUTOCOMMIT")

    async def work(number: int) -> None:
        for turn in range(5):
            assert await ask(engine, f"SELECT {number} + {turn}") == str(number + turn)

    await asyncio.gather(*(work(number) for number in range(10)))


async def test_rows_are_streamed(pooled_url: str, engines: Engines) -> None:
    async with connecting(engines(pooled_url)) as connection:
        rows = await connection.stream(text("SELECT generate_series(1, 500)"))
        assert [row async for row in rows.scalars()] == list(range(1, 501))


async def test_the_session_has_its_name_and_is_in_utc(pooled_url: str, engines: Engines) -> None:
    one, other = (engines(pooled_url, application_name=name) for name in ("one", "other"))
    for _ in range(2):
        assert await ask(one, "SHOW application_name") == "one"
        assert await ask(other, "SHOW application_name") == "other"
        assert await ask(one, "SHOW timezone") == "UTC"


async def test_settings_that_pgbouncer_keeps_are_set(pooled_url: str, engines: Engines) -> None:
    engine = engines(pooled_url, "options=-c%20DateStyle%3DSQL")
    assert (await ask(engine, "SHOW datestyle")).startswith("SQL")


async def test_the_statement_timeout_holds_in_each_transaction_and_reaches_nobody_else(
    pooled_url: str, engines: Engines
) -> None:
    limited = engines(pooled_url, statement_timeout_ms=1500)
    for _ in range(2):
        async with connecting(limited) as connection:
            assert await connection.scalar(text("SHOW statement_timeout")) == "1500ms"
            await connection.commit()
    assert await ask(engines(pooled_url), "SHOW statement_timeout") == "0"
    with pytest.raises(DBAPIError, match="statement timeout"):
        await ask(engines(pooled_url, statement_timeout_ms=50), "SELECT pg_sleep(30)")


async def test_a_pooler_that_was_not_announced_is_told(pooled_url: str, engines: Engines) -> None:
    message = await failure(engines(pooled_url.replace("pgbouncer=true", "pgbouncer=false")))
    assert "add pgbouncer=true" in message


async def test_a_server_without_tls_is_told(pooled_url: str, engines: Engines) -> None:
    assert "the server does not speak TLS" in await failure(engines(pooled_url, "sslmode=require"))


async def test_a_read_is_one_round_trip_from_its_second_time_on_and_begins_no_transaction(
    pooled_url: str, read_pools: ReadPools
) -> None:
    async with proxy_to(pooled_url) as proxy:
        pool = read_pools(f"{proxy.url}?pgbouncer=true", size=1, statement_timeout_ms=30_000)
        await pool.row("SELECT $1::int", (0,))
        before, turns = transactions_and_queries(pooled_url), proxy.turns
        for number in range(7):
            assert (await pool.row("SELECT $1::int", (number,)))[0] == number
        after = transactions_and_queries(pooled_url)
        assert proxy.turns - turns == 7
        assert [late - early for early, late in zip(before, after, strict=True)] == [7, 7]
        await pool.close()


async def test_reads_whose_server_connections_are_swapped_do_not_take_each_others_statements(
    database_url: str, read_pools: ReadPools
) -> None:
    database = DatabaseUrl.parse(database_url)
    with pgbouncer(database, connections=3) as port:
        url = f"postgresql://anyone@127.0.0.1:{port}/{database.database}?pgbouncer=true"
        pools = [read_pools(url, size=4) for _ in range(2)]

        async def read(number: int) -> set[int]:
            seen = set()
            for turn in range(10):
                kind = "int" if (number + turn) % 2 else "text"
                value = turn if kind == "int" else str(turn)
                statement = f"SELECT $1::{kind}, pg_backend_pid() /* {number % 5} */"
                row = await pools[number % 2].row(statement, (value,))
                assert row[0] == value
                seen.add(row[1])
            return seen

        backends = await asyncio.gather(*(read(number) for number in range(16)))
        assert len(set.union(*backends)) == 3
        assert all(len(seen) > 1 for seen in backends)
        assert (await pools[0].row("SELECT count(*) FROM pg_prepared_statements"))[0] == 0


async def test_a_read_that_takes_too_long_is_cancelled_on_the_server(
    pooled_url: str, database_url: str, read_pools: ReadPools
) -> None:
    pool = read_pools(pooled_url, size=1, statement_timeout_ms=300)
    with pytest.raises(asyncpg.QueryCanceledError, match="statement timeout"):
        await pool.row("SELECT pg_sleep(600)")
    async with psql(database_url) as connection:

        async def cancelled() -> bool:
            sleeping = "SELECT FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)' AND state = 'active'"
            return not await connection.fetch(sleeping)

        await wait_for(cancelled)
    assert (await read_pools(pooled_url).row("SELECT 1"))[0] == 1


async def test_types_that_change_are_followed_at_once(
    pooled_url: str, database_url: str, read_pools: ReadPools
) -> None:
    pool = read_pools(pooled_url, size=1)
    read = "SELECT note::text FROM t WHERE c = $1::int"
    async with psql(database_url) as connection:
        await connection.execute("CREATE TABLE t AS SELECT 1 AS c, 'a'::text AS note")
        assert (await pool.row(read, (1,)))[0] == "a"
        await connection.execute("ALTER TABLE t ALTER note TYPE varchar(9), ALTER c TYPE numeric, ADD more int")
        assert (await pool.row(read, (1,)))[0] == "a"


def transactions_and_queries(pooled_url: str) -> tuple[int, int]:
    """How many PgBouncer has passed on so far."""
    parsed = DatabaseUrl.parse(pooled_url)
    ((host, port),) = parsed.hosts
    stats = [str(binaries() / "psql"), "-XAtF,", "-h", host, "-p", str(port), "-U", "anyone", "pgbouncer"]
    told = subprocess.run([*stats, "-c", "SHOW STATS_TOTALS"], capture_output=True, text=True, check=True).stdout
    (line,) = [line.split(",") for line in told.splitlines() if line.startswith(f"{parsed.database},")]
    return int(line[1]), int(line[2])
