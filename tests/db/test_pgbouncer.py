"""Behind PgBouncer in transaction mode, where the next transaction may be on another connection."""

import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from db.engine import connecting
from db.url import DatabaseUrl
from tests.db.engines import Engines, ask, failure
from tests.db.servers import pgbouncer


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
