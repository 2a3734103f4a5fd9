"""The audit, read (who did what to the migration, when and from where)."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from db.shape import load_shape


@dataclass(frozen=True)
class Act:
    """`application`, `role` and `client` are the session's: its name, its user, the address it came from, None through
    a socket. `details` by the action."""

    id: int
    at: datetime
    action: str
    actor: str
    application: str
    role: str
    client: str | None
    details: dict[str, Any]


async def read_history(connection: AsyncConnection) -> list[Act]:
    """All of it, oldest first; nothing before the expansion."""
    shape = await load_shape(connection)
    entry = shape.relation(tables.audit, "entry")
    return [Act(**row._asdict()) for row in await connection.execute(select(*entry.c).order_by(entry.c.id))]
