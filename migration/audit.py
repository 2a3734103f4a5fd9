"""The audit: who did what to the migration, when and from where, written with what was done, in its transaction.

It only grows: a trigger refuses all but INSERT, to its owner and to a superuser too. Who takes that off leaves it off
for `verify` to name.
"""

from typing import Any, Literal, get_args

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from migration.step import Step

Action = Literal[
    "MIGRATION_BEGUN",
    "MIGRATION_ENDED",
    "MIGRATION_ASKED",
    "VERIFIED",
    "REPAIRED",
    "READ_SOURCE_SET",
    "CUT_OVER",
    "TAKEN_BACK",
    "WRITE_BACK_SET",
    "ROLLED_BACK",
    "ROLLBACK_UNDONE",
    "CONTRACTED",
    "CONTRACT_UNDONE",
    "BACKED_UP",
    "REHEARSED",
]

CONCERNS_ALL: frozenset[Action] = frozenset(get_args(Action)) - {"VERIFIED", "REPAIRED", "CUT_OVER", "TAKEN_BACK"}
"""What is done to every company alike; the others may be done for one of them, or to some items."""

AUDIT = tables.audit.fullname
TRIGGER = "audit_only_grows"
REFUSES = "stockshift.refuse_to_change_audit"
ONLY_GROWS = [
    Step(
        "the audit only grows: what refuses all else",
        f"""\
CREATE OR REPLACE FUNCTION {REFUSES}() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
    RAISE EXCEPTION 'stockshift.audit only grows: % is refused', TG_OP
        USING HINT = 'What was wrong is set right by another entry.';
END
$body$""",
    ),
    Step("what refuses it is for a trigger alone", f"REVOKE EXECUTE ON FUNCTION {REFUSES} FROM PUBLIC"),
    Step(
        "the audit only grows",
        f"CREATE OR REPLACE TRIGGER {TRIGGER} BEFORE UPDATE OR DELETE OR TRUNCATE ON {AUDIT}"
        f" FOR EACH STATEMENT EXECUTE FUNCTION {REFUSES}()",
    ),
    Step("the audit only grows, by a replicated write too", f"ALTER TABLE {AUDIT} ENABLE ALWAYS TRIGGER {TRIGGER}"),
]


async def record(connection: AsyncConnection, action: Action, actor: str, **details: Any) -> None:
    """Appends to the audit, in the caller's transaction. `details` are JSON; lists of items are cut by the caller.

    An act of one company alone says `company`; who sees one company is told only of its own, and of what all have.
    A database that an earlier version expanded has no audit until it is migrated again, and is acted on all the same.
    """
    if await connection.scalar(select(func.to_regclass(AUDIT))) is not None:
        await connection.execute(insert(tables.audit).values(action=action, actor=actor, details=details))
