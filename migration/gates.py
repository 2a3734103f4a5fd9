"""The gates of contract (R25): what must hold before the legacy columns are dropped, each open or closed and why."""

from dataclasses import dataclass

from sqlalchemy import Text, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from db.errors import StockshiftError
from db.shape import Shape, load_shape
from migration.archive import contracted, latest_archive, rolled_back
from migration.capture import is_capturing

LEGACY = tuple(tables.COMPARED_COLUMNS.values())
DAYS = 7
FRESH_HOURS = 24
EXAMPLES = 5
WHILE_CONTRACTED = "while contracted"
"""The application that is recorded for items that were made while there were no legacy columns."""


class GateClosed(StockshiftError):
    """A gate of contract is closed; `stockshift contract` without --confirm shows them all. Nothing was changed."""


@dataclass(frozen=True)
class Gate:
    """`reason` says why it is closed, or what keeps it open."""

    name: str
    open: bool
    reason: str


# An item that has neither stock nor status nor location answers the same without its legacy columns.
NOT_CUT_OVER = """
SELECT count(*) AS number, (array_agg(i.id ORDER BY i.id))[1:5] AS examples
FROM {items} LEFT JOIN stockshift.copy_ledger l ON l.item_id = i.id
WHERE l.cut_over_at IS NULL
  AND (l.item_id IS NOT NULL OR COALESCE(i."quantityInStock", 0) <> 0 OR i.status IS NOT NULL
       OR i."locationId" IS NOT NULL)
"""
NONE_LEFT = text(NOT_CUT_OVER.format(items="public.items i"))
# If all were once, those that were taken back, or written since: neither takes a scan.
NONE_SINCE = text(
    NOT_CUT_OVER.format(
        items="""(
    SELECT item_id AS id FROM stockshift.copy_ledger WHERE cut_over_at IS NULL UNION SELECT unnest(:written)
) AS since JOIN public.items i USING (id)"""
    )
).bindparams(bindparam("written", type_=ARRAY(Text)))
VERIFIED = text(
    """
    WITH report AS (
        SELECT id, state, started_at, finished_at, started_at >= now() - make_interval(days => :days) AS late
        FROM stockshift.verification WHERE company_id IS NULL AND state <> 'RUNNING'
    )
    SELECT
        (SELECT min(id) FROM report WHERE late AND state = 'FAILED') AS failed,
        (SELECT state FROM report WHERE NOT late ORDER BY id DESC LIMIT 1) AS before,
        (SELECT id FROM report ORDER BY id DESC LIMIT 1) AS last,
        (SELECT state = 'PASSED' AND finished_at >= now() - make_interval(hours => :hours)
                AND started_at >= COALESCE(
                    (SELECT max(cut_over_at) FROM stockshift.copy_ledger
                     WHERE CAST(:written AS text[]) IS NULL OR item_id = ANY (:written)), '-infinity')
         FROM report ORDER BY id DESC LIMIT 1) AS fresh
    """
).bindparams(bindparam("written", type_=ARRAY(Text)), days=DAYS, hours=FRESH_HOURS)
# What we write ourselves is recorded under operations of its own.
WRITTEN = text(
    """
    SELECT w.item_id, COALESCE(w.application, '') AS application, w.role,
           to_char(w.at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS at, count(*) OVER () AS number
    FROM stockshift.legacy_write w
    WHERE w.operation IN ('INSERT', 'UPDATE', 'UNREADABLE') AND w.at >= now() - make_interval(days => :days)
      AND (w.operation <> 'UPDATE' OR NOT w.after ? 'id') AND w.application IS DISTINCT FROM :contracted
    ORDER BY w.at DESC LIMIT 1
    """
).bindparams(days=DAYS, contracted=WHILE_CONTRACTED)
REHEARSED = text(
    """
    SELECT (details ->> 'matched')::boolean AS matched, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS at
    FROM stockshift.audit WHERE action = 'REHEARSED' ORDER BY id DESC LIMIT 1
    """
)
# What DROP COLUMN would refuse, or take along without our putting it back: not keys, indexes and defaults.
DEPENDENTS = text(
    """
    SELECT DISTINCT CASE WHEN d.classid = 'pg_catalog.pg_rewrite'::regclass
        THEN (SELECT pg_describe_object('pg_class'::regclass, r.ev_class, 0) FROM pg_catalog.pg_rewrite r
              WHERE r.oid = d.objid)
        ELSE pg_describe_object(d.classid, d.objid, d.objsubid) END AS name
    FROM pg_catalog.pg_depend d
    JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
    LEFT JOIN pg_catalog.pg_attrdef f ON d.classid = 'pg_catalog.pg_attrdef'::regclass AND f.oid = d.objid
    WHERE d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = 'public.items'::regclass
      AND a.attname = ANY (:columns)
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k
                      WHERE d.classid = 'pg_catalog.pg_constraint'::regclass AND k.oid = d.objid
                        AND k.conrelid = d.refobjid)
      AND (f.oid IS NULL OR f.adnum <> a.attnum)
      AND NOT (d.classid = 'pg_catalog.pg_class'::regclass
               AND EXISTS (SELECT FROM pg_catalog.pg_index x WHERE x.indexrelid = d.objid))
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
                      WHERE d.classid = 'pg_catalog.pg_trigger'::regclass AND t.oid = d.objid
                        AND p.pronamespace = to_regnamespace('stockshift'))
    ORDER BY 1
    """
).bindparams(bindparam("columns", list(LEGACY), ARRAY(Text)))


