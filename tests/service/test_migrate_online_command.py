"""`stockshift migrate` beside a shop: told to stop and to go on by other shells, interrupted, and with its options."""

import json
import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.service.processes import Running, add_items, execute, fingerprint, running, stockshift, until
from tests.service.test_migrate_command import terminal, variables

ITEMS = 400
SLOWLY = ("--online", "--yes", "--chunk-size", "5", "--throttle", "sleep=200")
WAY = pytest.mark.parametrize("way", ["--atomic", "--online"])


def run_of(url: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(stockshift("status", "--json", env=variables(url)).stdout)["run"]
    return found


def copied(url: str) -> list[str]:
    return [row["item_id"] for row in execute(url, "SELECT item_id FROM stockshift.copy_ledger ORDER BY item_id")]


@pytest.fixture
def slow(shop_url: str) -> Iterator[Running]:
    """A run that has begun to copy, and would take long."""
    add_items(shop_url, ITEMS)
    with running("migrate", *SLOWLY, env=variables(shop_url)) as command:
        command.says("copy: waits:")
        yield command


def test_a_run_is_paused_and_resumed_from_other_shells(shop_url: str, slow: Running) -> None:
    second = stockshift("migrate", "--yes", env=variables(shop_url))
    assert (second.returncode, second.stdout) == (1, "")
    assert f"pid {slow.process.pid} drives a migration" in second.stderr

    paused = stockshift("migrate", "--pause", env=variables(shop_url))
    assert paused.returncode == 0, paused.stderr
    number = re.fullmatch(r"Paused after (\d+) items; `stockshift migrate` goes on\.\n", paused.stdout)
    assert number
    assert slow.ends() == 0, slow.output
    assert re.search(rf"Paused by \S+ pid \d+ after {number[1]} items; `stockshift migrate` goes on\.", slow.output)
    assert slow.output.count("waits: as asked for") == 1  # it waited after each chunk
    before = run_of(shop_url)
    assert (before["state"], before["items_copied"]) == ("PAUSED", int(number[1]))
    assert 0 < before["items_copied"] < ITEMS

    refused = stockshift("migrate", "--yes", "--atomic", env=variables(shop_url))
    assert refused.returncode == 1
    assert "`stockshift migrate --cancel`" in refused.stderr
    resumed = stockshift("migrate", "--resume", "--throttle", "sleep=0.1", env=variables(shop_url))
    assert resumed.returncode == 0, resumed.stderr
    assert f"Copied {ITEMS} items" in resumed.stdout
    after = run_of(shop_url)
    assert (after["id"], after["state"], after["items_copied"]) == (before["id"], "FINISHED", ITEMS)
    (asked,) = execute(shop_url, "SELECT options FROM stockshift.migration_run")
    assert json.loads(asked["options"]) | {"choices": {}, "items": []} == {
        "chunk_size": 5,
        "throttle": {"sleep": 0.1},
        "choices": {},
        "items": [],
    }


def test_a_run_is_cancelled_and_what_was_copied_stays(shop_url: str, slow: Running) -> None:
    cancelled = stockshift("migrate", "--cancel", env=variables(shop_url))
    assert cancelled.returncode == 0, cancelled.stderr
    assert slow.ends() == 0
    assert "Cancelled by" in slow.output
    stayed = copied(shop_url)
    assert f"Cancelled after {len(stayed)} items" in cancelled.stdout
    assert run_of(shop_url)["state"] == "CANCELLED"
    rest = stockshift("migrate", "--yes", env=variables(shop_url))
    assert f"Copied {ITEMS - len(stayed)} items" in rest.stdout
    assert len(copied(shop_url)) == ITEMS


def test_where_there_is_no_run_nobody_can_be_told(shop_url: str) -> None:
    for migrated in (False, True):
        if migrated:
            assert stockshift("migrate", "--yes", env=variables(shop_url)).returncode == 0
        for word in ("--pause", "--resume", "--cancel"):
            done = stockshift("migrate", word, env=variables(shop_url))
            assert (done.returncode, done.stdout) == (1, "")
            assert (
                "No online migration is under way or paused; `stockshift migrate --online` begins one." in done.stderr
            )


@pytest.mark.parametrize(("told", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_interrupted_gives_its_lease_back_and_says_what_stays(
    shop_url: str, slow: Running, told: signal.Signals, code: int
) -> None:
    assert slow.ends(told=told) == code
    assert slow.output.splitlines()[-1].endswith("what was copied stays; `stockshift migrate` goes on")
    assert "Traceback" not in slow.output
    assert execute(shop_url, "SELECT * FROM stockshift.driver") == []
    before = run_of(shop_url)
    assert (before["state"], before["items_copied"]) == ("INTERRUPTED", len(copied(shop_url)))
    done = stockshift("migrate", "--yes", "--throttle", "sleep=0.1", "--chunk-size", "500", env=variables(shop_url))
    assert done.returncode == 0, done.stderr
    assert (run_of(shop_url)["id"], len(copied(shop_url))) == (before["id"], ITEMS)


def test_a_run_whose_driver_was_killed_is_paused_by_whoever_asks(shop_url: str, slow: Running) -> None:
    slow.ends(told=signal.SIGKILL)
    execute(shop_url, "UPDATE stockshift.driver SET beat_at = beat_at - interval '1 minute'")
    assert stockshift("migrate", "--pause", env=variables(shop_url)).returncode == 0
    assert run_of(shop_url)["state"] == "PAUSED"


def test_a_terminal_shows_chunks_and_what_is_waited_for(shop_url: str) -> None:
    add_items(shop_url, 3_000)
    with terminal(shop_url, "migrate", "--online", "--yes", "--throttle", "sleep=2") as shell:
        assert shell.ends() == 0, shell.shown
    assert re.search(r"copy .*━.*/3000.*/s.*\d:\d\d:\d\d.*chunks of \d+", shell.shown)
    assert "waits: as asked for, 2 times as long as a chunk takes" in shell.shown
    assert "Copied 3000 items" in shell.shown


@WAY
def test_items_that_are_named_are_copied_alone(shop_url: str, way: str) -> None:
    add_items(shop_url, 30)
    words = ["migrate", way, "--items", "item-1", "item-2", "--yes", "--items=item-3"]
    done = stockshift(*words, env=variables(shop_url))
    assert done.returncode == 0, done.stderr
    assert "Copied 3 items" in done.stdout
    assert "27 items are new, or were not asked for" in done.stdout
    assert copied(shop_url) == ["item-1", "item-2", "item-3"]
    assert run_of(shop_url)["items_total"] == 3
    rest = stockshift("migrate", way, "--yes", env=variables(shop_url))
    assert "Copied 27 items" in rest.stdout
    assert "not asked for" not in rest.stdout


@WAY
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--items", "item-1", "no-such"], "there is no item 'no-such'"),
        (
            ["--null-status", "Lost"],
            "'Lost' is no label of type \"Status\"; choose one of ToOrder, Ordered, Arrived, Sold",
        ),
    ],
)
def test_what_the_database_lacks_is_named_and_changes_nothing(
    shop_url: str, way: str, options: list[str], words: str
) -> None:
    add_items(shop_url, 3)
    before = fingerprint(shop_url)
    done = stockshift("migrate", way, "--yes", *options, env=variables(shop_url))
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert fingerprint(shop_url) == before


@WAY
def test_what_is_chosen_in_place_of_a_null_is_copied_and_recorded(shop_url: str, way: str) -> None:
    add_items(shop_url, 4)
    execute(
        shop_url,
        'ALTER TABLE items ALTER "costPerUnitUSD" DROP NOT NULL, ALTER status DROP NOT NULL',
        """UPDATE items SET "costPerUnitUSD" = NULL WHERE id = 'item-1'""",
        """UPDATE items SET status = NULL WHERE id = 'item-2'""",
        """UPDATE items SET "orderDate" = '2025-05-05' WHERE id <> 'item-3'""",
    )
    held_back = stockshift("migrate", way, "--yes", env=variables(shop_url))
    assert held_back.returncode == 0, held_back.stderr
    assert "Copied 2 items (0 had their batch already), 2 held back" in held_back.stdout
    assert "2 items are answered from their legacy columns: `stockshift plan` says why" in held_back.stdout
    execute(shop_url, "DELETE FROM stockshift.copy_ledger WHERE item_id = 'item-3'", "DELETE FROM stock_batches")
    execute(shop_url, "DELETE FROM stockshift.copy_ledger")

    chosen = ["--null-cost", "2.5", "--null-order-date", "2026-01-02T03:04:05.678", "--null-status", "Ordered"]
    done = stockshift("migrate", way, "--yes", *chosen, env=variables(shop_url))
    assert done.returncode == 0, done.stderr
    assert "Copied 4 items (0 had their batch already), 0 held back" in done.stdout
    assert "stockshift plan" not in done.stdout
    rows = execute(
        shop_url,
        """SELECT l.item_id, l.choices, b."costPerUnitUSD" AS cost, b.status::text, b."orderDate"::text AS ordered
           FROM stockshift.copy_ledger l JOIN stock_batches b ON b.id = l.batch_id ORDER BY 1""",
    )
    assert [(json.loads(row["choices"] or "null"), row["cost"], row["status"], row["ordered"]) for row in rows] == [
        ({"costPerUnitUSD": 2.5}, 2.5, "Arrived", "2025-05-05 00:00:00"),
        ({"status": "Ordered"}, 1.5, "Ordered", "2025-05-05 00:00:00"),
        ({"orderDate": "2026-01-02T03:04:05.678"}, 1.5, "Arrived", "2026-01-02 03:04:05.678"),
        (None, 1.5, "Arrived", "2025-05-05 00:00:00"),
    ]
    assert stockshift("verify", env=variables(shop_url)).returncode == 0


def test_todays_order_date_is_midnight_in_utc(shop_url: str) -> None:
    add_items(shop_url, 1)
    today = "SELECT (now() AT TIME ZONE 'UTC')::date AS day"
    before = execute(shop_url, today)[0]["day"]
    done = stockshift("migrate", "--yes", "--null-order-date", "today", env=variables(shop_url) | {"TZ": "Asia/Tokyo"})
    assert done.returncode == 0, done.stderr
    (row,) = execute(shop_url, 'SELECT "orderDate" AS at FROM stock_batches')
    assert row["at"].date() in (before, execute(shop_url, today)[0]["day"])
    assert (row["at"].hour, row["at"].minute, row["at"].second, row["at"].microsecond) == (0, 0, 0, 0)


def test_a_run_after_which_something_differs_says_no_and_names_the_report(shop_url: str) -> None:
    add_items(shop_url, 5)
    assert stockshift("migrate", "--online", "--yes", env=variables(shop_url)).returncode == 0
    execute(
        shop_url,
        "UPDATE stock_batches SET quantity = quantity + 1 WHERE \"itemId\" = 'item-1'",
        "DELETE FROM stockshift.copy_ledger WHERE item_id = 'item-2'",
    )
    execute(shop_url, "DELETE FROM stock_batches WHERE \"itemId\" = 'item-2'")
    done = stockshift("migrate", "--online", "--yes", env=variables(shop_url))
    assert done.returncode == 1, done.stderr
    assert "1 items differ; `stockshift verify` names them." in done.stdout


def test_a_column_that_is_missing_in_the_middle_is_a_clear_stop(shop_url: str, slow: Running) -> None:
    before = len(copied(shop_url))
    execute(shop_url, 'ALTER TABLE items RENAME "orderNumber" TO "reference"')
    assert slow.ends() == 1, slow.output
    assert "orderNumber" in slow.output.splitlines()[-1]
    execute(shop_url, 'ALTER TABLE items RENAME "reference" TO "orderNumber"')
    failed = run_of(shop_url)
    assert failed["state"] == "FAILED"
    assert "orderNumber" in failed["error"]
    assert len(copied(shop_url)) >= before
    assert stockshift("migrate", "--yes", env=variables(shop_url)).returncode == 0
    until(lambda: len(copied(shop_url)) == ITEMS, "all to be copied")
