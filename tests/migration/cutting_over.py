"""Cutting over, taking back and writing back, as the tests ask for it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import await_only

from migration.cut_over import cut_over
from migration.in_chunks import Outcome, Selection, all_items
from migration.take_back import take_back
from migration.write_back import set_write_back
from tests.migration.support import at_statements, engine_on
from tests.support import Connection, psql


async def cut(url: str, *ids: str, **others: Any) -> Outcome:
    """These items, or all."""
    async with engine_on(url) as engine:
        return await cut_over(engine, Selection(all_items(), ids or None), actor="test", **others)


async def taken_back(url: str, *ids: str, **others: Any) -> Outcome:
    async with engine_on(url) as engine:
        return await take_back(engine, Selection(all_items(), ids or None), actor="test", **others)


async def write_back(url: str, *, on: bool = True) -> Outcome:
    async with engine_on(url) as engine:
        return await set_write_back(engine, on=on, actor="test")


@asynccontextmanager
async def killed_before(url: str, words: str, *, time: int = 1) -> AsyncIterator[AsyncEngine]:
    """An engine whose session the server ends before the first statement that has these words in it, or a later one."""
    seen = 0
    async with engine_on(url) as engine, psql(url) as killer:

        def kill(statement: str, _: object) -> None:
            nonlocal seen
            seen += words in statement
            if words in statement and seen == time:
                await_only(
                    killer.execute(
                        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                        " WHERE application_name = 'stockshift test' AND state = 'idle in transaction'"
                    )
                )

        with at_statements(engine, kill):
            yield engine
    assert seen >= time, f"no statement {time} had {words!r} in it"


def kinds(outcome: Outcome) -> dict[str, str]:
    """Why items were refused, in a word each."""
    return {item_id: refusal.kind for item_id, refusal in outcome.refused.items()}


async def cut_over_items(connection: Connection) -> list[str]:
    """As the ledger has it, and the flag, which must agree for all that were copied."""
    rows = await connection.fetch(
        """
        SELECT i.id, l.cut_over_at IS NOT NULL AS entered, i."useBatchSystem" AS flag
        FROM items i LEFT JOIN stockshift.copy_ledger l ON l.item_id = i.id ORDER BY i.id
        """
    )
    assert [row["id"] for row in rows if row["entered"]] == [row["id"] for row in rows if row["flag"]]
    return [row["id"] for row in rows if row["entered"]]


async def legacy(connection: Connection, item_id: str) -> tuple[int | None, str | None, str | None]:
    """What an old reader sees: quantity, status, location."""
    row = await connection.fetchrow(
        """SELECT "quantityInStock", status::text, "locationId" FROM items WHERE id = $1""", item_id
    )
    assert row is not None
    return row[0], row[1], row[2]


async def opening(connection: Connection, item_id: str, **values: Any) -> None:
    """Somebody writes the item's opening batch, past the service."""
    assignments = ", ".join(f'"{name}" = ${number}' for number, name in enumerate(values, 2))
    done = await connection.execute(
        f"UPDATE stock_batches SET {assignments}"
        " WHERE id = (SELECT batch_id FROM stockshift.copy_ledger WHERE item_id = $1)",
        item_id,
        *values.values(),
    )
    assert done == "UPDATE 1"


async def writes_of(connection: Connection, item_id: str) -> list[tuple[str, bool, Any, Any]]:
    """What was recorded of an item's legacy columns: by what, whether it is in the opening batch, before and after."""
    rows = await connection.fetch(
        "SELECT operation, followed, before::text, after::text FROM stockshift.legacy_write"
        " WHERE item_id = $1 ORDER BY id",
        item_id,
    )
    return [(row[0], row[1], *(None if text is None else json.loads(text) for text in row[2:])) for row in rows]
