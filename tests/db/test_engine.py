"""What a database URL says is true of the connections that an engine makes."""

import asyncio
import socket
import threading
import time
from types import SimpleNamespace
from urllib.parse import quote

import pytest
import sqlalchemy.pool.base
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

import db.engine
from db.engine import connecting, create_engine
from db.url import DatabaseUrl, InvalidDatabaseUrl
from tests.db.engines import Engines, ask, backend, failure, value, wait_for
from tests.support import psql


async def test_the_server_sees_the_name_of_the_service_and_not_the_shops(database_url: str, engines: Engines) -> None:
    engine = engines(database_url, "application_name=shop", application_name="stockshift: test")
    name = "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()"
    assert await ask(engine, name) == "stockshift: test"
    assert DatabaseUrl.parse(f"{database_url}&application_name=shop").application_name == "shop"


async def test_a_session_is_in_utc_and_compiles_no_queries(database_url: str, engines: Engines) -> None:
    engine = engines(database_url)
    assert await ask(engine, "SHOW timezone") == "UTC"
    assert await ask(engine, "SHOW jit") == "off"


async def test_options_set_the_session_except_its_timezone(database_url: str, engines: Engines) -> None:
    options = quote(r"-c statement_timeout=5s -c DateStyle=SQL,\ DMY -c TimeZone=America/Paramaribo -cjit=on")
    engine = engines(database_url, f"options={options}")
    shown = [await ask(engine, f"SHOW {name}") for name in ("statement_timeout", "datestyle", "timezone", "jit")]
    assert shown == ["5s", "SQL, DMY", "UTC", "on"]


@pytest.mark.parametrize(
    ("query", "asked_ms", "shown"),
    [
        ("", None, "0"),
        ("", 1500, "1500ms"),
        ("socket_timeout=7", None, "7s"),
        ("socket_timeout=0", None, "0"),
        ("socket_timeout=7&options=-c%20statement_timeout%3D3s", None, "3s"),
        ("socket_timeout=7", 0, "0"),
        ("options=-c%20statement_timeout%3D3s", 9000, "9s"),
    ],
)
async def test_the_callers_statement_timeout_stands_above_options_above_socket_timeout(
    database_url: str, engines: Engines, query: str, asked_ms: int | None, shown: str
) -> None:
    engine = engines(database_url, query, statement_timeout_ms=asked_ms)
    assert await ask(engine, "SHOW statement_timeout") == shown


@pytest.mark.parametrize(
    ("query", "pool_size", "most"),
    [
        ("connection_limit=3", None, 3),
        ("connection_limit=3", 2, 2),
        ("connection_limit=3", 5, 3),
        ("", None, 10),
        ("", 12, 12),
    ],
)
async def test_an_engine_opens_no_more_connections_than_its_limit(
    database_url: str, engines: Engines, query: str, pool_size: int | None, most: int
) -> None:
    engine = engines(database_url, query, application_name="counted", pool_size=pool_size)

    async def work() -> None:
        async with connecting(engine) as connection:
            await connection.execute(text("SELECT pg_sleep(0.01)"))

    await asyncio.gather(*(work() for _ in range(most + 5)))
    async with psql(database_url) as admin:
        count = await admin.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'counted'")
    assert count == most


async def test_a_full_pool_is_waited_for_no_longer_than_pool_timeout(database_url: str, engines: Engines) -> None:
    engine = engines(database_url, "connection_limit=1&pool_timeout=1")
    async with connecting(engine):
        assert "every connection of the pool is in use; try again, or raise connection_limit" in await failure(engine)


async def test_a_pool_timeout_of_zero_waits_until_a_connection_is_free(database_url: str, engines: Engines) -> None:
    engine = engines(database_url, "connection_limit=1&pool_timeout=0")
    assert engine.pool.timeout() is None  # type: ignore[attr-defined]  # of QueuePool, which AsyncEngine does not tell
    async with connecting(engine) as connection:
        waiting = asyncio.ensure_future(backend(engine))
        first = await value(connection, "SELECT pg_backend_pid()")
        assert not waiting.done()
    assert await waiting == first


async def test_a_connection_that_the_server_closed_is_replaced(database_url: str, engines: Engines) -> None:
    engine = engines(database_url)
    first = await backend(engine)
    async with psql(database_url) as admin:
        await admin.execute("SELECT pg_terminate_backend($1)", int(first))
    await wait_for(lambda: gone(database_url, int(first)))
    assert await backend(engine) != first


