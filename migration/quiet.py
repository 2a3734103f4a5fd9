"""Writes of ours to a table of the shop's, of which its own triggers are to know nothing.

Such as one that sets `updatedAt`: what we put back must be as it was, to the bit.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

ENABLED = {"O": "ENABLE", "A": "ENABLE ALWAYS", "R": "ENABLE REPLICA"}
SHOPS = text(
    """
    SELECT quote_ident(t.tgname) AS name, t.tgenabled::text AS enabled FROM pg_catalog.pg_trigger t
    JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
    WHERE t.tgrelid = to_regclass(:relation) AND NOT t.tgisinternal AND t.tgenabled <> 'D'
      AND p.pronamespace IS DISTINCT FROM to_regnamespace('stockshift')
    ORDER BY 1
    """
)


@asynccontextmanager
async def shop_triggers_off(connection: AsyncConnection, relation: str) -> AsyncIterator[None]:
    """In a transaction that has the table to itself; nobody else sees them off. Ours stay on."""
    triggers = (await connection.execute(SHOPS, {"relation": relation})).all()
    for trigger in triggers:
        await connection.exec_driver_sql(f"ALTER TABLE {relation} DISABLE TRIGGER {trigger.name}")
    yield
    for trigger in triggers:
        await connection.exec_driver_sql(f"ALTER TABLE {relation} {ENABLED[trigger.enabled]} TRIGGER {trigger.name}")
