"""`rehearse`: the whole migration on a copy of the shop, from its backup, with the time that each stage takes.

Nothing of the shop itself is touched. The report is kept beside the backup, and told to the live database's audit if
that is the one the backup is of.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import connecting
from db.url import DatabaseUrl
from migration.backup import tell
from migration.manifest import identity
from migration.online import migrate_online
from migration.plan import Decision, make_plan
from migration.progress import Report, silent
from migration.report import VerificationReport, load_report
from migration.restore import restore
from migration.verify import verify

NAME = "rehearsal.json"
LISTED = 20


@dataclass(frozen=True)
class Rehearsal:
    """`seconds` by stage, in their order. `matched`: the restored database was the one that was backed up, and every
    item that can be copied was, and verified. Without a `verification` the plan had `blockers`, and nothing was copied.

    `server` is the version that was rehearsed on; items: `copied`, and `held_back` as the plan's `decisions` say.
    """

    backup: str
    database: dict[str, str | None]
    backup_made_at: datetime
    rehearsed_at: datetime
    rehearsed_by: str
    server: str
    matched: bool
    seconds: dict[str, float]
    items: int
    quantity: int
    copied: int
    held_back: int
    blockers: list[str]
    decisions: list[Decision]
    verification: VerificationReport | None

    def to_json(self) -> bytes:
        told = asdict(self)
        if self.verification is not None:
            told["verification"]["mismatches"] = told["verification"]["mismatches"][:LISTED]
        return orjson.dumps(told, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


async def rehearse(
    engine: AsyncEngine,
    url: DatabaseUrl,
    directory: Path,
    *,
    rehearsed_by: str,
    lock_timeout_ms: int = 2_000,
    progress: Report = silent,
) -> Rehearsal:
    """Restores the backup into the empty scratch database of `engine` and `url`, migrates and verifies it there.

    Raises what `restore`, `make_plan`, `migrate_online` and `verify` do. The scratch database is the caller's to drop.
    """
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(stage: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        seconds[stage] = round(time.monotonic() - start, 3)

    with timed("restore"):
        restored = await restore(engine, url, directory, progress=progress)
    with timed("plan"):
        plan = await make_plan(engine, lock_timeout_ms=lock_timeout_ms)
    copied, report, passed = 0, None, False
    if plan.ready:
        with timed("migrate"):
            done = await migrate_online(
                engine,
                driver=rehearsed_by,
                requested_by=rehearsed_by,
                lock_timeout_ms=lock_timeout_ms,
                progress=progress,
            )
        with timed("verify"):
            verified = await verify(engine, requested_by=rehearsed_by)
        async with connecting(engine) as connection:
            report = await load_report(connection, verified.id, None)
        copied, passed = done.copied, verified.passed and done.state == "FINISHED"
    manifest = restored.manifest
    return Rehearsal(
        backup=manifest.id,
        database=manifest.database,
        backup_made_at=manifest.made_at,
        rehearsed_at=datetime.now(UTC),
        rehearsed_by=rehearsed_by,
        server=restored.server,
        matched=passed,
        seconds=seconds,
        items=manifest.contents.totals.items,
        quantity=manifest.contents.totals.quantity,
        copied=copied,
        held_back=sum(decision.count for decision in plan.decisions if decision.held_back),
        blockers=plan.blockers,
        decisions=plan.decisions,
        verification=report,
    )


async def tell_live(engine: AsyncEngine, rehearsal: Rehearsal, actor: str) -> bool:
    """Into the audit of the database that the backup is of, where `stockshift contract` looks; whether it was."""
    async with connecting(engine) as connection:
        if await identity(connection) != rehearsal.database:
            return False
    told: dict[str, Any] = {
        "matched": rehearsal.matched,
        "backup": rehearsal.backup,
        "database": rehearsal.database,
        "backup_made_at": rehearsal.backup_made_at.isoformat(),
        "seconds": rehearsal.seconds,
    }
    return await tell(engine, "REHEARSED", actor, **told)
