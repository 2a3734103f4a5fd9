"""`restore` (R26): all of a backup or nothing, into an empty database only, and proven."""

import asyncio
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from db import pg_tools
from db.errors import StockshiftError
from migration.contract import contract
from migration.manifest import DUMP, BadBackup, Rows, read_manifest
from migration.online import migrate_online
from migration.options import Options
from migration.progress import Progress
from migration.restore import NotProven, NotRestored
from tests.conftest import administer, database_on
from tests.migration.backups import backed_up, fake_program, restored, rewritten
from tests.migration.support import (
    engine_on,
    migrate,
    once_before,
    structure,
    until,
    verified,
    whole_database,
)
from tests.migration.test_contract import ACTOR, ready_template, ready_url  # noqa: F401 - fixtures
from tests.support import insert_item, psql


@pytest.fixture(scope="module")
def made(server_url: str, items_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A backup of a shop that was migrated, sold since, and received a batch; tests must not change it."""
    name = "stockshift_test_restore"
    administer(server_url, f'CREATE DATABASE "{name}" TEMPLATE "{items_template}"')
    url = database_on(server_url, name)
    folder = tmp_path_factory.mktemp("made") / "backup"

    async def make() -> None:
        await migrate(url)
        async with psql(url) as shop:
            await shop.execute("UPDATE items SET \"quantityInStock\" = 4 WHERE id = 'item-Arrived'")
            await shop.execute(
                """
                INSERT INTO stock_batches (id, quantity, "costPerUnitUSD", "updatedAt", "itemId")
                VALUES ('received', 5, 1, now(), 'item-Sold')
                """
            )
        await backed_up(url, folder)

    asyncio.run(make())
    yield folder
    administer(server_url, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def backup(made: Path, tmp_path: Path) -> Path:
    """The same, to make wrong."""
    return Path(shutil.copytree(made, tmp_path / "backup"))


async def test_data_comes_before_triggers_so_nothing_is_recorded_twice(
    made: Path, empty_database_url: str, server_url: str
) -> None:
    """The triggers fire always, for a replicated write too; a restore must not be a write to them."""
    done = await restored(empty_database_url, made)
    assert done.contents.batches == 44
    async with psql(empty_database_url) as copy, psql(database_on(server_url, "stockshift_test_restore")) as shop:
        for table in ("movement", "legacy_write", "copy_ledger"):
            count = f"SELECT count(*) FROM stockshift.{table}"
            assert await copy.fetchval(count) == await shop.fetchval(count) > 0
        triggers = "SELECT tgname, tgenabled FROM pg_trigger WHERE tgname ~ '^stockshift' ORDER BY 1"
        assert await copy.fetch(triggers) == await shop.fetch(triggers)
        assert {row[1] for row in await copy.fetch(triggers)} == {b"A"}
        assert await structure(copy) == await structure(shop)
    assert (await verified(empty_database_url)).passed


async def test_what_triggers_run_is_for_triggers_alone_after_a_restore_too(made: Path, empty_database_url: str) -> None:
    await restored(empty_database_url, made)
    async with psql(empty_database_url) as copy:
        everybody = """
            SELECT proname FROM pg_proc WHERE pronamespace = 'stockshift'::regnamespace
            AND has_function_privilege('pg_monitor', oid, 'EXECUTE')
        """
        assert await copy.fetch(everybody) == []


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("CREATE TABLE mine (id int)", r"relation public\.mine"),
        ("CREATE TYPE mood AS ENUM ('good')", r"type public\.mood"),
        ("CREATE SCHEMA elsewhere", "schema elsewhere"),
        ("CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'", r"function public\.mine"),
    ],
)
async def test_a_database_that_is_not_empty_is_refused_and_stays_as_it_is(
    made: Path, empty_database_url: str, statement: str, what: str
) -> None:
    async with psql(empty_database_url) as other:
        await other.execute(statement)
        before = await whole_database(other)
        with pytest.raises(NotRestored, match=f"is not empty, it has {what}; nothing was written"):
            await restored(empty_database_url, made)
        assert await whole_database(other) == before


def altered(backup: Path) -> None:
    dump = bytearray((backup / DUMP).read_bytes())
    dump[len(dump) // 2] ^= 1
    (backup / DUMP).write_bytes(dump)


def truncated(backup: Path) -> None:
    with (backup / DUMP).open("r+b") as file:
        file.truncate(1000)


def missing(backup: Path) -> None:
    (backup / "items.csv").unlink()


def edited(backup: Path) -> None:
    text = (backup / "manifest.json").read_text()
    (backup / "manifest.json").write_text(text.replace('"quantity": ', '"quantity": 1', 1))


def cut_off(backup: Path) -> None:
    text = (backup / "manifest.json").read_text()
    (backup / "manifest.json").write_text(text[: len(text) // 2])


def foreign(backup: Path) -> None:
    (backup / "manifest.json").write_text('{"version": 3, "files": []}')


def later(backup: Path) -> None:
    text = (backup / "manifest.json").read_text()
    (backup / "manifest.json").write_text(text.replace('"format": 1', '"format": 2'))


def nothing(backup: Path) -> None:
    (backup / "manifest.json").unlink()


def outside(backup: Path) -> None:
    (backup.parent / "secret").write_text("x")
    rewritten(backup, lambda manifest: {"files": {**manifest.files, "../secret": manifest.files[DUMP]}})


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (altered, "shop.dump was changed since the backup was made"),
        (truncated, "shop.dump has 1000 bytes where the backup had"),
        (missing, "items.csv is missing"),
        (edited, "manifest.json was changed since it was made"),
        (cut_off, "manifest.json is cut off or was changed"),
        (foreign, "is not of a Stockshift backup"),
        (later, "has format 2, and this version reads 1"),
        (nothing, "has no manifest.json"),
        (outside, "secret is missing"),
    ],
)
async def test_a_backup_that_is_not_as_it_was_made_is_refused_before_anything_is_written(
    backup: Path, empty_database_url: str, wrong: Callable[[Path], None], words: str
) -> None:
    wrong(backup)
    async with psql(empty_database_url) as other:
        before = await whole_database(other)
        with pytest.raises(BadBackup, match=words) as caught:
            await restored(empty_database_url, backup)
        assert "\n" not in caught.value.message
        assert await whole_database(other) == before


async def test_a_dump_that_changes_while_it_is_restored_is_not_kept(backup: Path, empty_database_url: str) -> None:
    def change(step: Progress) -> None:
        if (step.stage, step.done) == ("restore", 0):
            altered(backup)

    with pytest.raises(StockshiftError, match="nothing was kept"):
        await restored(empty_database_url, backup, progress=change)
    await is_empty(empty_database_url)


async def is_empty(url: str) -> None:
    async with psql(url) as other:
        assert await other.fetchval("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace") == 0


def at_work(url: str, act: Callable[[], None]) -> Callable[[Progress], None]:
    """Does that when all but the end of the dump is on its way, and pg_restore has come to its rows."""

    async def writes_rows() -> None:
        async with psql(url) as watcher:

            async def copies() -> bool:
                rows = (
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'COPY %'"
                )
                number: int = await watcher.fetchval(rows)
                return number > 0

            await until(copies, "pg_restore writes rows")

    def report(step: Progress) -> None:
        if step.stage == "restore" and 0 < step.total - step.done <= 2 * pg_tools.CHUNK:
            with ThreadPoolExecutor(1) as pool:
                pool.submit(asyncio.run, writes_rows()).result()
            act()

    return report


def interrupt() -> None:
    raise KeyboardInterrupt


async def test_a_restore_that_is_interrupted_leaves_the_database_empty_and_can_be_run_again(
    made: Path, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pg_tools, "CHUNK", 512)
    with pytest.raises(KeyboardInterrupt):
        await restored(empty_database_url, made, progress=at_work(empty_database_url, interrupt))
    await is_empty(empty_database_url)
    await restored(empty_database_url, made)


DIES = """
import asyncio, os, sys
from pathlib import Path
from tests.migration.backups import restored
from db import pg_tools
from tests.migration.test_restore import at_work
pg_tools.CHUNK = 512
asyncio.run(restored(sys.argv[1], Path(sys.argv[2]), progress=at_work(sys.argv[1], lambda: os._exit(9))))
"""


async def test_a_pg_restore_whose_owner_died_keeps_nothing(made: Path, empty_database_url: str) -> None:
    """As after kill -9: nobody is left to end it, and what it reads ends."""
    owner = await asyncio.create_subprocess_exec(sys.executable, "-c", DIES, empty_database_url, str(made))
    assert await owner.wait() == 9
    async with psql(empty_database_url) as watcher:

        async def alone() -> bool:
            number: int = await watcher.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            return number == 0

        await until(alone, "pg_restore is gone")
    await is_empty(empty_database_url)
    await restored(empty_database_url, made)


async def test_a_secret_is_in_no_argument_of_pg_restore_and_in_no_error(
    made: Path, empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = f'echo "$@" > {tmp_path}/arguments; cat > {tmp_path}/fed; echo "pg_restore: error: no" >&2; exit 1'
    fake_program(tmp_path, "pg_restore", f"{read_manifest(made).dump_major}.99", script)
    monkeypatch.setenv("PG_BINDIR", str(tmp_path))
    url = empty_database_url.replace("postgres@", "postgres:hunter2@")
    assert "hunter2@" in url
    with pytest.raises(pg_tools.ToolFailed, match=r"failed \(no\); nothing was kept") as caught:
        await restored(url, made)
    assert "hunter2" not in str(caught.value)
    arguments = (tmp_path / "arguments").read_text()
    assert "--single-transaction" in arguments
    assert "hunter2" not in arguments
    assert (tmp_path / "fed").read_bytes() == (made / DUMP).read_bytes()


async def test_what_is_not_as_the_manifest_says_is_named(backup: Path, empty_database_url: str) -> None:
    """As if the dump lacked a row, and had another value."""

    def more(tables: dict[str, Rows]) -> dict[str, Rows]:
        items, batches = tables["public.items"], tables["public.stock_batches"]
        return {
            **tables,
            "public.items": Rows(items.count, "1"),
            "public.stock_batches": Rows(batches.count + 1, batches.fingerprint),
        }

    def change(manifest: object) -> dict[str, object]:
        contents = read_manifest(backup).contents
        contents.tables.update(more(contents.tables))
        return {"contents": contents}

    rewritten(backup, change)
    words = (
        r"table public\.items has other values in its 7 rows; table public\.stock_batches has 8 rows, and had 9\. Do"
    )
    with pytest.raises(NotProven, match=words):
        await restored(empty_database_url, backup)


async def test_an_extension_that_the_server_lacks_is_named(backup: Path, empty_database_url: str) -> None:
    def change(manifest: object) -> dict[str, object]:
        contents = read_manifest(backup).contents
        contents.extensions["warp_drive"] = "1.0"
        return {"contents": contents}

    rewritten(backup, change)
    with pytest.raises(NotRestored, match="lacks the extension warp_drive"):
        await restored(empty_database_url, backup)
    await is_empty(empty_database_url)


async def test_a_backup_of_a_newer_server_is_refused(backup: Path, empty_database_url: str) -> None:
    rewritten(backup, lambda _: {"server": "99.1"})
    with pytest.raises(NotRestored, match=r"is of PostgreSQL 99\.1, .* restore into PostgreSQL 99 or later"):
        await restored(empty_database_url, backup)


async def test_an_owner_or_a_grantee_that_is_unknown_there_is_no_obstacle(
    items_url: str, empty_database_url: str, tmp_path: Path
) -> None:
    async with psql(items_url) as shop:
        await shop.execute("CREATE ROLE shopkeeper")
        try:
            await shop.execute("ALTER TABLE items OWNER TO shopkeeper; GRANT SELECT ON users TO shopkeeper")
            await backed_up(items_url, tmp_path / "backup")
        finally:
            await shop.execute("REASSIGN OWNED BY shopkeeper TO postgres; DROP OWNED BY shopkeeper")
            await shop.execute("DROP ROLE shopkeeper")
    await restored(empty_database_url, tmp_path / "backup")


async def test_a_backup_of_after_the_contract_is_proven_and_verifies(
    ready_url: str,  # noqa: F811 - a fixture
    empty_database_url: str,
    tmp_path: Path,
) -> None:
    async with engine_on(ready_url) as engine, psql(ready_url) as shop:
        await contract(engine, ACTOR, confirm=await shop.fetchval("SELECT current_database()"))
        units = await shop.fetchval("SELECT sum(quantity) FROM stock_batches")
    await backed_up(ready_url, tmp_path / "backup")
    done = await restored(empty_database_url, tmp_path / "backup")
    assert (done.contents.totals.quantity, done.contents.batches) == (0, units)
    assert (await verified(empty_database_url)).passed


async def test_a_backup_of_a_copy_under_way_goes_on_where_it_was(
    items_url: str, empty_database_url: str, tmp_path: Path
) -> None:
    """The driver of then is not waited for: it drives another database."""
    async with psql(items_url) as shop:
        for number in range(20):
            await insert_item(shop, f"more-{number}")

    async def back_it_up() -> None:
        await backed_up(items_url, tmp_path / "backup")

    async with engine_on(items_url) as engine:
        with once_before(engine, "ANALYZE public.stock_batches", back_it_up):
            await migrate_online(engine, driver="first", options=Options(chunk_size=5))
    await restored(empty_database_url, tmp_path / "backup")
    async with psql(empty_database_url) as copy:
        assert await copy.fetchval("SELECT state FROM stockshift.migration_run") == "RUNNING"
    async with engine_on(empty_database_url) as engine:
        done = await migrate_online(engine, driver="second")
    assert (done.run, done.state, done.mismatched) == (1, "FINISHED", 0)
    assert (await verified(empty_database_url)).passed
