"""Capture: the triggers that keep both systems in step, whoever writes (R7, R10, R11).

They are put on before the first item is copied, so no write after it can be missed. What they do: db/sql/capture.sql.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from migration.step import Step

SOURCE = Path(__file__).parent.parent / "db" / "sql" / "capture.sql"
FUNCTIONS: Mapping[str, str] = {
    name: block.strip()
    for name, block in re.findall(
        r"^-- name: (\w+)\n(?:--[^\n]*\n)*(.*?;)\s*(?=^-- name:|\Z)",
        SOURCE.read_text("utf-8"),
        re.DOTALL | re.MULTILINE,
    )
}
"""By name: the statement that makes the function, or makes it anew."""

SEARCH_PATH = "search_path=pg_catalog, pg_temp"


@dataclass(frozen=True)
class Trigger:
    """`rest` is all between the table's name and the function's."""

    table: str
    why: str
    when: str
    rest: str
    function: str

    def make(self, name: str) -> str:
        return self.describe(name).replace("CREATE", "CREATE OR REPLACE", 1)

    def describe(self, name: str) -> str:
        """As PostgreSQL describes it."""
        fires = f"{self.when} ON {self.table} {self.rest}"
        return f"CREATE TRIGGER {name} {fires} EXECUTE FUNCTION stockshift.{self.function}()"


TRIGGERS: Mapping[str, Trigger] = {
    "stockshift_follow_update": Trigger(
        "public.items",
        "opening batches follow the legacy columns, and every write of these is recorded",
        "AFTER UPDATE",
        "FOR EACH ROW",
        "follow_item",
    ),
    "stockshift_follow_insert": Trigger(
        "public.items",
        "items that are inserted are recorded",
        "AFTER INSERT",
        "REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT",
        "follow_inserted_items",
    ),
    "stockshift_follow_delete": Trigger(
        "public.items",
        "items that are deleted are recorded",
        "AFTER DELETE",
        "REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT",
        "follow_deleted_items",
    ),
    "stockshift_follow_truncate": Trigger(
        "public.items",
        "items that are truncated are recorded",
        "BEFORE TRUNCATE",
        "FOR EACH STATEMENT",
        "follow_truncated_items",
    ),
    "stockshift_move_insert": Trigger(
        "public.stock_batches",
        "a batch that comes leaves a movement; what is copied is in the copy ledger",
        "AFTER INSERT",
        "FOR EACH ROW WHEN ((current_setting('stockshift.reason'::text, true) IS DISTINCT FROM 'COPY'::text))",
        "move_batch",
    ),
    "stockshift_move_update": Trigger(
        "public.stock_batches",
        "a batch whose quantity changes leaves a movement",
        "AFTER UPDATE",
        "FOR EACH ROW",
        "move_batch",
    ),
    "stockshift_move_delete": Trigger(
        "public.stock_batches",
        "a batch that goes leaves a movement",
        "AFTER DELETE",
        "FOR EACH ROW",
        "move_batch",
    ),
    "stockshift_move_truncate": Trigger(
        "public.stock_batches",
        "batches that are truncated leave movements",
        "BEFORE TRUNCATE",
        "FOR EACH STATEMENT",
        "move_truncated_batches",
    ),
}

WRITE_BACK_TRIGGERS: Mapping[str, Trigger] = {
    f"stockshift_write_back_{event.lower()}": Trigger(
        "public.stock_batches",
        "the legacy columns of items that are cut over follow their batches",
        f"AFTER {event}",
        rest,
        "follow_batches",
    )
    for event, rest in {
        "INSERT": "REFERENCING NEW TABLE AS came FOR EACH STATEMENT"
        " WHEN ((current_setting('stockshift.reason'::text, true) IS DISTINCT FROM 'COPY'::text))",
        "UPDATE": "REFERENCING OLD TABLE AS went NEW TABLE AS came FOR EACH STATEMENT",
        "DELETE": "REFERENCING OLD TABLE AS went FOR EACH STATEMENT",
        "TRUNCATE": "FOR EACH STATEMENT",
    }.items()
}
"""Put on by `stockshift write-back on` (migration/write_back.py), and by nothing else."""


@dataclass(frozen=True)
class Captured:
    """What of it is in the database: functions and triggers that are as they are here, triggers that always fire."""

    functions: frozenset[str]
    triggers: frozenset[str]
    enabled: frozenset[str]


THERE = text(
    """
    SELECT
        ARRAY(
            SELECT concat_ws(' ', p.proname, array_to_string(p.proconfig, ' '), p.prosrc) FROM pg_catalog.pg_proc p
            WHERE p.pronamespace = to_regnamespace('stockshift') AND p.prosecdef
        ) AS functions,
        ARRAY(
            SELECT t.tgenabled::text || pg_get_triggerdef(t.oid)
            FROM pg_catalog.pg_trigger t
            JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
            WHERE p.pronamespace = to_regnamespace('stockshift')
        ) AS triggers
    """
)


CAPTURING = text(
    """
    SELECT count(*) FROM pg_catalog.pg_trigger t
    WHERE t.tgrelid IN (to_regclass('public.items'), to_regclass('public.stock_batches'))
      AND t.tgname = ANY (CAST(:names AS text[])) AND t.tgenabled IN ('O', 'A')
    """
)


def needed(*, contracted: bool = False) -> Mapping[str, Trigger]:
    """By name. After the contract there is nothing to be captured of items."""
    return {name: one for name, one in TRIGGERS.items() if not (contracted and one.table == tables.items.fullname)}


async def is_capturing(connection: AsyncConnection, *, contracted: bool = False) -> bool:
    """Every trigger is on, so what is copied now is followed from now on."""
    names = list(needed(contracted=contracted))
    return bool(await connection.scalar(CAPTURING, {"names": names}) == len(names))


async def captured(connection: AsyncConnection) -> Captured:
    row = (await connection.execute(THERE)).one()
    functions, triggers = set(row.functions), {one[1:]: one[0] for one in row.triggers}
    made = {name: trigger.describe(name) for name, trigger in {**TRIGGERS, **WRITE_BACK_TRIGGERS}.items()}
    return Captured(
        frozenset(name for name, sql in FUNCTIONS.items() if f"{name} {SEARCH_PATH} {_body(sql)}" in functions),
        frozenset(name for name, described in made.items() if described in triggers),
        frozenset(name for name, described in made.items() if triggers.get(described) == "A"),
    )


def functions_to_make(there: Captured) -> list[Step]:
    """They lock no table."""
    steps = []
    for name, sql in FUNCTIONS.items():
        if name not in there.functions:
            steps.append(Step(f"what a trigger does: {name.replace('_', ' ')}", sql.removesuffix(";")))
            revoke = f"REVOKE EXECUTE ON FUNCTION stockshift.{name} FROM PUBLIC"
            steps.append(Step(f"{name} is for triggers alone", revoke))
    return steps


def triggers_to_put(there: Captured, table: str) -> list[Step]:
    """On `public.items` or `public.stock_batches`; they lock it against writers, for a moment."""
    steps = []
    for name, trigger in TRIGGERS.items():
        if trigger.table != table or name in there.enabled:
            continue
        if name not in there.triggers:
            steps.append(Step(trigger.why, trigger.make(name)))
        always = f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}"
        steps.append(Step(f"{name} fires for a replicated write too", always))
    return steps


def capture_to_put(there: Captured) -> list[Step]:
    return [
        *functions_to_make(there),
        *triggers_to_put(there, tables.items.fullname),
        *triggers_to_put(there, tables.stock_batches.fullname),
    ]


def _body(sql: str) -> str:
    return sql.split("$body$")[1]
