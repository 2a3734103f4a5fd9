"""`stockshift rollback`, as it is typed."""

import pytest

from tests.conftest import CopyTemplate, MakeTemplate
from tests.migration.test_rollback import fill_migrated
from tests.service.processes import execute
from tests.service.test_commands import Command, command

__all__ = ["command"]


@pytest.fixture(scope="session")
def rollback_template(make_template: MakeTemplate, server_url: str) -> str:
    return make_template(lambda connection: fill_migrated(connection, server_url))


@pytest.fixture
def migrated_url(copy_template: CopyTemplate, rollback_template: str) -> str:
    return copy_template(rollback_template)


@pytest.fixture
def run(migrated_url: str, command: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("DATABASE_URL", migrated_url)
    return command


def test_a_rollback_is_rehearsed_confirmed_and_undone(migrated_url: str, run: Command) -> None:
    name = migrated_url.split("/")[3].split("?")[0]
    rehearsed = run("rollback")
    assert rehearsed.returncode == 0, rehearsed.stderr
    assert "would archive 7 batches" in rehearsed.stdout
    assert "Of 3 items something exists only in batches, -9 units" in rehearsed.stdout
    assert "item-Arrived" in rehearsed.stdout
    assert f"--confirm {name}" in rehearsed.stdout
    wrong = run("rollback", "--confirm", "shop")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr == f"stockshift: this is database '{name}', not 'shop'; confirm with its name\n"
    done = run("rollback", "--confirm", name, "--fold")
    assert done.returncode == 0, done.stderr
    assert "in schema stockshift_archive_1" in done.stdout
    assert "Folded 3 items" in done.stdout
    assert "phase        ROLLED_BACK" in run("status").stdout
    again = run("rollback", "--confirm", name)
    assert again.returncode == 1
    assert "was rolled back at" in again.stderr
    undone = run("rollback", "--undo", "--confirm", name)
    assert undone.returncode == 0, undone.stderr
    assert "Put back 7 batches" in undone.stdout
    assert "3 items that were folded" in undone.stdout
    assert run("rollback", "--undo", "--confirm", name).returncode == 1
    execute(migrated_url, "SELECT 1 FROM stock_batches")


@pytest.mark.parametrize("words", [["--undo"], ["--fold"], ["--undo", "--fold", "--confirm", "shop"]])
def test_words_that_do_not_go_together_are_refused(run: Command, words: list[str]) -> None:
    done = run("rollback", *words)
    assert (done.returncode, done.stdout) == (2, "")
