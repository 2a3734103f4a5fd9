"""`stockshift migrate` in a shell: asked or not, watched or not, interrupted in every way, and from two shells."""

import asyncio
import fcntl
import os
import pty
import re
import signal
import subprocess
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from tests.service.processes import (
    DEADLINE_SECONDS,
    STOCKSHIFT,
    add_items,
    environment,
    execute,
    fingerprint,
    running,
    stockshift,
    until,
)
from tests.support import psql

OPENING = 'SELECT count(*) AS batches, count(DISTINCT "itemId") AS items FROM stock_batches'


def variables(url: str) -> dict[str, str]:
    return {"DATABASE_URL": url}


class Terminal:
    """A command at a terminal, and what it shows there."""

    def __init__(self, url: str, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [STOCKSHIFT, *arguments],
            env=environment(TERM="xterm", COLUMNS="100", **variables(url)),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=partial(fcntl.ioctl, theirs, termios.TIOCSCTTY, 0),  # as a shell has it: Ctrl-C comes from it
        )
        os.close(theirs)
        self._shown = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                chunk = os.read(self._ours, 65_536)
            except OSError:  # nobody has the other end any more
                return
            self._shown += chunk

    @property
    def shown(self) -> str:
        return self._shown.decode()

    def types(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def ends(self) -> int:
        code = self.process.wait(DEADLINE_SECONDS)
        self._reader.join(DEADLINE_SECONDS)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(DEADLINE_SECONDS)
        os.close(self._ours)


@contextmanager
def terminal(url: str, *arguments: str) -> Iterator[Terminal]:
    shell = Terminal(url, *arguments)
    try:
        yield shell
    finally:
        shell.close()


def test_nobody_is_asked_where_nobody_is(shop_url: str) -> None:
    add_items(shop_url, 3)
    before = fingerprint(shop_url)
    done = stockshift("migrate", env=variables(shop_url))
    assert done.returncode == 2
    assert "add --yes" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert fingerprint(shop_url) == before


@pytest.mark.parametrize(("typed", "code"), [("n\r", 1), ("\x03", 130), ("\x04", 130)], ids=["no", "Ctrl-C", "Ctrl-D"])
def test_an_answer_that_is_not_yes_changes_nothing(shop_url: str, typed: str, code: int) -> None:
    add_items(shop_url, 3)
    before = fingerprint(shop_url)
    with terminal(shop_url, "migrate") as shell:
        until(lambda: "Copy 3 items of database" in shell.shown, "the question")
        shell.types(typed)
        assert shell.ends() == code, shell.shown
        assert "Traceback" not in shell.shown
    assert fingerprint(shop_url) == before


def test_a_terminal_shows_a_bar_with_rate_and_time_left(shop_url: str) -> None:
    add_items(shop_url, 12_000)
    with terminal(shop_url, "migrate") as shell:
        until(lambda: "Copy 12000 items of database" in shell.shown, "the question")
        shell.types("y\r")
        assert shell.ends() == 0, shell.shown
    assert re.search(r"copy .*━.*12000/12000.*/s.*\d:\d\d:\d\d", shell.shown)
    assert re.search(r"verify .*━", shell.shown)
    assert "Copied 12000 items" in shell.shown


def test_a_pipe_gets_plain_lines(shop_url: str) -> None:
    add_items(shop_url, 12_000)
    done = stockshift("migrate", "--yes", env=variables(shop_url))
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "copy: 5000 of 12000",
        "copy: 10000 of 12000",
        "copy: 12000 of 12000",
        "verify: 0 of 12000",
        "verify: 12000 of 12000",
    ]
    assert done.stdout.startswith("Copied 12000 items (0 had their batch already), 0 held back; verified as number ")


def test_a_second_run_has_nothing_to_do(shop_url: str) -> None:
    add_items(shop_url, 30)
    assert stockshift("migrate", "--yes", env=variables(shop_url)).returncode == 0
    before = fingerprint(shop_url)
    again = stockshift("migrate", env=variables(shop_url))
    assert again.returncode == 0
    assert again.stdout == "Nothing was left to do; 0 items are held back.\n"
    assert fingerprint(shop_url) == before
    assert [tuple(row) for row in execute(shop_url, OPENING)] == [(30, 30)]


def test_many_items_are_copied_beside_the_shop_unless_another_way_is_asked_for(shop_url: str) -> None:
    add_items(shop_url, 100_001)
    for word, first in (["--atomic"], "copy: 5000 of 100001"), ([], "expand: 0 of 100001"):
        with running("migrate", "--yes", *word, env=variables(shop_url)) as command:
            command.says(first)
            assert command.ends(told=signal.SIGINT) == 130
            assert command.output.startswith(first)


