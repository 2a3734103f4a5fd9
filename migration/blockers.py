"""What must be put right before a migration can run: another shape, missing rights, rows that would be overlooked."""

from sqlalchemy import Table, text
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from db.errors import StockshiftError
from db.shape import Shape
from migration.comparison import count_named, dangling
from migration.expand import DIALECT, existing, keys_to_add


class Blocked(StockshiftError):
    """Something must be put right before the migration can run; `stockshift plan` lists it."""

    def __init__(self, blockers: list[str]) -> None:
        self.blockers = blockers
        super().__init__("the migration cannot run: " + "; ".join(blockers))


SCHEMAS = text(
    """
    SELECT nspname::text AS name, has_schema_privilege(oid, 'USAGE') AS usable,
           pg_has_role(nspowner, 'USAGE') AS own, current_user AS role
    FROM pg_catalog.pg_namespace WHERE nspname IN ('public', 'stockshift') ORDER BY 1
    """
)

RELATION = text(
    """
    SELECT
        c.relkind::text AS kind,
        c.relpersistence <> 'p' AS transient,
        row_security_active(c.oid) AS row_security,
        EXISTS (SELECT FROM pg_catalog.pg_inherits WHERE inhparent = c.oid) AS inherited,
        pg_has_role(c.relowner, 'USAGE') AS own,
        has_table_privilege(c.oid, 'REFERENCES') AS refer,
        has_table_privilege(c.oid, 'UPDATE') OR has_table_privilege(c.oid, 'DELETE') AS lock,
        EXISTS (
            SELECT FROM pg_catalog.pg_index x
            JOIN pg_catalog.pg_attribute a ON a.attrelid = x.indrelid AND a.attnum = x.indkey[0]
            WHERE x.indrelid = c.oid AND x.indisunique AND x.indisvalid AND x.indimmediate AND x.indpred IS NULL
              AND x.indnkeyatts = 1 AND a.attname = 'id' AND a.attnotnull
        ) AS keyed,
        ARRAY(
            SELECT t.tgname::text FROM pg_catalog.pg_trigger t
            JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
            WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled IN ('O', 'A')
              AND t.tgtype::int & 4 <> 0 AND p.pronamespace IS DISTINCT FROM to_regnamespace('stockshift')
            UNION ALL
            SELECT rulename::text FROM pg_catalog.pg_rewrite
            WHERE ev_class = c.oid AND ev_type = '3' AND ev_enabled IN ('O', 'A')
        ) AS on_insert
    FROM pg_catalog.pg_class c WHERE c.oid = to_regclass(:relation)
    """
)

COLUMNS = text(
    """
    SELECT
        a.attname::text AS name,
        CASE WHEN a.atttypid = to_regtype('public."Status"') THEN 'public."Status"'
             ELSE format_type(a.atttypid, NULL) END AS type,
        CASE WHEN a.atttypid = to_regtype('public."Status"') THEN 'public."Status"'
             ELSE format_type(a.atttypid, a.atttypmod) END AS exact_type,
        a.attnotnull AND NOT a.atthasdef AND a.attidentity = '' AS must_be_given,
        a.attgenerated <> '' OR a.attidentity = 'a' AS computed,
        a.attcollation NOT IN (0, (SELECT oid FROM pg_catalog.pg_collation WHERE collname = 'default')) AS collated,
        has_column_privilege(a.attrelid, a.attnum, 'SELECT') AS readable
    FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = to_regclass(:relation) AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attnum
    """
)

# What is read may be of a narrower type than what is written; what is written must hold every value as it is.
READABLE_TYPES = {
    "TEXT": {"text", "character varying"},
    "INTEGER": {"integer", "smallint"},
    "DOUBLE PRECISION": {"double precision", "real"},
    "TIMESTAMP(3) WITHOUT TIME ZONE": {"timestamp without time zone"},
    'public."Status"': {'public."Status"', "text", "character varying"},
    "BOOLEAN": {"boolean"},
}
WRITABLE_TYPES = {
    "TEXT": {"text", "character varying"},
    "INTEGER": {"integer"},
    "DOUBLE PRECISION": {"double precision"},
    "TIMESTAMP(3) WITHOUT TIME ZONE": {
        "timestamp(3) without time zone",
        "timestamp(6) without time zone",
        "timestamp without time zone",
    },
    'public."Status"': {'public."Status"'},
}
OPTIONAL_COLUMNS = {"minStockLevel", "sellingPriceSRD", tables.USE_BATCH_SYSTEM.name}

PRIVILEGES = text(
    """
    SELECT has_database_privilege(current_database(), 'CREATE') AS create_schema,
           has_schema_privilege('public', 'CREATE') AS create_table,
           current_user AS role, pg_is_in_recovery() AS replica
    """
)


async def find_closed_schemas(connection: AsyncConnection) -> list[str]:
    """Schemas that this role may not look into, or whose owner it is not; nothing else can be asked before."""
    found = []
    for schema in await connection.execute(SCHEMAS):
        if not schema.usable:
            found.append(f"role {schema.role!r} may not use schema {schema.name}; GRANT USAGE on it")
        elif schema.name == "stockshift" and not schema.own:
            found.append(f"role {schema.role!r} does not own schema stockshift; migrate as its owner")
    return found


