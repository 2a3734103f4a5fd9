"""`stockshift backup`, `restore` and `rehearse`, as they are typed: what is said on which stream, and exit codes."""

import contextlib
import json
import os
import re
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from db.url import DatabaseUrl
from tests.conftest import administer, database_on
from tests.migration.support import UNFOLLOWED, waits_for_lock
from tests.migration.support import until as asyncio_until
from tests.migration.test_restore import altered, foreign, later, nothing, truncated
from tests.service.processes import add_items, execute, running, stockshift, until
from tests.service.test_commands import Command, command, said
from tests.support import psql

__all__ = ["command"]


def last(done: "subprocess.CompletedProcess[str]", code: int) -> str:
    """The line of an error, after those of progress."""
    assert done.returncode == code, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("stockshift: ")]
    assert lines == done.stderr.splitlines()[-1:]
    return lines[0]


def stages(done: "subprocess.CompletedProcess[str]") -> list[str]:
    """Those of which progress was shown, each from nothing to all."""
    found = [re.fullmatch(r"(\w+): (\d+) of (\d+)(, .*)?", line) for line in done.stderr.splitlines()]
    steps = [step for step in found if step is not None]
    names = list(dict.fromkeys(step[1] for step in steps))
    assert [step[1] for step in steps if step[2] == "0"] == names
    ends = {step[1]: step for step in steps}
    assert all(step[2] == step[3] for step in ends.values())
    return names


@pytest.fixture(scope="module")
def made(module_shop_url: str, tmp_path_factory: pytest.TempPathFactory) -> "subprocess.CompletedProcess[str]":
    """The making of a backup of a shop of twenty items, by a process of its own; `args` end in its folder."""
    add_items(module_shop_url, 20)
    folder = tmp_path_factory.mktemp("made") / "backup"
    done = stockshift("backup", str(folder), env={"DATABASE_URL": module_shop_url})
    done.args = folder
    return done


@pytest.fixture
def backup(made: "subprocess.CompletedProcess[str]", tmp_path: Path) -> Path:
    """The same, to make wrong."""
    return Path(shutil.copytree(made.args, tmp_path / "backup"))


# A backup


def test_a_backup_says_how_far_it_is_and_what_it_has(made: "subprocess.CompletedProcess[str]") -> None:
    assert made.returncode == 0, made.stderr
    assert stages(made) == ["totals", "dump", "csv"]
    assert re.fullmatch(
        r"Backed up 'stockshift_test_\w+' \(20 items, 210 units, 28 rows in all\) into \S+/backup: 4 files, "
        r"[\d,]+ bytes, by pg_dump [\d.]+ from PostgreSQL [\d.]+\. `stockshift rehearse` tries it out\.\n",
        made.stdout,
    )


def test_a_folder_that_is_there_or_cannot_be_made_is_one_line(
    made: "subprocess.CompletedProcess[str]", command: Command, module_shop_url: str, tmp_path: Path
) -> None:
    line = said(command("backup", str(made.args), "--database-url", module_shop_url), 2)
    assert "is there already, and no backup is written over" in line
    line = said(command("backup", str(tmp_path / "no" / "where"), "--database-url", module_shop_url), 2)
    assert "cannot be made (No such file or directory)" in line


def test_without_a_pg_dump_that_fits_it_says_what_to_install(
    command: Command, module_shop_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheel's programs are there, and speak no TLS."""
    monkeypatch.setattr("db.pg_tools.FOLDERS", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    done = command("backup", str(tmp_path / "backup"), "--database-url", f"{module_shop_url}&sslmode=require")
    words = (
        r"pg_dump of PostgreSQL \d+ or later with TLS is needed, and there is .*\(no TLS\): install postgresql-client-"
    )
    assert re.search(words, last(done, 2))
    assert list(tmp_path.iterdir()) == []


def files_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGKILL])
async def test_a_backup_that_is_ended_half_way_leaves_no_folder_and_no_program_and_can_be_made_again(
    shop_url: str, tmp_path: Path, told: signal.Signals
) -> None:
    """It is held up in pg_dump, which wants a table that has no rows of its own, so that we did not read it before."""
    env = {"DATABASE_URL": shop_url, "STOCKSHIFT_LOCK_TIMEOUT_MS": "60000"}
    target = tmp_path / "backup"
    async with psql(shop_url) as holder, psql(shop_url) as watcher:
        await holder.execute("CREATE TABLE parted (day date) PARTITION BY RANGE (day)")
        async with holder.transaction():
            await holder.execute("LOCK TABLE parted IN ACCESS EXCLUSIVE MODE")
            with running("backup", str(target), env=env) as backing_up:
                await waits_for_lock(watcher)
                code = backing_up.ends(told=told)
                if told == signal.SIGTERM:
                    assert code == 128 + told
                    assert backing_up.output.endswith("terminated; what was not finished was undone\n")
                    assert files_in(tmp_path) == []

        async def alone() -> bool:
            others = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'stockshift backup'"
            number: int = await watcher.fetchval(f"{others} AND datname = current_database()")
            return number == 0

        await asyncio_until(alone, "pg_dump is gone")
    assert target.name not in files_in(tmp_path)
    again = stockshift("backup", str(target), env=env)
    assert again.returncode == 0, again.stderr


