"""Where reads come from (R4): kept in the database, so every process changes over with the next statement."""

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from db.shape import ReadSource, load_shape
from migration import audit
from migration.archive import contracted
from migration.rollback import Contracted
from migration.verify import MigrationNotStarted


async def set_read_source(connection: AsyncConnection, source: ReadSource, actor: str) -> None:
    """In the caller's transaction. Raises MigrationNotStarted before the expansion, Contracted after the contract:
    there is one source then."""
    if not (await load_shape(connection)).expanded:
        raise MigrationNotStarted
    if source == "LEGACY" and (words := await contracted(connection)):
        raise Contracted(words)
    made = insert(tables.setting).values(read_source=source)
    await connection.execute(
        made.on_conflict_do_update(
            index_elements=[tables.setting.c.only_row], set_={"read_source": made.excluded.read_source}
        )
    )
    await audit.record(connection, "READ_SOURCE_SET", actor, to=source)
