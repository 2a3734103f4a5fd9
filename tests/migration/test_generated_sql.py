"""What an online migration sends passes squawk, a linter of migrations, save for what docs/decisions/0014 argues.

It is taken down as it is sent, each transaction as one, on databases where it takes each of its ways.
"""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from db import tables
from db.indexes import BATCH_INDEXES, BATCHES_OF_AN_ITEM, ITEM_INDEXES
from migration.capture import FUNCTIONS, TRIGGERS
from migration.online import migrate_online
from tests.conftest import MakeTemplate, database_on, fill_shop
from tests.migration.support import engine_on
from tests.resolvers.shop import STOCK_BATCHES, fill_stock, insert_batch
from tests.support import Connection, psql

SQUAWK = Path(sys.executable).parent / "squawk"
OLDEST_SERVER = "14.0"
DECISION = Path(__file__).parents[2] / "docs" / "decisions" / "0014-generated-sql.md"


@dataclass(frozen=True)
class Argued:
    """A finding that is argued: the rule, in which database, of which statements."""

    rule: str
    where: str
    statement: str

    def covers(self, finding: "Finding") -> bool:
        fits = re.search(self.statement, finding.statement) is not None
        return (self.rule, fits) == (finding.rule, True) and self.where in (finding.where, "anywhere")


ALONE = r"\A(CREATE INDEX CONCURRENTLY|ALTER TABLE public\.stock_batches VALIDATE CONSTRAINT|DROP INDEX CONCURRENTLY)"
ARGUED = [
    Argued("require-lock-timeout", "anywhere", ALONE),
    Argued("require-statement-timeout", "anywhere", ALONE),
    Argued("prefer-robust-stmts", "anywhere", ALONE),
    Argued("require-statement-timeout", "anywhere", r"\A(CREATE SCHEMA|ALTER TABLE) stockshift"),
    Argued("require-concurrent-index-creation", "without batches", r'\ACREATE INDEX "?stock_batches_'),
    Argued("adding-foreign-key-constraint", "without batches", r'ADD CONSTRAINT "stock_batches_\w+_fkey"'),
    Argued("constraint-missing-not-valid", "without batches", r'ADD CONSTRAINT "stock_batches_\w+_fkey"'),
    Argued("prefer-timestamp-tz", "without batches", r"\ACREATE TABLE public\.stock_batches"),
    Argued("prefer-bigint-over-int", "without batches", r"\ACREATE TABLE public\.stock_batches"),
    Argued("prefer-bigint-over-int", "anywhere", r"\ACREATE TABLE stockshift\.(migration_run|verification_check)"),
]


@dataclass(frozen=True)
class Finding:
    rule: str
    where: str
    statement: str
    message: str


@dataclass
class Sent:
    """Statements in the order of their ends: those of a transaction together, one outside of any by itself."""

    scripts: list[list[str]] = field(default_factory=list)
    _open: dict[Any, list[str]] = field(default_factory=dict)

    def note(self, connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        if connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT":
            self.scripts.append([statement.strip()])
        else:
            key = connection.connection.dbapi_connection
            self._open.setdefault(key, ["BEGIN"]).append(statement.strip())

    def end(self, connection: Any) -> None:
        if statements := self._open.pop(connection.connection.dbapi_connection, []):
            self.scripts.append([*statements, "COMMIT"])

    @asynccontextmanager
    async def by(self, engine: AsyncEngine) -> AsyncIterator[None]:
        event.listen(engine.sync_engine, "before_cursor_execute", self.note)
        event.listen(engine.sync_engine, "commit", self.end)
        event.listen(engine.sync_engine, "rollback", self.end)
        yield


def findings(where: str, scripts: Sequence[Sequence[str]], folder: Path) -> list[Finding]:
    folder.mkdir()
    for number, statements in enumerate(scripts):
        (folder / f"{number}.sql").write_text("".join(f"{statement};\n" for statement in statements))
    names = [f"{number}.sql" for number in range(len(scripts))]
    command = [
        str(SQUAWK),
        "--reporter=json",
        f"--pg-version={OLDEST_SERVER}",
        "--include=require-table-schema",
        *names,
    ]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, check=False, text=True)
    found = []
    for one in json.loads(done.stdout):
        statements = scripts[int(one["file"].removesuffix(".sql"))]
        found.append(Finding(one["rule_name"], where, statement_at(statements, one["line"]), one["message"]))
    return found


def statement_at(statements: Sequence[str], line: int) -> str:
    """The statement of a line, counted from 0, when each begins on a new one."""
    for statement in statements:
        line -= statement.count("\n") + 1
        if line < 0:
            return statement
    raise AssertionError(line)


async def migrated(url: str) -> list[list[str]]:
    sent = Sent()
    async with engine_on(url) as engine, sent.by(engine):
        outcome = await migrate_online(engine, driver="test")
    assert outcome.state == "FINISHED"
    return sent.scripts


