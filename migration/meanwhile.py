"""What an undo of a rollback has to know, and what takes a scan: found beside everybody, and up to date in a moment.

All items are compared with those that the archive kept, in a snapshot; under the lock, only those written since.
"""

from dataclasses import dataclass

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from migration.archive import Archive
from migration.draft import SCHEMA, Changed, horizon_of, shape_of, written_since

ITEMS = tables.items.fullname
LEGACY = tuple(tables.COMPARED_COLUMNS.values())
FLAG = tables.USE_BATCH_SYSTEM.name
REFERENCES = {
    name: target.fullname for name, (target, _) in tables.STOCK_BATCHES_REFERENCES.items() if target is not tables.items
}
"""What a batch refers to beside its item, by column."""
COLUMNS = ("id", *[f'"{name}"' for name in LEGACY])
# What was folded into an item is taken out of it again, and what was sold since is kept.
UNFOLDED = """CASE WHEN f.item_id IS NULL THEN i."quantityInStock" WHEN i."quantityInStock" = f.after THEN f.before
    ELSE i."quantityInStock" - (f.after - COALESCE(f.before, 0)) END"""


@dataclass(frozen=True)
class Meanwhile:
    """In SCHEMA the ids of items: `written` ones have other legacy columns, less what was folded, than `kept` ones in
    the archive; `inserted` and `deleted` ones are not in the one or the other.

    Of what was archived, which nobody writes: how many `batches` there are, the places and people that they name (by
    column, in `named`), and the `flag` that most items had; those that had another are in `flagged`.
    """

    place: str
    folded: bool
    kept: int
    batches: int
    flag: bool
    horizon: str
    shape: tuple[str, ...]

    @property
    def current(self) -> str:
        fold = f"{self.place}.fold" if self.folded else "(SELECT NULL AS item_id, 0 AS before, 0 AS after) AS"
        return f"{ITEMS} i LEFT JOIN {fold} f ON f.item_id = i.id"

    @property
    def queries(self) -> dict[str, str]:
        """Whose `{among}` says which items are looked at."""
        values = {name: UNFOLDED if name == "quantityInStock" else f'i."{name}"' for name in LEGACY}
        differs = " OR ".join(f'{value} IS DISTINCT FROM k."{name}"' for name, value in values.items())
        kept = f"{self.place}.item k"
        known = f"SELECT FROM {kept} WHERE k.id = i.id"
        return {
            "written": f"SELECT i.id FROM {self.current} JOIN {kept} ON k.id = i.id WHERE ({differs}) {{among}}",
            "inserted": f"SELECT i.id FROM {ITEMS} i WHERE NOT EXISTS ({known}) {{among}}",
        }

    @property
    def gone(self) -> str:
        return f"SELECT k.id FROM {self.place}.item k WHERE NOT EXISTS (SELECT FROM {ITEMS} i WHERE i.id = k.id)"


async def compare(connection: AsyncConnection, archive: Archive) -> Meanwhile:
    """Of all items, in the transaction of `one_draft_snapshot`."""
    folded = await connection.scalar(select(func.to_regclass(f"{archive.place}.fold"))) is not None
    counts = f"""
        SELECT count(*) AS kept, count(*) FILTER (WHERE "{FLAG}") * 2 > count(*) AS flag,
               (SELECT count(*) FROM {archive.place}.stock_batches) AS batches
        FROM {archive.place}.item
    """
    row = (await connection.execute(text(counts))).one()
    horizon, shape = await horizon_of(connection), await shape_of(connection, ITEMS, COLUMNS)
    found = Meanwhile(archive.place, folded, row.kept, row.batches, row.flag, horizon, shape)
    await connection.exec_driver_sql(
        f'CREATE TABLE {SCHEMA}.flagged AS SELECT id, "{FLAG}" AS flag FROM {archive.place}.item'
        f' WHERE "{FLAG}" IS DISTINCT FROM {row.flag}'
    )
    each = [
        f"""SELECT DISTINCT '{name}' AS "column", "{name}" AS id FROM {archive.place}.stock_batches"""
        for name in REFERENCES
    ]
    await connection.exec_driver_sql(f"CREATE TABLE {SCHEMA}.named AS {' UNION ALL '.join(each)}")
    for name, query in {**found.queries, "deleted": found.gone}.items():
        await connection.exec_driver_sql(f"CREATE TABLE {SCHEMA}.{name} AS {query.format(among='')}")
        await connection.exec_driver_sql(f"ALTER TABLE {SCHEMA}.{name} ADD PRIMARY KEY (id)")
        await connection.exec_driver_sql(f"ANALYZE {SCHEMA}.{name}")
    return found


async def bring_up_to_date(connection: AsyncConnection, found: Meanwhile) -> None:
    """While nobody else writes items. Raises Changed."""
    if await shape_of(connection, ITEMS, COLUMNS) != found.shape:
        raise Changed
    since = await written_since(connection, ITEMS, "id", found.horizon)
    for name, query in found.queries.items():
        await connection.execute(
            text(f"DELETE FROM {SCHEMA}.{name} WHERE id = ANY (:written)"), {"written": since.keys}
        )
        again = query.format(among="AND i.id = ANY (:written)")
        await connection.execute(text(f"INSERT INTO {SCHEMA}.{name} {again}"), {"written": since.keys})
    if since.rows != await _expected(connection, found):
        await connection.exec_driver_sql(f"DELETE FROM {SCHEMA}.deleted")
        await connection.exec_driver_sql(f"INSERT INTO {SCHEMA}.deleted {found.gone}")
        unknown = f"DELETE FROM {SCHEMA}.{{}} n WHERE NOT EXISTS (SELECT FROM {ITEMS} i WHERE i.id = n.id)"
        for name in found.queries:
            await connection.exec_driver_sql(unknown.format(name))
    if since.rows != await _expected(connection, found):
        raise Changed


async def _expected(connection: AsyncConnection, found: Meanwhile) -> int:
    """How many items there must be."""
    query = f"SELECT (SELECT count(*) FROM {SCHEMA}.inserted) - (SELECT count(*) FROM {SCHEMA}.deleted)"
    more: int = (await connection.execute(text(query))).scalar_one()
    return found.kept + more
