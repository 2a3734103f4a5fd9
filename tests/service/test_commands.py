"""The command line: what each command answers, its exit code, and that every error is one line."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from db.url import DatabaseUrl
from service import endings
from service.cli import cli
from service.settings import load_settings
from service.tokens import TokenVerifier
from tests.conftest import administer, database_on
from tests.service.processes import (
    SECRET,
    STOCKSHIFT,
    add_items,
    environment,
    execute,
    fingerprint,
    started,
    stockshift,
)
from tests.support import connect_arguments

NOBODY = "postgresql://localhost:1/shop"


def said(done: "subprocess.CompletedProcess[str]", code: int) -> str:
    """The one line of an error."""
    assert done.returncode == code, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("stockshift: ")
    return lines[0]


def variables(url: str) -> dict[str, str]:
    return {"DATABASE_URL": url}


Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """A command in this process, for what is decided before anything is connected."""
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        monkeypatch.setattr(sys, "argv", ["stockshift", *arguments])
        code = endings.run(cli, "stockshift")
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    yield run
    signal.signal(signal.SIGTERM, before)


# Which database


def test_the_option_stands_above_both_variables(shop_url: str, tmp_path: Path) -> None:
    env = {"DATABASE_URL": NOBODY, "DIRECT_URL": NOBODY}
    assert stockshift("status", "--database-url", shop_url, env=env, cwd=tmp_path).returncode == 0


def test_a_migration_takes_the_direct_url_where_there_is_one(shop_url: str) -> None:
    assert stockshift("plan", env={"DATABASE_URL": NOBODY, "DIRECT_URL": shop_url}).returncode == 0
    assert "refused" in said(stockshift("plan", env={"DATABASE_URL": shop_url, "DIRECT_URL": NOBODY}), 2)


@pytest.mark.parametrize("command", ["plan", "status", "verify", "migrate", "serve"])
def test_without_any_database_a_newcomer_is_told_of_the_demo(command: str, tmp_path: Path) -> None:
    line = said(stockshift(command, env={"STOCKSHIFT_JWT_SECRET": SECRET, "STOCKSHIFT_PORT": "0"}, cwd=tmp_path), 2)
    assert "DATABASE_URL is not set" in line
    assert "stockshift demo" in line
    assert list(tmp_path.iterdir()) == []


# Errors


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://no-such-host.invalid/shop", "the host is unknown"),
        (NOBODY, "the connection was refused"),
        ("mysql://localhost/shop", "cannot start with mysql://"),
        ("postgresql://u:hunter2@localhost:port/shop", "port"),
        ("postgresql://localhost/shop?sslmod=require", "did you mean sslmode"),
        ("postgresql://localhost/shop?sslmode=verify-full&sslrootcert=/no/such.pem", "/no/such.pem"),
        ("", "empty"),
        ("postgresql://localhost/a\x1b[31mb", "control character"),
    ],
)
def test_a_database_that_cannot_be_reached_is_one_line(url: str, words: str) -> None:
    line = said(stockshift("plan", "--database-url", url), 2)
    assert words in line
    assert "hunter2" not in line


@pytest.mark.parametrize("arguments", [["plan"], ["status"], ["verify"], ["migrate", "--yes"], ["read-source", "auto"]])
def test_a_database_that_does_not_exist_is_one_line(arguments: list[str], server_url: str) -> None:
    line = said(stockshift(*arguments, "--database-url", database_on(server_url, "no_such_database")), 2)
    assert 'database "no_such_database"' in line
    assert "correct its name" in line


def test_an_empty_database_is_no_shop(empty_database_url: str) -> None:
    env = variables(empty_database_url)
    assert "point DATABASE_URL at the shop's database" in said(stockshift("status", env=env), 2)
    assert "table public.items does not exist" in said(stockshift("migrate", "--yes", env=env), 1)
    assert "stockshift migrate" in said(stockshift("verify", env=env), 2)
    assert "stockshift migrate" in said(stockshift("read-source", "legacy", env=env), 2)
    plan = stockshift("plan", env=env)
    assert plan.returncode == 1
    assert "BLOCKED: table public.items does not exist" in plan.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plan", "--sqll"], "No such option"),
        (["plna"], "No such command 'plna'"),
        (["plan", "surplus"], "unexpected extra argument"),
        (["read-source", "both"], "'both' is not one of 'auto', 'legacy'"),
        (["read-source"], "Missing argument"),
        (["token", "--role", "boss"], "'boss' is not one of"),
        (["token"], "Missing option '--role'"),
        (["demo", "--items", "-1"], "-1 is not in the range"),
        (["demo", "--items", "many"], "'many' is not a valid integer"),
        (["serve", "--port", "http"], "'http' is not a valid integer"),
        (["verify", "--json", "-", "--csv", "-"], "cannot share stdout"),
        (["verify", "--list", "--report", "1"], "--list, --report and --compare exclude each other"),
        (["verify", "--compare", "1", "2", "--json", "-"], "--json and --csv are for one report"),
        (["verify", "--compare", "1"], "requires 2 arguments"),
        (["migrate", "--atomic", "--online"], "--atomic and --online exclude each other"),
        (["migrate", "--atomic", "--chunk-size", "5"], "--atomic is one transaction"),
        (["migrate", "--atomic", "--throttle", "sleep=1"], "--atomic is one transaction"),
        (["migrate", "--pause", "--cancel"], "--pause and --cancel exclude each other"),
        (["migrate", "--pause", "--chunk-size", "5"], "--pause takes no other option"),
        (["migrate", "--resume", "--items", "item-1"], "the items it was begun for"),
        (["migrate", "--chunk-size", "0"], "0 is not in the range"),
        (["migrate", "--items", "--yes"], "'--items' requires an argument"),
        (["migrate", "item-1"], "unexpected extra argument"),
    ],
)
def test_bad_usage_is_one_line_that_names_the_help(command: Command, arguments: list[str], words: str) -> None:
    done = command(*arguments)
    assert words in said(done, 2)
    assert "--help`" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--null-cost", "nan"], "'nan' is no cost; give a number from 0 to 1000000000000"),
        (["--null-cost=-1"], "'-1' is no cost"),
        (["--null-cost", "1e13"], "'1e13' is no cost"),
        (["--null-order-date", "tomorrow"], "'tomorrow' is no order date; give `today`"),
        (["--null-order-date", "2026-02-30"], "'2026-02-30' is no order date"),
        (["--null-order-date", "2026-01-01T00:00:00.1234"], "is no order date"),
        (["--throttle", "speed=1"], "'speed=1' is no throttle; give one of sleep, lag, active, wal"),
    ],
)
def test_what_a_migration_cannot_take_is_told_before_anything_is_connected(
    command: Command, arguments: list[str], words: str
) -> None:
    assert words in said(command("migrate", *arguments, "--database-url", NOBODY), 2)


def test_a_variable_with_a_typo_stops_every_command(shop_url: str) -> None:
    line = said(stockshift("status", env={"STOCKSHIFT_LOCK_TIMOUT_MS": "5", **variables(shop_url)}), 2)
    assert "did you mean STOCKSHIFT_LOCK_TIMEOUT_MS?" in line


def test_a_role_that_may_not_read_is_told_so_and_not_its_password(shop_url: str, server_url: str) -> None:
    role = f"stranger_{DatabaseUrl.parse(shop_url).database[-12:]}"
    administer(server_url, f"CREATE ROLE {role} LOGIN PASSWORD 'hunter2'")
    try:
        parts = connect_arguments(shop_url)
        url = f"postgresql://{role}:hunter2@/{parts['database']}?host={parts['host']}&port={parts['port']}"
        line = said(stockshift("status", "--database-url", url), 1)
        assert "permission denied for table" in line
        assert "hunter2" not in line
    finally:
        administer(server_url, f"DROP ROLE {role}")


def test_help_is_there_for_every_command(command: Command) -> None:
    overview = command("--help")
    assert overview.returncode == 0
    verbs = [line.split()[0] for line in overview.stdout.partition("Commands:")[2].splitlines() if line.strip()]
    assert len(verbs) >= 9
    for verb in verbs:
        help_text = command(verb, "--help")
        assert help_text.returncode == 0
        assert f"Usage: stockshift {verb}" in help_text.stdout
        assert "..." not in next(line for line in overview.stdout.splitlines() if line.split()[:1] == [verb])


def test_no_command_at_all_gets_the_help(command: Command) -> None:
    done = command()
    assert done.returncode == 2
    assert "Commands:" in done.stderr


# Looking


def test_plan_names_each_step_and_writes_nothing(shop_url: str) -> None:
    add_items(shop_url, 7)
    before = fingerprint(shop_url)
    done = stockshift("plan", env=variables(shop_url))
    assert done.returncode == 0
    assert "To copy: 7 items" in done.stdout
    sql = stockshift("plan", "--sql", env=variables(shop_url))
    assert 'CREATE TABLE public."stock_batches"' in sql.stdout or "CREATE TABLE public.stock_batches" in sql.stdout
    assert fingerprint(shop_url) == before


def status_of(url: str) -> dict[str, Any]:
    """Without the plan of weeks, and the gates."""
    found: dict[str, Any] = json.loads(stockshift("status", "--json", env=variables(url)).stdout)
    assert [stage["name"] for stage in found.pop("schedule")][:2] == ["BACKUP", "MIGRATE"]
    assert not all(gate["open"] for gate in found.pop("gates"))
    return found


def test_the_plan_of_weeks_says_what_is_done_what_is_next_and_what_speaks_against_it(shop_url: str) -> None:
    lines = stockshift("status", env=variables(shop_url)).stdout.splitlines()
    plan = lines[lines.index("The plan of weeks:") + 1 :]
    assert plan[0].startswith("  NEXT  BACKUP")
    assert plan[1].startswith("        against: a backup of before the migration is not on record")
    assert plan[2:8] == [
        f"  LATER {stage}" for stage in ("MIGRATE", "TEST_ONE_ITEM", "WEEK_1", "WEEK_2", "MONTH_1", "CONTRACT")
    ]
    assert plan[8:10] == ["", "The gates of contract:"]
    assert plan[10].startswith("  CLOSED migrated            no migration has begun here")


def test_status_counts_as_json_for_programs(shop_url: str) -> None:
    add_items(shop_url, 7)
    expected = {"phase": "NOT_STARTED", "read_source": "AUTO", "items": 7, "copied": 0, "held_back": 0}
    expected |= {"cut_over": 0, "drifted": 0, "write_back": False, "run": None}
    assert status_of(shop_url) == expected
    assert stockshift("migrate", "--yes", env=variables(shop_url)).returncode == 0
    done = status_of(shop_url)
    run = done.pop("run")
    assert done == {name: value for name, value in expected.items() if name != "run"} | {
        "phase": "DUAL_RUN",
        "copied": 7,
    }
    assert (run["kind"], run["state"], run["items_total"], run["items_copied"]) == ("atomic", "FINISHED", 7, 7)


def test_the_read_source_is_changed_for_everybody(shop_url: str) -> None:
    assert stockshift("migrate", "--yes", env=variables(shop_url)).returncode == 0
    for source in ("LEGACY", "auto"):
        assert stockshift("read-source", source, env=variables(shop_url)).returncode == 0
        status = json.loads(stockshift("status", "--json", env=variables(shop_url)).stdout)
        assert status["read_source"] == source.upper()


# Verifying


def test_verify_writes_its_report_whole(migrated_url: str, tmp_path: Path) -> None:
    report, lines = tmp_path / "report.json", tmp_path / "items.csv"
    lines.write_text("of an earlier run")
    lines.chmod(0o640)
    done = stockshift("verify", "--json", str(report), "--csv", str(lines), env=variables(migrated_url))
    assert done.returncode == 0, done.stderr
    assert json.loads(report.read_text())["items_matched"] == 5
    assert [row["result"] for row in csv.DictReader(lines.read_text().splitlines())] == ["MATCH"] * 5
    assert lines.stat().st_mode & 0o777 == 0o640
    assert sorted(tmp_path.iterdir()) == [lines, report]


def test_verify_names_a_mismatch_and_says_no(migrated_url: str) -> None:
    execute(migrated_url, """UPDATE stock_batches SET quantity = quantity + 1 WHERE "itemId" = 'item-3'""")
    done = stockshift("verify", env=variables(migrated_url))
    assert done.returncode == 1
    assert 'OPENING_BATCH_CHANGED item-3 "Item 3": legacy 3, batches 4, difference 1' in done.stdout
    assert "the opening batch was changed after the copy, by " in done.stdout
    assert "  explained by DIRECT: 1 items, +1 units\n" in done.stdout
    piped = stockshift("verify", "--json", "-", env=variables(migrated_url))
    assert piped.returncode == 1
    told = json.loads(piped.stdout)
    assert (told["items_mismatched"], told["row_counts"]["stock_batches"]) == (1, 5)
    assert [place["conserved"] for place in told["conservation"]] == [True]
    assert [(one["kind"], one["items"], one["units"]) for one in told["explanations"]] == [("DIRECT", 1, 1)]
    rows = list(csv.DictReader(io.StringIO(stockshift("verify", "--csv", "-", env=variables(migrated_url)).stdout)))
    assert [row["item_id"] for row in rows if row["result"] == "MISMATCH"] == ["item-3"]


def test_reports_are_listed_shown_again_and_compared(migrated_url: str, tmp_path: Path) -> None:
    execute(migrated_url, """UPDATE stock_batches SET quantity = quantity + 1 WHERE "itemId" = 'item-3'""")
    env = variables(migrated_url)
    made = stockshift("verify", env=env)
    listed = stockshift("verify", "--list", env=env)
    assert listed.returncode == 0
    latest, first = listed.stdout.splitlines()
    assert re.fullmatch(r" +2  .* UTC  FAILED +5 items, 1 mismatches, \d+\.\d s, by .+", latest)
    assert re.fullmatch(r" +1  .* UTC  PASSED +5 items, 0 mismatches, \d+\.\d s, by .+", first)
    lines = tmp_path / "mismatches.csv"
    again = stockshift("verify", "--report", "2", "--csv", str(lines), env=env)
    assert (again.returncode, again.stdout) == (1, made.stdout)
    assert [row["item_id"] for row in csv.DictReader(lines.read_text().splitlines())] == ["item-3"]
    assert stockshift("verify", "--report", "1", env=env).returncode == 0
    worse = stockshift("verify", "--compare", "1", "2", env=env)
    assert worse.returncode == 1
    assert worse.stdout.startswith('new: 1\nOPENING_BATCH_CHANGED item-3 "Item 3"')
    assert worse.stdout.endswith("still there: 0\ngone: 0\n")
    better = stockshift("verify", "--compare", "2", "1", env=env)
    assert (better.returncode, better.stdout.splitlines()[-3:-1][0][:7]) == (0, "gone: 1")
    assert "there is no report 7; `stockshift verify --list`" in said(stockshift("verify", "--report", "7", env=env), 2)


@pytest.mark.parametrize("option", ["--json", "--csv"])
def test_a_file_that_cannot_be_written_is_told_before_anything_is_compared(
    migrated_url: str, tmp_path: Path, option: str
) -> None:
    before = execute(migrated_url, "SELECT count(*) FROM stockshift.verification")
    for place in (tmp_path / "no folder" / "report", tmp_path):
        line = said(stockshift("verify", option, str(place), env=variables(migrated_url)), 2)
        assert f"cannot write {place}" in line
    assert execute(migrated_url, "SELECT count(*) FROM stockshift.verification") == before


def test_a_failed_verification_leaves_no_part_of_a_file(migrated_url: str, tmp_path: Path) -> None:
    kept = tmp_path / "report.json"
    kept.write_text("of an earlier run")
    execute(migrated_url, "DROP TABLE stockshift.verification_mismatch")
    done = stockshift("verify", "--json", str(kept), "--csv", str(tmp_path / "items.csv"), env=variables(migrated_url))
    said(done, 1)
    assert list(tmp_path.iterdir()) == [kept]
    assert kept.read_text() == "of an earlier run"


def test_a_disk_that_is_full_is_one_line(migrated_url: str) -> None:
    for option in ("--json", "--csv"):
        line = said(stockshift("verify", option, "/dev/full", env=variables(migrated_url)), 2)
        assert "No space left on device" in line
    with Path("/dev/full").open("w") as full:
        assert "No space left on device" in said(started("plan", env=variables(migrated_url), stdout=full), 2)


# Terminals


HOSTILE = "\x1b]0;owned\x07\x1b[2Jre\u202ed\x9b31m"


def test_what_the_shop_stores_is_shown_and_not_obeyed(shop_url: str) -> None:
    execute(shop_url, "UPDATE locations SET name = E'" + HOSTILE + "' WHERE id = 'acme-main'")
    add_items(shop_url, 2)
    execute(shop_url, "UPDATE items SET id = E'" + HOSTILE + "', name = E'" + HOSTILE + "' WHERE id = 'item-1'")
    execute(
        shop_url,
        'ALTER TABLE items ALTER "costPerUnitUSD" DROP NOT NULL',
        'UPDATE items SET "costPerUnitUSD" = NULL WHERE id = E\'' + HOSTILE + "'",
    )
    plan = stockshift("plan", env=variables(shop_url))
    assert plan.returncode == 0
    assert r"\x1b]0;owned\x07\x1b[2Jre\u202ed" in plan.stdout
    execute(shop_url, 'UPDATE items SET "costPerUnitUSD" = 1')
    migrate = stockshift("migrate", "--yes", env=variables(shop_url))
    execute(shop_url, "UPDATE stock_batches SET quantity = 77")
    verify = stockshift("verify", env=variables(shop_url))
    assert verify.returncode == 1
    for done in (plan, migrate, verify):
        shown = done.stdout + done.stderr
        assert all(each.isprintable() or each == "\n" for each in shown), shown


def test_long_and_wide_names_keep_the_columns_of_a_table(shop_url: str) -> None:
    execute(shop_url, "UPDATE locations SET name = repeat('仓库', 500) WHERE id = 'acme-main'")
    add_items(shop_url, 2)
    plan = stockshift("plan", env=variables(shop_url)).stdout
    (line,) = [line for line in plan.splitlines() if "仓库" in line]
    assert "… " in line
    assert len(line) < 100


@pytest.mark.parametrize(
    "env", [{"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}, {"LANG": "C", "LC_ALL": ""}]
)
def test_a_terminal_that_lacks_the_letters_gets_them_spelled_out(shop_url: str, env: dict[str, str]) -> None:
    execute(shop_url, "UPDATE locations SET name = '仓库 søn' WHERE id = 'acme-main'")
    add_items(shop_url, 1)
    done = started("plan", env=env | variables(shop_url))
    assert done.returncode == 0
    assert done.stderr == ""


def test_a_reader_that_goes_away_is_no_failure(shop_url: str) -> None:
    add_items(shop_url, 3)
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = started("plan", env=variables(shop_url), stdout=writer)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


# Tokens and schema


async def test_a_token_is_what_a_service_with_the_same_secret_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOCKSHIFT_JWT_SECRET", SECRET)
    arguments = ["token", "--role", "Manager", "--company", "acme", "--ttl", "7d", "--subject", "me"]
    done = stockshift(*arguments, env={"STOCKSHIFT_JWT_SECRET": SECRET})
    viewer = await TokenVerifier.from_settings(load_settings()).verify(done.stdout.strip())
    assert (viewer.subject, viewer.role.name, viewer.company) == ("me", "MANAGER", "acme")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--ttl", "soon"], "'soon'"),
        (["--ttl", "0m"], "'0m'"),
        (["--company", ""], "companyId"),
        (["--subject", " "], "sub"),
    ],
)
def test_a_token_that_nobody_would_accept_is_not_made(arguments: list[str], words: str) -> None:
    line = said(stockshift("token", "--role", "staff", *arguments, env={"STOCKSHIFT_JWT_SECRET": SECRET}), 2)
    assert words in line


def test_a_token_without_a_secret_says_what_to_set() -> None:
    assert "STOCKSHIFT_JWT_SECRET is not set" in said(stockshift("token", "--role", "staff"), 2)


def test_a_secret_that_can_be_guessed_is_not_repeated() -> None:
    line = said(stockshift("token", "--role", "staff", env={"STOCKSHIFT_JWT_SECRET": "hunter2"}), 2)
    assert "at least 32" in line
    assert "hunter2" not in line


def test_the_schema_needs_no_database(tmp_path: Path) -> None:
    done = stockshift("schema", cwd=tmp_path)
    assert done.returncode == 0
    assert "type StockBatch" in done.stdout


def test_a_commands_environment_is_its_own() -> None:
    """The harness: what the tests' own environment holds does not leak into a command's."""
    assert not [name for name in environment() if name.startswith(("STOCKSHIFT_", "DATABASE_URL"))]
    assert STOCKSHIFT.exists()