@dataclass(frozen=True)
class LookedOver:
    """What was sent, and what squawk found in it."""

    scripts: list[list[str]]
    findings: list[Finding]


DAMAGE = """
    UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'public.stockshift_items_name_idx'::regclass;
    ALTER TABLE stockshift.migration_run DROP COLUMN rate, DROP COLUMN waiting;
    ALTER TABLE public.items DISABLE TRIGGER stockshift_follow_update;
    DROP TRIGGER stockshift_move_update ON public.stock_batches
"""
"""An index half made, tables of an earlier version of ours, a trigger off and one gone."""


@pytest.fixture(scope="module")
def looked_over(make_template: MakeTemplate, server_url: str, tmp_path_factory: pytest.TempPathFactory) -> LookedOver:
    """Three migrations: of a shop that has no batches, of one that has, and of that again when it was damaged."""
    folder = tmp_path_factory.mktemp("sql")

    async def fill(connection: Connection) -> None:
        await fill_shop(connection)
        await fill_stock(connection)

    async def fill_with_batches(connection: Connection) -> None:
        await fill(connection)
        await connection.execute(STOCK_BATCHES)
        await insert_batch(connection, "by-hand", "mug")

    async def damage(url: str) -> None:
        async with psql(url) as connection:
            await connection.execute(DAMAGE)

    fresh, adopted = (database_on(server_url, make_template(one)) for one in (fill, fill_with_batches))
    migrations = [("without batches", fresh), ("with batches", adopted), ("again", adopted)]
    scripts: list[list[str]] = []
    found: list[Finding] = []
    for where, url in migrations:
        if where == "again":
            asyncio.run(damage(url))
        sent = asyncio.run(migrated(url))
        scripts += sent
        found += findings(where, sent, folder / where)
    return LookedOver(scripts, found)


def test_squawk_finds_nothing_but_what_is_argued(looked_over: LookedOver) -> None:
    unargued = [found for found in looked_over.findings if not any(argued.covers(found) for argued in ARGUED)]
    assert unargued == []


def test_nothing_is_argued_that_is_not_found(looked_over: LookedOver) -> None:
    assert [one for one in ARGUED if not any(one.covers(found) for found in looked_over.findings)] == []


def test_the_argument_is_written_down() -> None:
    argued = set(re.findall(r"\*\*`([a-z-]+)`\*\*", DECISION.read_text()))
    assert argued == {one.rule for one in ARGUED}


def test_what_was_looked_over_is_all_that_a_migration_makes(looked_over: LookedOver) -> None:
    """The harness: every kind of step was sent, by whichever of the migrations has it, and was taken down."""
    sent = [statement for script in looked_over.scripts for statement in script]
    for words in (
        "CREATE SCHEMA stockshift",
        *(f"CREATE TABLE {table.fullname}" for table in (*tables.stockshift.sorted_tables, tables.stock_batches)),
        "ALTER TABLE stockshift.migration_run ADD COLUMN",
        *(f"CREATE OR REPLACE FUNCTION stockshift.{name}(" for name in FUNCTIONS),
        *(f"CREATE OR REPLACE TRIGGER {name}" for name in TRIGGERS),
        *(f"ENABLE ALWAYS TRIGGER {name}" for name in TRIGGERS),
        *(f'CREATE INDEX "{index.name}"' for index in BATCHES_OF_AN_ITEM.values()),
        *(f'CREATE INDEX CONCURRENTLY "{index.name}"' for index in BATCH_INDEXES.values()),
        *(f"CREATE INDEX CONCURRENTLY {index.name}" for index in ITEM_INDEXES.values()),
        "DROP INDEX CONCURRENTLY",
        *(f'ADD CONSTRAINT "stock_batches_{column}_fkey"' for column in tables.STOCK_BATCHES_REFERENCES),
        "NOT VALID",
        "VALIDATE CONSTRAINT",
        'ADD COLUMN "useBatchSystem"',
        "INSERT INTO stockshift.copy_ledger",
        "LOCK TABLE public.items IN ACCESS EXCLUSIVE MODE NOWAIT",
    ):
        assert any(words in statement for statement in sent), words


def test_a_statement_that_is_wrong_would_be_found(tmp_path: Path) -> None:
    """The harness: squawk reads what it is given, and its findings are of the statement in which they are."""
    scripts = [
        ["BEGIN", "SELECT\n1", "DROP TABLE public.items", "COMMIT"],
        ['ALTER TABLE public.items ALTER "notes" SET NOT NULL'],
        ["CREATE TABLE"],
    ]
    found = {(one.rule, one.statement) for one in findings("anywhere", scripts, tmp_path / "wrong")}
    assert ("ban-drop-table", scripts[0][2]) in found
    assert ("adding-not-nullable-field", scripts[1][0]) in found
    assert ("syntax-error", scripts[2][0]) in found