class Copying:
    """A copy that stands still in the middle of its transaction, until it is let go on."""

    KEY = 4711

    def __init__(self, url: str) -> None:
        self.url = url
        execute(
            url,
            f"""CREATE FUNCTION stand_still() RETURNS event_trigger LANGUAGE plpgsql SET lock_timeout = 0 AS $$
                BEGIN
                    PERFORM pg_advisory_xact_lock({self.KEY});
                END $$""",
            "CREATE EVENT TRIGGER stand_still ON ddl_command_end WHEN TAG IN ('CREATE INDEX')"
            " EXECUTE FUNCTION stand_still()",
        )
        self._locked, self._unwanted = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._hold, daemon=True)
        self._thread.start()
        assert self._locked.wait(DEADLINE_SECONDS)

    def _hold(self) -> None:
        async def hold() -> None:
            async with psql(self.url) as connection:
                await connection.execute(f"SELECT pg_advisory_lock({self.KEY})")
                self._locked.set()
                await asyncio.to_thread(self._unwanted.wait, DEADLINE_SECONDS)

        asyncio.run(hold())

    def stands_still(self) -> bool:
        return bool(self.sessions("wait_event = 'advisory'"))

    def sessions(self, condition: str = "true") -> list[object]:
        return execute(
            self.url,
            f"SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND {condition}"
            " AND application_name LIKE 'stockshift migrate%'",
        )

    def let_go(self) -> None:
        self._unwanted.set()
        self._thread.join()


@pytest.fixture
def copying(shop_url: str) -> Iterator[Copying]:
    add_items(shop_url, 30)
    copying = Copying(shop_url)
    yield copying
    copying.let_go()


@pytest.mark.parametrize(
    ("told", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_run_that_is_ended_leaves_the_database_as_it_was(copying: Copying, told: signal.Signals, code: int) -> None:
    before = fingerprint(copying.url)
    with running("migrate", "--yes", env=variables(copying.url)) as command:
        until(copying.stands_still, "the copy to be under way")
        assert command.ends(told=told) == code, command.output
        assert "Traceback" not in command.output
        if told != signal.SIGKILL:
            assert command.output.splitlines()[-1].endswith("what was not finished was undone")
            assert copying.sessions() == []  # it had the server stop, rather than leave it to notice
    copying.let_go()
    until(lambda: copying.sessions() == [], "the server to notice")
    assert fingerprint(copying.url) == before
    assert stockshift("migrate", "--yes", env=variables(copying.url)).returncode == 0


def test_a_terminals_ctrl_c_ends_a_run_that_is_under_way(copying: Copying) -> None:
    before = fingerprint(copying.url)
    with terminal(copying.url, "migrate", "--yes") as shell:
        until(copying.stands_still, "the copy to be under way")
        shell.types("\x03")
        assert shell.ends() == 130, shell.shown
    assert fingerprint(copying.url) == before


def test_sigterm_ends_a_run_that_ignores_ctrl_c_as_those_in_the_background_of_a_script_do(copying: Copying) -> None:
    with running("migrate", "--yes", env=variables(copying.url), preexec_fn=ignore_ctrl_c) as command:
        until(copying.stands_still, "the copy to be under way")
        command.process.send_signal(signal.SIGINT)
        assert command.ends(told=signal.SIGTERM) == 143
        assert "Traceback" not in command.output


def ignore_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def test_a_second_shell_is_told_who_drives(copying: Copying) -> None:
    with running("migrate", "--yes", env=variables(copying.url)) as first:
        until(copying.stands_still, "the copy to be under way")
        loser = stockshift("migrate", "--yes", env={"STOCKSHIFT_LOCK_TIMEOUT_MS": "50", **variables(copying.url)})
        assert loser.stdout == ""
        assert loser.returncode == 1
        (line,) = loser.stderr.splitlines()
        assert "a migration is running already" in line
        assert f"pid {first.process.pid}" in line
        copying.let_go()
        assert first.ends() == 0, first.output
    assert [tuple(row) for row in execute(copying.url, OPENING)] == [(30, 30)]


def test_two_shells_at_once_make_one_batch_for_an_item(shop_url: str) -> None:
    add_items(shop_url, 3_000)
    with (
        running("migrate", "--yes", env=variables(shop_url)) as one,
        running("migrate", "--yes", env=variables(shop_url)) as other,
    ):
        codes = sorted([one.ends(), other.ends()])
    assert codes in ([0, 0], [0, 1]), one.output + other.output
    assert [tuple(row) for row in execute(shop_url, OPENING)] == [(3_000, 3_000)]


def test_a_database_that_goes_away_in_the_middle_is_not_taken_for_done(copying: Copying) -> None:
    before = fingerprint(copying.url)
    with running("migrate", "--yes", env=variables(copying.url)) as command:
        until(copying.stands_still, "the copy to be under way")
        execute(
            copying.url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'stockshift migrate%'"
            " AND datname = current_database()",
        )
        assert command.ends() == 2, command.output
        assert "The connection to the database was lost" in command.output.splitlines()[-1]
        assert "Traceback" not in command.output
    assert fingerprint(copying.url) == before
