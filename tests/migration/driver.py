"""A driver of a migration as a process of its own: `python -m tests.migration.driver URL NAME [WORDS]`.

Prints what came of it. Before the first statement with WORDS in it, it waits for advisory lock 42, which the test has.
"""

import asyncio
import sys
from typing import Any

import stamina

from db.errors import StockshiftError
from migration.atomic import migrate_atomic
from tests.migration.support import at_statements, engine_on


async def drive(url: str, name: str, words: str | None) -> None:
    def pause(statement: str, cursor: Any) -> None:
        nonlocal words
        if words is not None and words in statement:
            words = None
            cursor.execute("SET LOCAL lock_timeout = 0")
            cursor.execute("SELECT pg_advisory_xact_lock(42)")

    async with engine_on(url) as engine:
        with at_statements(engine, pause):
            try:
                outcome = await migrate_atomic(engine, driver=name, lock_timeout_ms=100)
                sys.stdout.write(f"copied {outcome.copied}\n")
            except StockshiftError as error:
                sys.stdout.write(f"{type(error).__name__}: {error}\n")


if __name__ == "__main__":
    stamina.set_testing(testing=True, attempts=1)
    asyncio.run(drive(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None))
