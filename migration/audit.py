"""The audit: who did what to the migration, when and from where, written with what was done, in its transaction."""

from typing import Any, Literal

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables

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


async def record(connection: AsyncConnection, action: Action, actor: str, **details: Any) -> None:
    """Appends to the audit, in the caller's transaction. `details` are JSON; lists of items are cut by the caller."""
    await connection.execute(insert(tables.audit).values(action=action, actor=actor, details=details))
