"""`backup` (R26): one instant, whole or not there at all, and for nobody else's eyes."""

import asyncio
import csv
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from db.pg_tools import NoTool, ToolFailed, for_dump
from migration.backup import NotBackedUp, Pooled
from migration.locks import LockNotHad
from migration.progress import Progress
from tests.migration.backups import backed_up, fake_program, restored
from tests.migration.support import engine_on, migrate
from tests.support import insert_item, psql


def writing(url: str, stages: list[str]) -> Callable[[Progress], None]:
    """A writer that sells, and makes an item, whenever another stage begins."""

    async def write(stage: str) -> None:
        async with psql(url) as shop:
            await shop.execute('UPDATE items SET "quantityInStock" = "quantityInStock" - 1')
            await insert_item(shop, f"made-at-{stage}")

    def report(step: Progress) -> None:
        if step.stage not in stages:
            stages.append(step.stage)
            with ThreadPoolExecutor(1) as pool:
                pool.submit(asyncio.run, write(step.stage)).result()

    return report


async def test_dump_csv_files_and_totals_are_of_one_instant_while_others_write(
    items_url: str, empty_database_url: str, tmp_path: Path
) -> None:
    await migrate(items_url)
    stages: list[str] = []
    manifest = await backed_up(items_url, tmp_path / "backup", progress=writing(items_url, stages))
    assert stages == ["totals", "dump", "csv"]
    assert (manifest.contents.totals.items, manifest.contents.totals.quantity, manifest.contents.batches) == (7, 45, 45)
    for name in ("items", "stock_batches"):
        with (tmp_path / "backup" / f"{name}.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert sum(int(row.get("quantityInStock") or row["quantity"]) for row in rows) == 45
    await restored(empty_database_url, tmp_path / "backup")  # which proves the dump
    async with psql(items_url) as shop:
        assert await shop.fetchval("SELECT count(*) FROM items") == 10


async def test_a_backup_has_every_table_that_a_migration_touches_and_only_its_owner_reads_it(
    items_url: str, tmp_path: Path
) -> None:
    await migrate(items_url)
    manifest = await backed_up(items_url, tmp_path / "backup")
    files = {path.name: path.stat() for path in (tmp_path / "backup").iterdir()}
    wanted = {"items", "stock_batches", "locations", "users", "stockshift.copy_ledger", "stockshift.setting"}
    assert {f"{name}.csv" for name in wanted} < set(files)
    assert set(files) == {*manifest.files, "manifest.json"}
    assert {stat.S_IMODE(found.st_mode) for found in files.values()} == {0o600}
    assert stat.S_IMODE((tmp_path / "backup").stat().st_mode) == 0o700


async def test_a_backup_is_told_to_the_audit_once_there_is_one(items_url: str, tmp_path: Path) -> None:
    await backed_up(items_url, tmp_path / "before")
    async with psql(items_url) as shop:
        assert await shop.fetchval("SELECT to_regclass('stockshift.audit')") is None
    await migrate(items_url)
    manifest = await backed_up(items_url, tmp_path / "after")
    async with psql(items_url) as shop:
        told = await shop.fetch("SELECT actor, details->>'backup' FROM stockshift.audit WHERE action = 'BACKED_UP'")
        assert [tuple(row) for row in told] == [("test", manifest.id)]


async def test_nothing_is_written_over(items_url: str, tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    with pytest.raises(NotBackedUp, match="is there already"):
        await backed_up(items_url, tmp_path / "backup")
    with pytest.raises(NotBackedUp, match="cannot be made"):
        await backed_up(items_url, tmp_path / "nowhere" / "backup")


async def test_a_database_that_is_no_shop_is_not_backed_up(empty_database_url: str, tmp_path: Path) -> None:
    with pytest.raises(NotBackedUp, match=r"no table public\.items"):
        await backed_up(empty_database_url, tmp_path / "backup")


async def test_a_table_that_somebody_holds_is_not_waited_for_without_end(items_url: str, tmp_path: Path) -> None:
    async with psql(items_url) as other, other.transaction():
        await other.execute("LOCK TABLE expenses IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(LockNotHad):
            await backed_up(items_url, tmp_path / "backup", lock_timeout_ms=50)
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - a look at a test's own folder takes no time


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands above all others, for programs that a test makes up."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PG_BINDIR", str(folder))
    return folder


async def test_a_dump_that_fails_leaves_nothing(items_url: str, programs: Path, tmp_path: Path) -> None:
    fake_program(programs, "pg_dump", "18.99", "echo half of it; echo 'pg_dump: error: no more space' >&2; exit 1")
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(ToolFailed, match=r"^pg_dump 18\.99 failed \(no more space\); there is no backup$"):
        await backed_up(items_url, target / "backup")
    assert list(target.iterdir()) == []


async def test_a_secret_is_in_no_argument_and_in_no_error(items_url: str, programs: Path, tmp_path: Path) -> None:
    """The program says what it was started with. An environment is for the account's own eyes; arguments are not."""
    script = f'echo "$@" > {tmp_path}/arguments; env > {tmp_path}/environment; echo "pg_dump: error: no" >&2; exit 1'
    fake_program(programs, "pg_dump", "18.99", script)
    url = f"{items_url.replace('postgres@', 'postgres:hunter2@')}&sslpassword=hunter3"
    assert "hunter2@" in url
    with pytest.raises(ToolFailed) as caught:
        await backed_up(url, tmp_path / "backup")
    assert "hunter" not in str(caught.value)
    assert "hunter" not in (tmp_path / "arguments").read_text()
    environment = dict(line.partition("=")[::2] for line in (tmp_path / "environment").read_text().splitlines())
    assert environment["PGPASSWORD"] == "hunter2"
    assert environment["PGDATABASE"] in items_url
    assert not os.path.exists(environment["PGSERVICEFILE"])  # noqa: PTH110, ASYNC240 - likewise


async def test_the_password_of_a_key_is_in_a_private_file_while_the_program_runs(
    items_url: str, programs: Path, tmp_path: Path
) -> None:
    script = f'cp -p "$PGSERVICEFILE" {tmp_path}/service; echo "pg_dump: error: no" >&2; exit 1'
    fake_program(programs, "pg_dump", "18.99", script)
    with pytest.raises(ToolFailed):
        await backed_up(f"{items_url}&sslpassword=hunter3&keepalives_idle=7", tmp_path / "backup")
    service = tmp_path / "service"
    assert service.read_text() == "[stockshift]\nsslpassword=hunter3\nkeepalives_idle=7\n"
    assert stat.S_IMODE(service.stat().st_mode) == 0o600


def test_a_server_newer_than_every_pg_dump_is_told_what_to_install() -> None:
    with pytest.raises(
        NoTool, match=r"^pg_dump of PostgreSQL 99 or later is needed, and there is .*postgresql-client-99"
    ):
        for_dump(99, tls=False)


def test_the_nearest_pg_dump_is_taken_and_one_without_tls_where_none_is_needed(programs: Path) -> None:
    no_tls = "echo 'pg_dump: error: sslmode value \"require\" invalid when SSL support is not compiled in' >&2; exit 1"
    fake_program(programs, "pg_dump", "98.1", no_tls)
    assert for_dump(90, tls=False).path == programs / "pg_dump"
    with pytest.raises(NoTool, match=r"with TLS is needed, .*98\.1 in [^ ]* \(no TLS\)"):
        for_dump(90, tls=True)


async def test_a_pooler_is_refused(items_url: str, tmp_path: Path) -> None:
    with pytest.raises(Pooled, match="DIRECT_URL"):
        await backed_up(f"{items_url}&pgbouncer=true", tmp_path / "backup")


async def test_a_backup_leaves_nothing_open(items_url: str, tmp_path: Path) -> None:
    async with engine_on(items_url):
        await backed_up(items_url, tmp_path / "backup")
    async with psql(items_url) as shop:
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        assert await shop.fetchval(others) == 0
