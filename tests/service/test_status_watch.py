"""`stockshift status --watch`: what a run does, seen from another shell, for as long as it goes on."""

import asyncio
import json
import re
import signal
import tempfile
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest

from db.embedded import embedded_server
from tests.conftest import FAST, fill_shop
from tests.service.processes import add_items, execute, running, stockshift, until
from tests.service.test_migrate_command import terminal, variables
from tests.support import psql

SLOWLY = ("--online", "--yes", "--chunk-size", "5", "--throttle", "sleep=200")
ITEMS = 400


@pytest.fixture
def paused_url(shop_url: str) -> str:
    """A shop whose run was paused in the middle."""
    add_items(shop_url, ITEMS)
    pause(shop_url)
    return shop_url


def pause(url: str) -> None:
    with running("migrate", *SLOWLY, env=variables(url)) as driver:
        driver.says("copy: waits:")
        assert stockshift("migrate", "--pause", env=variables(url)).returncode == 0
        assert driver.ends() == 0


def looking(url: str) -> list[object]:
    return execute(
        url,
        "SELECT pid FROM pg_stat_activity"
        " WHERE application_name = 'stockshift status' AND datname = current_database()",
    )


def test_a_pipe_gets_a_line_a_change_until_the_run_has_ended(paused_url: str) -> None:
    with running("status", "--watch", env=variables(paused_url)) as watcher:
        watcher.says(rf"run 1 PAUSED, copy: \d+ of {ITEMS} items\n")
        resumed = stockshift("migrate", "--resume", "--throttle", "sleep=3", env=variables(paused_url))
        assert resumed.returncode == 0, resumed.stderr
        watcher.says(rf"run 1 FINISHED: {ITEMS} of {ITEMS} items\n")
        assert watcher.ends() == 0
    *lines, last = watcher.output.partition("phase ")[0].splitlines()
    assert last.startswith("run 1 FINISHED")
    assert all(one != other for one, other in pairwise(lines))
    assert re.search(rf"phase +DUAL_RUN\n.*\ncopied +{ITEMS}\n", watcher.output, re.DOTALL)


def test_ctrl_c_ends_the_looking_and_nothing_else(paused_url: str) -> None:
    with running("status", "--watch", env=variables(paused_url)) as watcher:
        watcher.says("PAUSED")
        assert watcher.ends(told=signal.SIGINT) == 0
        assert watcher.output.count("\n") == 1
    assert json.loads(stockshift("status", "--json", env=variables(paused_url)).stdout)["run"]["state"] == "PAUSED"


def test_there_is_no_connection_between_two_looks(paused_url: str) -> None:
    with running("status", "--watch", env=variables(paused_url)) as watcher:
        watcher.says("PAUSED")
        until(lambda: looking(paused_url) == [], "it to have no connection", 20)
        until(lambda: looking(paused_url), "it to look again", 20)
        assert watcher.process.poll() is None


def test_without_a_run_there_is_nothing_to_watch(shop_url: str) -> None:
    done = stockshift("status", "--watch", env=variables(shop_url))
    assert done.returncode == 0
    assert done.stdout.startswith("NOT_STARTED: there was no run\nphase        NOT_STARTED\n")


def test_a_terminal_is_refreshed_in_place(paused_url: str) -> None:
    with terminal(paused_url, "status", "--watch") as shell:
        until(lambda: "online: PAUSED" in shell.shown, "the run to be shown")
        assert stockshift("migrate", "--cancel", env=variables(paused_url)).returncode == 0
        assert shell.ends() == 0, shell.shown
    assert re.search(r"\x1b\[1A.*online: CANCELLED", shell.shown, re.DOTALL)  # the cursor went up, to where it was


def test_programs_get_json_a_line_a_change(paused_url: str) -> None:
    with running("status", "--watch", "--json", env=variables(paused_url)) as watcher:
        watcher.says("PAUSED")
        assert stockshift("migrate", "--cancel", env=variables(paused_url)).returncode == 0
        assert watcher.ends() == 0
    lines = [json.loads(line) for line in watcher.output.splitlines()]
    assert [(line["phase"], line["run"]["state"], line["away"]) for line in lines] == [
        ("COPYING", "PAUSED", None),
        ("DUAL_RUN", "CANCELLED", None),
    ]


def test_a_server_that_is_restarted_is_waited_for() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="stockshift-test-", ignore_cleanup_errors=True) as folder,
        ExitStack() as stack,
    ):
        Path(folder).chmod(0o755)  # root's server runs as another user, who must reach it
        with embedded_server(Path(folder), settings=FAST) as server:
            url = server.url("postgres")
            asyncio.run(fill(url))
            add_items(url, ITEMS)
            pause(url)
            watcher = stack.enter_context(running("status", "--watch", env=variables(url)))
            watcher.says("PAUSED")
        watcher.says("away: ")
        with embedded_server(Path(folder), settings=FAST) as server:
            assert server.url("postgres") == url
            assert stockshift("migrate", "--cancel", env=variables(url)).returncode == 0
            assert watcher.ends() == 0
            assert "run 1 CANCELLED" in watcher.output


async def fill(url: str) -> None:
    async with psql(url) as connection:
        await fill_shop(connection)
