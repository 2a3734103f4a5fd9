"""`stockshift contract`, as it is typed."""

import pytest

from tests.conftest import CopyTemplate, MakeTemplate, url_of
from tests.migration.test_contract import REHEARSED, fill_ready
from tests.service.processes import execute
from tests.service.test_commands import Command, command
from tests.support import Connection

__all__ = ["command"]


@pytest.fixture(scope="session")
def contract_template(make_template: MakeTemplate, server_url: str) -> str:
    async def fill(connection: Connection) -> None:
        await fill_ready(connection, await url_of(connection, server_url))

    return make_template(fill)


@pytest.fixture
def ready_url(copy_template: CopyTemplate, contract_template: str) -> str:
    return copy_template(contract_template)


@pytest.fixture
def run(ready_url: str, command: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("DATABASE_URL", ready_url)
    return command


def test_a_contract_is_looked_at_confirmed_and_undone(ready_url: str, run: Command) -> None:
    name = ready_url.split("/")[3].split("?")[0]
    looked = run("contract")
    assert looked.returncode == 0, looked.stderr
    assert "open   all cut over" in looked.stdout
    assert "CLOSED" not in looked.stdout
    assert "columns  status, quantityInStock" in looked.stdout
    assert "items_by_state" in looked.stdout
    assert "items_locationId_fkey" in looked.stdout
    assert f"--confirm {name}" in looked.stdout
    wrong = run("contract", "--confirm", "shop")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr == f"stockshift: this is database '{name}', not 'shop'; confirm with its name\n"
    done = run("contract", "--confirm", name)
    assert done.returncode == 0, done.stderr
    assert "of 5 items are in stockshift_archive_1.legacy" in done.stdout
    assert "phase        CONTRACTED" in run("status").stdout
    again = run("contract")
    assert again.returncode == 1
    assert "were dropped at" in again.stdout
    assert "Would be" not in again.stdout
    undone = run("contract", "--undo", "--confirm", name)
    assert undone.returncode == 0, undone.stderr
    assert "the legacy columns of 5 items, as they were" in undone.stdout
    assert run("contract", "--undo", "--confirm", name).returncode == 1


def test_a_closed_gate_is_shown_and_refuses(ready_url: str, run: Command) -> None:
    name = ready_url.split("/")[3].split("?")[0]
    execute(ready_url, REHEARSED.replace("true", "false"))
    looked = run("contract")
    assert looked.returncode == 1
    assert "CLOSED rehearsed" in looked.stdout
    assert "Nothing was written. 1 of 7 gates are closed." in looked.stdout
    refused = run("contract", "--confirm", name)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("stockshift: 1 of 8 gates are closed: rehearsed: the latest rehearsal")


def test_undo_needs_the_name(run: Command) -> None:
    done = run("contract", "--undo")
    assert (done.returncode, done.stdout) == (2, "")
