"""`stockshift cut-over`, `take-back` and `write-back`, as they are typed."""

import pytest

from tests.migration.conftest import items_template, items_url, migrated_template, migrated_url
from tests.service.processes import execute, stockshift
from tests.service.test_commands import NOBODY, Command, command, said

__all__ = ["command", "items_template", "items_url", "migrated_template", "migrated_url"]


@pytest.fixture
def run(migrated_url: str, command: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("DATABASE_URL", migrated_url)
    return command


def test_items_go_over_and_come_back_and_what_is_refused_is_named(migrated_url: str) -> None:
    """As processes of their own, with what they say on which stream."""
    env = {"DATABASE_URL": migrated_url}
    done = stockshift("cut-over", "item-Sold", "item-Arrived", "nowhere", env=env)
    assert (done.returncode, done.stderr) == (1, "cut-over: 0 of 3\ncut-over: 3 of 3\n")
    assert done.stdout == "Cut over 2 items.\nREFUSED nowhere: no item has this id; look it up with `items`\n"
    execute(migrated_url, """UPDATE items SET "quantityInStock" = 3 WHERE id = 'item-Sold'""")
    back = stockshift("take-back", "--all", env=env)
    assert back.returncode == 1, back.stderr
    taken, refused = back.stdout.splitlines()
    assert taken == "Took back 1 item."
    assert refused.startswith("REFUSED item-Sold: quantityInStock was written past its batches since the cut-over")
    assert "stockshift repair" in refused


def test_write_back_is_turned_on_and_off(migrated_url: str, run: Command) -> None:
    quantity = """SELECT "quantityInStock" FROM items WHERE id = 'item-Sold'"""
    less = """UPDATE stock_batches SET quantity = quantity - 1 WHERE "itemId" = 'item-Sold'"""
    assert run("cut-over", "item-Sold").returncode == 0
    on = run("write-back", "on")
    assert on.returncode == 0, on.stderr
    assert on.stdout == "Write-back is on: of 1 item, the legacy columns are as the batches say.\n"
    assert "write-back   on" in run("status").stdout
    execute(migrated_url, less)
    assert execute(migrated_url, quantity)[0][0] == 9
    off = run("write-back", "OFF")
    assert (off.returncode, off.stdout) == (0, "Write-back is off: the legacy columns stay as they are.\n")
    execute(migrated_url, less)
    assert execute(migrated_url, quantity)[0][0] == 9


@pytest.mark.parametrize(
    ("words", "done"),
    [
        (["--company", "globex"], 1),
        (["--status", "Sold", "--status", "Ordered"], 2),
        (["--location", "acme-main"], 5),
        (["--company", "globex", "--status", "Sold"], 0),
    ],
)
def test_items_are_chosen_by_company_status_and_location(run: Command, words: list[str], done: int) -> None:
    went = run("cut-over", *words)
    assert (went.returncode, went.stdout.splitlines()[0]) == (0, f"Cut over {done} item{'' if done == 1 else 's'}.")


def test_of_many_that_are_refused_the_first_are_named(run: Command) -> None:
    went = run("take-back", *[f"nowhere-{number:02}" for number in range(25)])
    lines = went.stdout.splitlines()
    assert (went.returncode, len(lines), lines[0]) == (1, 22, "Took back 0 items.")
    assert lines[-1] == "… and 5 more; `stockshift verify --json FILE` has all that do not verify"


@pytest.mark.parametrize("verb", ["cut-over", "take-back"])
@pytest.mark.parametrize(
    "words", [[], ["item-Sold", "--all"], ["--all", "--company", "acme"], ["x", "--status", "Sold"]]
)
def test_which_items_are_meant_is_said_in_one_way(command: Command, verb: str, words: list[str]) -> None:
    done = command(verb, *words, "--database-url", NOBODY)
    assert "say which items: their ids, --all, or --company, --status and --location" in said(done, 2)


def test_a_status_that_there_is_not_is_named_with_those_there_are(run: Command) -> None:
    line = said(run("cut-over", "--status", "Stolen"), 2)
    assert "'Stolen' is no status of this database; give one of ToOrder, Ordered, Arrived, Sold" in line


@pytest.mark.parametrize("words", [["cut-over", "--all"], ["take-back", "--all"], ["write-back", "on"]])
def test_before_the_migration_they_say_what_comes_first(items_url: str, command: Command, words: list[str]) -> None:
    done = command(*words, "--database-url", items_url)
    assert done.returncode == 2
    assert "stockshift migrate" in done.stderr
