"""The plan of weeks: where the shop stands between its backup and the last step, and what speaks against going on.

It is read from what was recorded (audit, runs, verifications of all companies) and from the status, in one statement;
and from the items that are to be cut over still, and the gates of contract where that is next.
A stage that is not done is NEXT when it follows the last that is, or was skipped; a backup is, once a run has begun.
After a rollback everything begins anew; once that is undone, the weeks before it count again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

from sqlalchemy import func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from db.shape import Shape, load_shape
from migration.candidates import wanted
from migration.gates import gates
from migration.status import Status

StageName = Literal["BACKUP", "MIGRATE", "TEST_ONE_ITEM", "WEEK_1", "WEEK_2", "MONTH_1", "CONTRACT"]
StageState = Literal["DONE", "NEXT", "LATER"]
STAGES: tuple[StageName, ...] = get_args(StageName)
DAYS: Mapping[StageName, int] = {"WEEK_1": 7, "WEEK_2": 14, "MONTH_1": 30}
"""Since the copy was finished."""
WHAT: Mapping[StageName, str] = {
    "BACKUP": "keep a backup, and try everything on a copy: `stockshift backup`, `stockshift rehearse`",
    "MIGRATE": "copy every item: `stockshift migrate`",
    "TEST_ONE_ITEM": "cut one item over and look at it: `stockshift cut-over ID`",
    "WEEK_1": "both systems run; verify daily: `stockshift verify`",
    "WEEK_2": "both systems run; cut items over little by little",
    "MONTH_1": "everything is cut over and verifies: `stockshift cut-over --all`",
    "CONTRACT": "optional: drop the legacy columns: `stockshift contract`",
}
Facts = Mapping[str, Any]
FACTS = text(
    """
    WITH rolled_back AS (  -- the last rollback that was not undone
        SELECT coalesce(max(at), '-infinity') AS at
        FROM (
            SELECT action, at, lead(action) OVER (ORDER BY id) AS then_
            FROM stockshift.audit WHERE action IN ('ROLLED_BACK', 'ROLLBACK_UNDONE')
        ) AS turn
        WHERE action = 'ROLLED_BACK' AND then_ IS DISTINCT FROM 'ROLLBACK_UNDONE'
    ),
    act AS (SELECT a.id, a.action, a.at FROM stockshift.audit a, rolled_back WHERE a.at > rolled_back.at),
    migrated AS (  -- the first run of all items that ended well
        SELECT min(r.finished_at) AS at FROM stockshift.migration_run r, rolled_back
        WHERE r.state = 'FINISHED' AND r.finished_at > rolled_back.at
          AND coalesce(r.options -> 'items', '[]') = '[]'
    ),
    report AS (
        SELECT v.id, v.state, v.finished_at, v.started_at - migrated.at AS after
        FROM stockshift.verification v, migrated
        WHERE v.company_id IS NULL AND v.state IN ('PASSED', 'FAILED') AND v.finished_at >= migrated.at
    ),
    latest AS (SELECT id, state FROM report ORDER BY id DESC LIMIT 1),
    contract AS (
        SELECT action, at FROM act WHERE action IN ('CONTRACTED', 'CONTRACT_UNDONE') ORDER BY id DESC LIMIT 1
    )
    SELECT clock_timestamp() AS now,
           (SELECT min(at) FROM act WHERE action IN ('BACKED_UP', 'REHEARSED')) AS "BACKUP",
           (SELECT at FROM migrated) AS "MIGRATE",
           (SELECT min(at) FROM act WHERE action = 'CUT_OVER') AS "TEST_ONE_ITEM",
           (SELECT min(finished_at) FROM report WHERE state = 'PASSED' AND after >= :week_1) AS "WEEK_1",
           (SELECT min(finished_at) FROM report WHERE state = 'PASSED' AND after >= :week_2) AS "WEEK_2",
           (SELECT min(finished_at) FROM report WHERE state = 'PASSED' AND after >= :month_1) AS "MONTH_1",
           (SELECT at FROM contract WHERE action = 'CONTRACTED') AS "CONTRACT",
           (SELECT id FROM latest) AS verification,
           (SELECT state FROM latest) AS outcome
    """
).bindparams(**{name.lower(): timedelta(days=days) for name, days in DAYS.items()})


@dataclass(frozen=True)
class Stage:
    """`since`: when it was done. `against`: what is to be waited for, or put right, before this one is done."""

    name: StageName
    state: StageState
    what: str
    since: datetime | None
    against: tuple[str, ...] = ()


async def read_schedule(connection: AsyncConnection, status: Status) -> list[Stage]:
    """`status` is of all companies."""
    shape = await load_shape(connection)
    facts: Facts = {}
    if shape.has(tables.audit):
        facts = (await connection.execute(FACTS)).one()._asdict()
    facts = {**facts, "left": await _not_cut_over(connection, shape)}
    since = {name: _since(name, facts) for name in STAGES}
    if since["CONTRACT"] is not None:  # it was let go of: what came later changes nothing of that
        states: list[StageState] = ["DONE"] * len(STAGES)
    else:
        last = max((number for number, name in enumerate(STAGES) if since[name]), default=0 if status.run else -1)
        states = [
            "DONE" if since[name] else "NEXT" if number <= last + 1 else "LATER" for number, name in enumerate(STAGES)
        ]
    named = dict(zip(STAGES, states, strict=True))
    against = {name: list(_against(name, facts, status)) for name, state in named.items() if state == "NEXT"}
    if "CONTRACT" in against:
        against["CONTRACT"] += [f"{gate.name}: {gate.reason}" for gate in await gates(connection) if not gate.open]
    return [Stage(name, state, WHAT[name], since[name], tuple(against.get(name, ()))) for name, state in named.items()]


async def _not_cut_over(connection: AsyncConnection, shape: Shape) -> int:
    """Items that are to be: of one that has nothing to copy there never will be a batch."""
    item, ledger = shape.relation(tables.items, "item"), shape.relation(tables.copy_ledger, "ledger")
    left = (
        select(func.count())
        .select_from(item.outerjoin(ledger, ledger.c.item_id == item.c.id))
        .where(ledger.c.cut_over_at.is_(None), or_(ledger.c.item_id.is_not(None), wanted(item)))
    )
    return (await connection.execute(left)).scalar_one()


def _since(name: StageName, facts: Facts) -> datetime | None:
    if name == "MONTH_1" and facts["left"]:
        return None
    done: datetime | None = facts.get(name)
    return done


def _against(name: StageName, facts: Facts, status: Status) -> Iterator[str]:
    if name == "BACKUP":
        if not facts.get("MIGRATE"):
            yield "a backup of before the migration is not on record here: its folder is the proof"
        return
    if name == "MIGRATE":
        run = status.run
        if run is not None and "MIGRATE" not in facts:
            yield "an earlier version began it: `stockshift migrate` makes what is missing here"
        if run is not None and (run.unfinished or run.state == "FAILED"):
            state = "INTERRUPTED" if run.interrupted else run.state
            yield (
                f"run {run.id} is {state}, {run.items_copied} of {run.items_total} items are copied;"
                " `stockshift migrate` goes on"
            )
        return
    if name == "CONTRACT":
        return  # its gates say it
    if facts["MIGRATE"] is None:
        yield "the copy of all items is not finished"
    elif name in DAYS:
        left = facts["MIGRATE"] + timedelta(days=DAYS[name]) - facts["now"]
        if left > timedelta():
            days = left.days + (left.seconds > 0 or left.microseconds > 0)
            yield f"{_many(days, 'day is', 'days are')} left"
        elif facts[name] is None:
            over = "month" if name == "MONTH_1" else "week"
            yield f"no verification of all companies has passed since the {over} was over"
    if name == "MONTH_1" and facts["left"]:
        yield f"{facts['left']} of {status.items} items are not cut over"
    if facts["outcome"] == "FAILED":
        yield f"verification {facts['verification']} failed; `stockshift verify` says why"
    if status.drifted:
        yield _many(status.drifted, "item has drifted", "items have drifted")
    if status.read_source == "LEGACY":
        yield "reads come from the legacy columns; `stockshift read-source auto` takes them back"


def _many(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"