# A restore


def test_a_restore_says_that_it_is_what_was_backed_up_and_is_into_an_empty_database_only(
    made: "subprocess.CompletedProcess[str]", command: Command, empty_database_url: str
) -> None:
    done = command("restore", str(made.args), "--into", empty_database_url)
    assert done.returncode == 0, done.stderr
    assert stages(done) == ["check", "restore", "prove"]
    assert re.fullmatch(
        r"Restored 'stockshift_test_\w+' \(20 items, 210 units, 28 rows in all\) into PostgreSQL [\d.]+; "
        r"it is what was backed up\.\n",
        done.stdout,
    )
    again = command("restore", str(made.args), "--into", empty_database_url)
    assert re.search(r"is not empty, it has relation public\.companies, .*; nothing was written", last(again, 1))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (altered, "shop.dump was changed since the backup was made; nothing was written"),
        (truncated, "shop.dump has 1000 bytes where the backup had"),
        (foreign, "is not of a Stockshift backup; nothing was written"),
        (later, "has format 2, and this version reads 1"),
        (nothing, "has no manifest.json"),
    ],
)
def test_a_backup_that_is_not_as_it_was_made_is_refused(
    backup: Path, command: Command, empty_database_url: str, wrong: Callable[[Path], None], words: str
) -> None:
    wrong(backup)
    for verb in ("restore", "rehearse"):
        done = command(verb, str(backup), "--into", empty_database_url)
        assert words in last(done, 1)
        assert done.stdout == ""
    assert execute(empty_database_url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")[0][0] == 0


def test_where_to_restore_must_be_said(made: "subprocess.CompletedProcess[str]", command: Command) -> None:
    assert "Missing option '--into'" in said(command("restore", str(made.args)), 2)


# A rehearsal


@pytest.fixture
def rehearsed_url(shop_url: str, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A shop of five items, and a backup of it in `tmp_path`, made after its migration."""
    monkeypatch.setenv("DATABASE_URL", shop_url)
    add_items(shop_url, 5)
    assert command("migrate", "--yes").returncode == 0
    backed_up = command("backup", str(tmp_path / "backup"))
    assert "(5 items, 15 units, 15 on batches, " in backed_up.stdout, backed_up.stderr
    return shop_url


REHEARSED = "SELECT details ->> 'matched' FROM stockshift.audit WHERE action = 'REHEARSED'"


def test_a_rehearsal_is_recorded_where_the_backup_is_from_and_one_of_an_altered_backup_nowhere(
    rehearsed_url: str, command: Command, empty_database_url: str, tmp_path: Path
) -> None:
    folder, report = tmp_path / "backup", tmp_path / "backup" / "rehearsal.json"
    done = command("rehearse", str(folder), "--into", empty_database_url)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"Rehearsed on PostgreSQL [\d.]+: 5 items, 0 copied now, 0 held back\.", lines[0])
    assert [line.split()[0] for line in lines[1:5]] == ["restore", "plan", "migrate", "verify"]
    assert all(re.fullmatch(r"  \w+ +[\d.]+ s", line) for line in lines[1:5])
    assert lines[5].endswith("PASSED, 5 items checked")
    assert lines[-4:] == [
        "It matched.",
        f"The report is in {report}.",
        "It is recorded in the live database.",
        "The scratch database is left as it is, for you to look at and to drop.",
    ]
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    kept = report.read_bytes()
    told = json.loads(kept)
    assert (told["matched"], told["verification"]["state"]) == (True, "PASSED")
    assert [row[0] for row in execute(rehearsed_url, REHEARSED)] == ["true"]
    altered(folder)
    again = command("rehearse", str(folder), "--into", empty_database_url)
    assert "shop.dump was changed since the backup was made" in last(again, 1)
    assert report.read_bytes() == kept
    assert len(execute(rehearsed_url, REHEARSED)) == 1


def test_a_rehearsal_is_not_recorded_in_another_database_and_says_so(
    rehearsed_url: str, command: Command, empty_database_url: str, server_url: str, tmp_path: Path
) -> None:
    another = f"{DatabaseUrl.parse(rehearsed_url).database}_copy"
    administer(server_url, f'CREATE DATABASE "{another}" TEMPLATE "{DatabaseUrl.parse(rehearsed_url).database}"')
    try:
        words = ["--into", empty_database_url, "--database-url", database_on(server_url, another)]
        done = command("rehearse", str(tmp_path / "backup"), *words)
        assert done.returncode == 0, done.stderr
        assert "It is not recorded in the live database: that is not the one the backup is of" in done.stdout
        assert execute(database_on(server_url, another), REHEARSED) == execute(rehearsed_url, REHEARSED) == []
    finally:
        administer(server_url, f'DROP DATABASE "{another}" WITH (FORCE)')


def test_a_rehearsal_that_finds_a_difference_says_no(
    rehearsed_url: str, command: Command, empty_database_url: str, tmp_path: Path
) -> None:
    execute(rehearsed_url, UNFOLLOWED, """UPDATE items SET "quantityInStock" = 99 WHERE id = 'item-3'""")
    assert command("backup", str(tmp_path / "later")).returncode == 0
    done = command("rehearse", str(tmp_path / "later"), "--into", empty_database_url)
    assert done.returncode == 1
    assert 'item-3 "Item 3": legacy 99, batches 3' in done.stdout
    assert "It did not match." in done.stdout.splitlines()
    assert [row[0] for row in execute(rehearsed_url, REHEARSED)] == ["false"]


def test_what_stands_in_the_way_of_a_migration_is_told_by_its_rehearsal(
    shop_url: str, command: Command, empty_database_url: str, tmp_path: Path
) -> None:
    execute(shop_url, "CREATE TABLE more_items () INHERITS (items)")
    assert command("backup", str(tmp_path / "backup"), "--database-url", shop_url).returncode == 0
    words = ["--into", empty_database_url, "--database-url", shop_url]
    done = command("rehearse", str(tmp_path / "backup"), *words)
    assert done.returncode == 1
    assert re.search(r"^BLOCKED: .*inherit", done.stderr, re.MULTILINE)
    assert "It did not match." in done.stdout.splitlines()


def test_where_its_report_cannot_be_kept_a_rehearsal_does_not_begin(backup: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    backup.chmod(0o500)
    if os.access(backup, os.W_OK):
        pytest.skip("root may write anywhere: run the tests as an ordinary user too")
    try:
        done = stockshift("rehearse", str(backup), env={"STOCKSHIFT_DATA": str(data)})
    finally:
        backup.chmod(0o700)
    assert "rehearsal.json could not be written; rehearse a copy of" in said(done, 2)
    assert not data.exists()


def at_work_in(folder: Path) -> list[str]:
    """The command lines of processes that have to do with a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(folder) in words or str(folder) in str((process / "cwd").readlink()):
                found.append(words)
    return found


def test_a_rehearsal_that_is_killed_leaves_no_server_and_the_next_one_takes_its_place(
    backup: Path, tmp_path: Path
) -> None:
    """Of two at once, the second is told of the first. Without a database, there is nobody else to tell."""
    data = tmp_path / "data"
    env = {"STOCKSHIFT_DATA": str(data)}
    with running("rehearse", str(backup), env=env) as rehearsing:
        rehearsing.says(r"restore: 0 of")
        rehearsing.process.send_signal(signal.SIGSTOP)
        place = (data / "rehearsal" / "postgres").resolve(strict=True)  # as root it is kept elsewhere
        assert at_work_in(place)
        assert "already" in last(stockshift("rehearse", str(backup), env=env), 2)
        assert at_work_in(place)
        rehearsing.ends(told=signal.SIGKILL)
    until(lambda: not at_work_in(place), "the server is gone")
    assert place.exists()
    assert not (backup / "rehearsal.json").exists()
    done = stockshift("rehearse", str(backup), env=env)
    assert done.returncode == 0, done.stderr
    assert "20 items, 20 copied now" in done.stdout
    assert "It is not recorded in the live database: DATABASE_URL is not set" in done.stdout
    assert list(data.iterdir()) == []
    assert not place.exists()
    assert at_work_in(place) == []