async def gates(
    connection: AsyncConnection, confirm: str | None = None, *, written: list[str] | None = None
) -> list[Gate]:
    """All of them, in the order in which a shop opens them; the last only where the operator gave a name to confirm.

    Before the migration, after a rollback and after the contract there is one, which is closed. `written`: all gates
    were open a moment ago, and these items were written since; then it takes no time, whatever the number of items.
    """
    shape = await load_shape(connection)
    if why := await _nothing_to_contract(connection, shape):
        return [Gate("migrated", False, why)]
    found = [
        await _all_cut_over(connection, written),
        await _verified(connection, written),
        await _nobody_writes(connection),
        await _rehearsed(connection),
        _answers_from_batches(shape),
        await _write_back_off(connection),
        await _no_dependents(connection),
    ]
    if confirm is not None:
        name: str = (await connection.execute(select(func.current_database()))).scalar_one()
        found.append(Gate("database named", confirm == name, f"this is database {name!r}, and {confirm!r} was given"))
    return found


def require_open(found: list[Gate]) -> None:
    """Raises GateClosed, with the reason of each that is."""
    if closed := [f"{gate.name}: {gate.reason}" for gate in found if not gate.open]:
        raise GateClosed(f"{len(closed)} of {len(found)} gates are closed: {'; '.join(closed)}")


async def _nothing_to_contract(connection: AsyncConnection, shape: Shape) -> str | None:
    if words := await rolled_back(connection):
        return words
    if words := await contracted(connection):
        return words
    archive = await latest_archive(connection, "CONTRACT")
    if archive is not None:
        return f"the undo of the contract of {archive.made_at:%Y-%m-%d %H:%M:%S} UTC did not finish; run it again"
    if not (
        shape.expanded
        and shape.has_columns(tables.items, LEGACY)
        and shape.has(tables.copy_ledger)
        and shape.has_columns(tables.setting, ["write_back"])
    ):
        return "no migration has begun here, or an earlier version did it; `stockshift migrate` comes first"
    return None


async def _all_cut_over(connection: AsyncConnection, written: list[str] | None) -> Gate:
    since = None if written is None else {"written": written}
    row = (await connection.execute(NONE_LEFT if since is None else NONE_SINCE, since)).one()
    if row.number:
        some = ", ".join(row.examples)
        return Gate("all cut over", False, f"{row.number} items are not, such as {some}; `stockshift cut-over --all`")
    return Gate("all cut over", True, "every item's batches are its truth")


async def _verified(connection: AsyncConnection, written: list[str] | None) -> Gate:
    """Passed at both ends of the week, and never failed within: drift fails a verification, and resets the week.

    Who cuts an item over writes its flag, so it is one of those `written`.
    """
    name, row = "verified for a week", (await connection.execute(VERIFIED, {"written": written})).one()
    if row.failed is not None:
        return Gate(name, False, f"verification {row.failed} failed within {DAYS} days; the week begins anew after it")
    if row.before != "PASSED":
        why = "the last one before that failed" if row.before else "there is none from before that"
        return Gate(name, False, f"one must have passed {DAYS} days ago or earlier, and {why}")
    if not row.fresh:
        return Gate(
            name,
            False,
            f"the latest, {row.last}, is not a passed one of the last {FRESH_HOURS} hours and after the last cut-over; "
            "`stockshift verify`",
        )
    return Gate(name, True, f"every verification of the last {DAYS} days passed, the latest is {row.last}")


async def _nobody_writes(connection: AsyncConnection) -> Gate:
    name = "no legacy writes"
    if not await is_capturing(connection):
        return Gate(name, False, "the triggers that would record one are not all on; `stockshift migrate` puts them on")
    row = (await connection.execute(WRITTEN)).one_or_none()
    if row is None:
        return Gate(name, True, f"no other program wrote a legacy column in the last {DAYS} days")
    return Gate(
        name,
        False,
        f"{row.number} in the last {DAYS} days, the latest of item {row.item_id} by application {row.application!r}, "
        f"user {row.role}, at {row.at} UTC",
    )


async def _rehearsed(connection: AsyncConnection) -> Gate:
    row = (await connection.execute(REHEARSED)).one_or_none()
    if row is None:
        return Gate("rehearsed", False, "no backup was restored in rehearsal; `stockshift backup`, then `rehearse`")
    if not row.matched:
        return Gate("rehearsed", False, f"the latest rehearsal, at {row.at} UTC, did not match")
    return Gate("rehearsed", True, f"a backup was restored in rehearsal and matched, at {row.at} UTC")


def _answers_from_batches(shape: Shape) -> Gate:
    is_auto = shape.read_source == "AUTO"
    why = "reads come from batches" if is_auto else "reads come from the legacy columns; `stockshift read-source auto`"
    return Gate("reads from batches", is_auto, why)


async def _write_back_off(connection: AsyncConnection) -> Gate:
    on = bool(await connection.scalar(select(tables.setting.c.write_back)))
    why = "it is on, as somebody still reads the legacy columns; `stockshift write-back off`" if on else "it is off"
    return Gate("write-back off", not on, why)


async def _no_dependents(connection: AsyncConnection) -> Gate:
    names = list((await connection.execute(DEPENDENTS)).scalars())
    if names:
        listed = ", ".join(names[:EXAMPLES])
        return Gate("no dependents", False, f"{listed} depend on legacy columns; drop them, or have them use batches")
    return Gate("no dependents", True, "no view, trigger or policy uses a legacy column")