async def test_a_connection_that_died_unnoticed_is_found_by_asking_it(
    database_url: str, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engines(database_url)
    first = await backend(engine)
    monkeypatch.setattr(db.engine, "PING_AFTER_SECONDS", 0)

    def terminate() -> None:
        asyncio.run(end(database_url, int(first)))

    # While the thread is waited for, the event loop cannot read that the connection was closed.
    thread = threading.Thread(target=terminate)
    thread.start()
    thread.join()
    assert await backend(engine) != first


async def gone(database_url: str, pid: int) -> bool:
    async with psql(database_url) as admin:
        return bool(await admin.fetchval("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)", pid))


async def end(database_url: str, pid: int) -> None:
    async with psql(database_url) as admin:
        await admin.execute("SELECT pg_terminate_backend($1)", pid)
    await wait_for(lambda: gone(database_url, pid))


async def test_a_connection_is_used_again(database_url: str, engines: Engines) -> None:
    engine = engines(database_url)
    assert await backend(engine) == await backend(engine)


async def test_single_use_connections_are_replaced_after_each_use(database_url: str, engines: Engines) -> None:
    engine = engines(database_url, "single_use_connections=true")
    assert await backend(engine) != await backend(engine)


async def test_a_connection_beyond_its_lifetime_is_replaced(
    database_url: str, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engines(database_url, "max_connection_lifetime=100")
    first = await backend(engine)
    assert await backend(engine) == first
    monkeypatch.setattr(sqlalchemy.pool.base, "time", SimpleNamespace(time=lambda: time.time() + 101))
    assert await backend(engine) != first


async def test_a_connection_that_idled_too_long_is_replaced(
    database_url: str, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engines(database_url, "max_idle_connection_lifetime=100")
    first = await backend(engine)
    monkeypatch.setattr(db.engine, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + 90))
    assert await backend(engine) == first
    monkeypatch.setattr(db.engine, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + 200))
    assert await backend(engine) != first


@pytest.mark.parametrize(("query", "kept"), [("", True), ("statement_cache_size=0", False)])
async def test_statements_are_prepared_under_a_name_unless_the_cache_is_off(
    database_url: str, engines: Engines, query: str, kept: bool
) -> None:
    engine = engines(database_url, query)
    async with connecting(engine) as connection:
        await connection.execute(text("SELECT 1"))
        assert (await value(connection, "SELECT count(*) FROM pg_prepared_statements") != "0") == kept


async def test_json_is_read_and_written_as_values(database_url: str, engines: Engines) -> None:
    engine = engines(database_url)
    async with connecting(engine) as connection:
        answer = await connection.scalar(text("""SELECT '{"a": [1, 2.5, null, "é"]}'::jsonb"""))
    assert answer == {"a": [1, 2.5, None, "é"]}


async def test_an_error_of_the_body_is_left_as_it_is(database_url: str, engines: Engines) -> None:
    engine = engines(database_url)
    with pytest.raises(DBAPIError):
        await ask(engine, "SELECT 1/0")
    with pytest.raises(ConnectionResetError):
        async with connecting(engine):
            raise ConnectionResetError


@pytest.mark.parametrize("attributes", ["any", "read-write", "primary", "prefer-standby"])
async def test_a_primary_has_the_attributes_of_a_primary(database_url: str, engines: Engines, attributes: str) -> None:
    assert await ask(engines(database_url, f"target_session_attrs={attributes}"), "SELECT 1") == "1"


async def test_a_primary_is_not_taken_for_a_standby(database_url: str, engines: Engines) -> None:
    assert "target attribute requirement" in await failure(engines(database_url, "target_session_attrs=standby"))


async def test_a_missing_database_is_named(database_url: str, engines: Engines) -> None:
    url = DatabaseUrl.parse(database_url).with_database("no such shop")
    engine = create_engine(url, application_name="test")
    message = await failure(engine)
    assert 'database "no such shop"' in message
    assert url.hosts[0][0] in message
    assert "there is no such database" in message


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_refused_connection_is_told(engines: Engines, host: str, unused_tcp_port: int) -> None:
    message = await failure(engines(f"postgresql://u:SECRET@{host}:{unused_tcp_port}/shop"))
    assert f"{host}:{unused_tcp_port}: the connection was refused" in message
    assert "SECRET" not in message


async def test_a_host_that_refuses_at_each_of_its_addresses_is_told(
    engines: Engines, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = [
        (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (f"127.0.0.{number}", unused_tcp_port))
        for number in (1, 2)
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: addresses)
    assert "the connection was refused" in await failure(engines(f"postgresql://u@two:{unused_tcp_port}/shop"))


async def test_an_unknown_host_is_told(engines: Engines) -> None:
    assert "db.invalid:5432: the host is unknown" in await failure(engines("postgresql://u@db.invalid/shop"))


async def test_a_socket_that_is_not_there_is_told(engines: Engines) -> None:
    assert "/nowhere:5432: there is no server's socket" in await failure(engines("postgresql:///shop?host=/nowhere"))


async def test_a_server_that_never_answers_is_given_up(engines: Engines) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        engine = engines(f"postgresql://u:SECRET@127.0.0.1:{port}/shop?connect_timeout=1")
        message = await failure(engine)
    assert "no answer in time" in message
    assert "SECRET" not in message


async def test_the_next_host_is_tried(database_url: str, engines: Engines, unused_tcp_port: int) -> None:
    url = DatabaseUrl.parse(database_url)
    two = DatabaseUrl(
        (("127.0.0.1", unused_tcp_port), *url.hosts), url.user, url.password, url.database, url.parameters
    )
    engine = create_engine(two, application_name="test")
    assert await ask(engine, "SELECT 1") == "1"
    await engine.dispose()


async def test_a_setting_that_the_server_refuses_is_told_in_its_words(database_url: str, engines: Engines) -> None:
    assert "no_such_setting" in await failure(engines(database_url, "options=-c%20no_such_setting%3D1"))


@pytest.mark.parametrize("name", ["sslrootcert", "passfile"])
def test_a_file_that_is_not_there_is_named(name: str) -> None:
    url = DatabaseUrl.parse(f"postgresql://h/shop?{name}=/nowhere/x")
    with pytest.raises(InvalidDatabaseUrl, match=f"{name}=/nowhere/x"):
        create_engine(url, application_name="test")


async def test_no_password_is_in_what_an_engine_shows(database_url: str, engines: Engines) -> None:
    engine = engines("postgresql://u:SECRET@h/shop?options=-c%20app.key%3DSECRET")
    assert "SECRET" not in repr(engine) + str(engine.url) + repr(engine.pool)
