"""Backups of servers with TLS, and of other versions than the embedded one."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest

from db.pg_tools import NoTool, find, for_restore
from migration.manifest import read_manifest
from migration.restore import NotRestored
from tests.conftest import administer
from tests.db.servers import KEY_PASSWORD, PASSWORD, TlsServer, tls_server
from tests.migration.backups import backed_up, restored
from tests.migration.conftest import fill_items
from tests.support import connect_arguments

pytestmark = pytest.mark.skipif(
    not any(tool.tls for tool in find("pg_dump")), reason="no pg_dump with TLS is installed"
)


def local(server: TlsServer, database: str = "shop") -> str:
    """As the superuser, through the socket."""
    return f"postgresql://postgres@/{database}?host={server.home.path}&port={server.port}"


@pytest.fixture(scope="module")
def server() -> Iterator[TlsServer]:
    """PostgreSQL as the system has it, with a shop that the user `shop` may read."""
    with tls_server() as running:
        for name in ("shop", "copy", "second_copy"):
            administer(local(running, "postgres"), f"CREATE DATABASE {name}")

        async def fill() -> None:
            connection = await asyncpg.connect(**connect_arguments(local(running)))
            try:
                await fill_items(connection)
                await connection.execute("GRANT pg_read_all_data TO shop, tls, certified")
            finally:
                await connection.close()

        asyncio.run(fill())
        yield running


@pytest.fixture(autouse=True)
def no_certificates_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("PGSSLMODE", "PGSSLROOTCERT", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


def address(server: TlsServer, query: str, user: str = "shop") -> str:
    return f"postgresql://{user}:{quote(PASSWORD, safe='')}@localhost:{server.port}/shop?{query}"


@pytest.mark.parametrize(
    ("query", "user"),
    [
        ("sslmode=verify-full&sslrootcert={root}", "shop"),
        ("sslmode=require&channel_binding=require&sslrootcert={root}", "shop"),
        ("", "tls"),
        ("sslmode=require&sslcert={home}/client.crt&sslkey={home}/client.key&sslpassword={key}", "certified"),
    ],
)
async def test_pg_dump_speaks_tls_as_the_driver_does(
    server: TlsServer, empty_database_url: str, tmp_path: Path, query: str, user: str
) -> None:
    asked = query.format(root=server.root, home=server.home.path, key=quote(KEY_PASSWORD))
    manifest = await backed_up(address(server, asked, user), tmp_path / "backup")
    assert manifest.contents.totals.quantity == 45
    if user == "shop":
        done = await restored(empty_database_url, tmp_path / "backup")
        assert done.contents.totals.quantity == 45
        assert int(done.server.split(".")[0]) > manifest.server_major


async def test_an_authority_that_only_the_machine_trusts_is_trusted_by_pg_dump_too(
    server: TlsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(server.root))
    manifest = await backed_up(address(server, "channel_binding=require"), tmp_path / "backup")
    assert manifest.contents.totals.items == 7


async def test_a_dump_can_be_read_into_a_server_of_its_own_version_and_later_and_no_earlier_one(
    server: TlsServer, items_url: str, tmp_path: Path
) -> None:
    """What pg_restore sets since 17 an earlier server does not know, so who dumps takes the nearest pg_dump."""
    await backed_up(local(server), tmp_path / "old")
    manifest = read_manifest(tmp_path / "old")
    assert manifest.dump_major == manifest.server_major
    await restored(local(server, "copy"), tmp_path / "old")
    await backed_up(items_url, tmp_path / "new")
    with pytest.raises(NotRestored, match="is of PostgreSQL"):
        await restored(local(server, "second_copy"), tmp_path / "new")


async def test_a_dump_of_an_old_server_by_a_new_pg_dump_is_for_new_servers(
    server: TlsServer, empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = find("pg_dump")[-1]
    monkeypatch.setattr("db.pg_tools.FOLDERS", ())
    monkeypatch.setenv("PATH", str(newest.path.parent))
    manifest = await backed_up(local(server), tmp_path / "backup")
    assert manifest.dump_major == newest.major > manifest.server_major
    await restored(empty_database_url, tmp_path / "backup")
    with pytest.raises(NoTool, match=f"cannot write to PostgreSQL {manifest.server_major}: restore into PostgreSQL 17"):
        for_restore(manifest.dump_major, manifest.server_major, tls=False)