async def find_misfits(connection: AsyncConnection, shape: Shape) -> list[str]:
    """Where the tables are not of the shape that is migrated, or cannot be read whole, each as a sentence."""
    misfits = []
    for table in (tables.items, tables.locations, tables.users):
        misfits += await _misfits_of(connection, table)
    if shape.columns.get(tables.stock_batches.fullname):
        misfits += await _misfits_of(connection, tables.stock_batches)
    for table in tables.stockshift.sorted_tables:
        misfits += await _lacking(connection, table)
    if "ToOrder" not in shape.status_labels:  # the default of stock_batches.status
        misfits.append('type public."Status" with a label ToOrder does not exist; this is no database of that shape')
    return misfits


async def _misfits_of(connection: AsyncConnection, table: Table) -> list[str]:
    name = table.fullname
    facts = (await connection.execute(RELATION, {"relation": name})).one_or_none()
    if facts is None:
        return [f"table {name} does not exist, or this role may not see it"]
    kinds = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "p": "a partitioned table"}
    if facts.kind != "r":
        return [f"{name} is {kinds.get(facts.kind, 'no table')}; only a plain table can be migrated"]
    wrong = {
        f"{name} has tables that inherit from it; only a plain table can be migrated": facts.inherited,
        f"{name} is unlogged or temporary; ALTER TABLE {name} SET LOGGED": facts.transient,
        f"{name} has no unique key on id, or id may be NULL; add its primary key": not facts.keyed,
        f"row security hides rows of {name} from this role, and they would be lost; migrate as a role with BYPASSRLS,"
        f" or ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY meanwhile": facts.row_security,
    }
    return [sentence for sentence, stands in wrong.items() if stands] + await _column_misfits(connection, table)


async def _column_misfits(connection: AsyncConnection, table: Table) -> list[str]:
    name, written = table.fullname, table is tables.stock_batches
    present = {row.name: row for row in await connection.execute(COLUMNS, {"relation": name})}
    described = [*table.columns, *([tables.USE_BATCH_SYSTEM] if table is tables.items else [])]
    misfits = []
    for column in described:
        wanted = column.type.compile(dialect=DIALECT)
        there = present.pop(column.name, None)
        if there is None:
            if column.name not in OPTIONAL_COLUMNS:
                misfits.append(f"{name} has no column {column.name!r} ({wanted})")
            continue
        fits = there.exact_type in WRITABLE_TYPES[wanted] if written else there.type in READABLE_TYPES[wanted]
        if not fits:
            misfits.append(f"{name}.{column.name} is {there.exact_type}, not {wanted}")
        if written and there.computed:
            misfits.append(f"{name}.{column.name} is generated, so an item's value cannot be put there")
        if there.collated:
            misfits.append(f"{name}.{column.name} has a collation of its own; give it the database's default")
        if not there.readable:
            misfits.append(f"this role may not read {name}.{column.name}; GRANT SELECT on {name}")
    if written:
        misfits += [
            f"{name}.{column.name} must be given for every batch, and Stockshift does not know it; give it a default"
            for column in present.values()
            if column.must_be_given
        ]
    return misfits


async def _lacking(connection: AsyncConnection, table: Table) -> list[str]:
    """A table of schema stockshift that lacks a column which ours always had is not ours."""
    present = {row.name for row in await connection.execute(COLUMNS, {"relation": table.fullname})}
    lacking = sorted({column.name for column in table.columns} - present)
    addable = {column.name for column in table.columns if column.nullable or column.server_default is not None}
    if not present or addable - set(table.primary_key.columns.keys()) >= set(lacking):
        return []
    return [f"table {table.fullname} exists and lacks {', '.join(lacking)}: it is not Stockshift's; rename its schema"]


async def find_blockers(connection: AsyncConnection, shape: Shape) -> list[str]:
    """What else must be put right first, each as a sentence that says how; empty when the migration can run."""
    may = (await connection.execute(PRIVILEGES)).one()
    role = repr(may.role)
    there = await existing(connection)
    batches = tables.stock_batches.fullname in there.relations
    blockers = {
        "this server is a replica and cannot be written; set DIRECT_URL to the primary": may.replica,
        f"role {role} may not create a schema; GRANT CREATE ON DATABASE": not (may.create_schema or there.schema),
        f"role {role} may not create tables; GRANT CREATE ON SCHEMA public": not (may.create_table or batches),
    }
    found = [blocker for blocker, stands in blockers.items() if stands]
    facts = {
        table: (await connection.execute(RELATION, {"relation": table.fullname})).one()
        for table in (tables.items, tables.locations, tables.users, *([tables.stock_batches] if batches else []))
    }
    found += [
        f"role {role} does not own table {table.fullname}; migrate as its owner, or GRANT that role to it"
        for table in (tables.items, tables.stock_batches)
        if table in facts and not facts[table].own
    ]
    if keys_to_add(there):
        found += [
            f"role {role} may not add keys that refer to {table.fullname}; GRANT REFERENCES, UPDATE on it"
            for table in (tables.locations, tables.users)
            if not (facts[table].refer and facts[table].lock)
        ]
    if batches:
        found += [
            f"trigger or rule {name!r} of stock_batches would run for every copied batch; disable it meanwhile"
            for name in facts[tables.stock_batches].on_insert
        ]
        for name, query in dangling(shape, None).items():
            count, examples = await count_named(connection, query)
            if count:
                found.append(f"{count} {name}: {', '.join(examples)}; delete or mend them")
    return found
