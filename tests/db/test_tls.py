"""sslmode and its neighbours, against a server that really speaks TLS."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from db.engine import connecting
from tests.db.engines import Engines, ask, backend, failure
from tests.db.servers import KEY_PASSWORD, PASSWORD, Authority, TlsServer, tls_server

ENCRYPTED = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


@pytest.fixture(scope="module")
def server() -> Iterator[TlsServer]:
    with tls_server() as running:
        yield running


@pytest.fixture(autouse=True)
def no_certificates_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("PGSSLMODE", "PGSSLROOTCERT", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def strangers_root(tmp_path: Path) -> Path:
    file = tmp_path / "stranger.crt"
    file.write_bytes(Authority().certificate)
    return file


def address(server: TlsServer, user: str = "shop", host: str = "localhost", query: str = "") -> str:
    return f"postgresql://{user}:{quote(PASSWORD, safe='')}@{host}:{server.port}/postgres?{query}"


@pytest.mark.parametrize(
    ("mode", "user", "encrypted"),
    [
        ("", "shop", "True"),
        ("disable", "shop", "False"),
        ("allow", "shop", "False"),
        ("allow", "tls", "True"),
        ("prefer", "shop", "True"),
        ("prefer", "plain", "False"),
        ("require", "shop", "True"),
    ],
)
async def test_sslmode_encrypts_as_libpq_does(
    engines: Engines, server: TlsServer, mode: str, user: str, encrypted: str
) -> None:
    engine = engines(address(server, user, query=f"sslmode={mode}"))
    assert await ask(engine, ENCRYPTED) == encrypted


@pytest.mark.parametrize(("mode", "user"), [("require", "plain"), ("disable", "tls")])
async def test_sslmode_is_not_weakened_to_get_in(engines: Engines, server: TlsServer, mode: str, user: str) -> None:
    assert "pg_hba.conf" in await failure(engines(address(server, user, query=f"sslmode={mode}")))


@pytest.mark.parametrize(
    ("query", "host"),
    [
        ("sslmode=require", "localhost"),
        ("sslmode=require", "127.0.0.1"),
        ("sslmode=verify-ca", "127.0.0.1"),
        ("sslmode=verify-full", "localhost"),
        ("sslmode=require&channel_binding=require", "127.0.0.1"),
        ("sslaccept=strict", "localhost"),
        ("sslmode=require&ssl_min_protocol_version=TLSv1.3", "localhost"),
        ("sslmode=require&uselibpqcompat=true&gssencmode=prefer&sslsni=1", "localhost"),
    ],
)
async def test_a_server_is_trusted_that_the_given_authority_signed_for(
    engines: Engines, server: TlsServer, query: str, host: str
) -> None:
    engine = engines(address(server, host=host, query=f"{query}&sslrootcert={server.root}"))
    assert await ask(engine, ENCRYPTED) == "True"


@pytest.mark.parametrize("query", ["sslmode=verify-full", "sslaccept=strict"])
async def test_a_certificate_for_another_host_is_refused(engines: Engines, server: TlsServer, query: str) -> None:
    engine = engines(address(server, host="127.0.0.1", query=f"{query}&sslrootcert={server.root}"))
    assert "certificate is not trusted" in await failure(engine)


@pytest.mark.parametrize("query", ["sslmode=require", "sslmode=verify-ca", "channel_binding=require"])
async def test_a_certificate_of_another_authority_is_refused(
    engines: Engines, server: TlsServer, strangers_root: Path, query: str
) -> None:
    message = await failure(engines(address(server, query=f"{query}&sslrootcert={strangers_root}")))
    assert "certificate is not trusted" in message
    assert "sslrootcert" in message


TRUSTING_THE_SYSTEM = [
    "sslmode=require&channel_binding=require",
    "channel_binding=require",
    "sslmode=verify-ca",
    "sslmode=verify-full",
    "sslmode=verify-full&sslrootcert=system",
    "sslrootcert=system",
    "sslaccept=strict",
]


@pytest.mark.parametrize("query", TRUSTING_THE_SYSTEM)
async def test_without_an_authority_of_its_own_a_verified_server_is_one_that_the_machine_trusts(
    engines: Engines, server: TlsServer, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "certificate is not trusted" in await failure(engines(address(server, query=query)))
    monkeypatch.setenv("SSL_CERT_FILE", str(server.root))
    assert await ask(engines(address(server, query=query)), ENCRYPTED) == "True"
    assert "certificate is not trusted" in await failure(engines(address(server, host="127.0.0.1", query=query)))


@pytest.mark.parametrize("trust", ["sslmode=require", "sslmode=verify-full"])
async def test_a_client_certificate_is_shown(
    engines: Engines, server: TlsServer, trust: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(server.root))
    files = f"sslcert={server.home.path}/client.crt&sslkey={server.home.path}/client.key"
    query = f"{trust}&{files}&sslpassword={quote(KEY_PASSWORD)}"
    engine = engines(f"postgresql://certified@localhost:{server.port}/postgres?{query}")
    assert await ask(engine, "SELECT current_user") == "certified"
    assert "certificate" in await failure(engines(f"postgresql://certified@localhost:{server.port}/postgres?{trust}"))


async def test_a_wrong_password_is_told_and_not_shown(engines: Engines, server: TlsServer) -> None:
    message = await failure(engines(f"postgresql://shop:SECRET@localhost:{server.port}/postgres"))
    assert f'at localhost:{server.port}: wrong password for the user "shop"' in message
    assert "SECRET" not in message


async def test_a_restart_of_the_server_is_survived(engines: Engines, server: TlsServer) -> None:
    engine = engines(address(server), "connection_limit=3")
    async with connecting(engine), connecting(engine), connecting(engine):
        pass
    first = await backend(engine)
    await asyncio.to_thread(server.control, "restart")
    assert len({await backend(engine) for _ in range(6)} - {first}) > 0


@pytest.mark.parametrize(
    ("query", "options"),
    [
        ("", {"SO_KEEPALIVE": 1, "TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6}),
        ("keepalives=0", {"SO_KEEPALIVE": 0}),
        (
            "keepalives_idle=33&keepalives_interval=4&keepalives_count=5&tcp_user_timeout=9000",
            {"TCP_KEEPIDLE": 33, "TCP_KEEPINTVL": 4, "TCP_KEEPCNT": 5, "TCP_USER_TIMEOUT": 9000},
        ),
    ],
)
@pytest.mark.parametrize("mode", ["disable", "require"])
async def test_keepalives_are_set_on_the_socket(
    engines: Engines, server: TlsServer, mode: str, query: str, options: dict[str, int]
) -> None:
    engine = engines(address(server, query=f"sslmode={mode}&{query}"))
    async with connecting(engine) as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        plug = driver._transport.get_extra_info("socket")  # type: ignore[union-attr]  # noqa: SLF001 - nothing else tells
        for name, value in options.items():
            level = socket.SOL_SOCKET if name.startswith("SO_") else socket.IPPROTO_TCP
            assert (name, plug.getsockopt(level, getattr(socket, name))) == (name, value)
