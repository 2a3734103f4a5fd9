"""The triggers: whoever writes what, the opening batch follows and nothing goes unrecorded (R7, R10, R11).

A write of the shop never fails because of us: what cannot be followed is recorded as not followed.
"""

import json
import re
from datetime import datetime
from typing import Any

import asyncpg
import pytest

from db import tables
from migration.capture import FUNCTIONS, SOURCE
from tests.conftest import CopyTemplate, MakeTemplate, url_of
from tests.migration.conftest import fill_items
from tests.migration.support import migrate, verified
from tests.migration.test_plan import change
from tests.migration.test_variants import role_on
from tests.support import Connection, insert, insert_item, psql

TILL = "old till"
NULLABLE = "ALTER TABLE items " + ", ".join(
    f'ALTER "{name}" DROP NOT NULL' for name in ("status", "quantityInStock", "costPerUnitUSD", "freightCostUSD")
)
TEXTS = (
    NULLABLE,
    "ALTER TABLE items ALTER status DROP DEFAULT, ALTER status TYPE text",
    'ALTER TABLE items DROP CONSTRAINT "items_locationId_fkey", DROP CONSTRAINT "items_assignedUserId_fkey"',
)


@pytest.fixture(scope="session")
def loose_template(make_template: MakeTemplate, server_url: str) -> str:
    """Of a shop with nullable columns, statuses as text, and no keys to locations and users."""

    async def fill(connection: Connection) -> None:
        await fill_items(connection)
        for statement in TEXTS:
            await connection.execute(statement)
        await migrate(await url_of(connection, server_url))

    return make_template(fill)


@pytest.fixture
def loose_url(copy_template: CopyTemplate, loose_template: str) -> str:
    return copy_template(loose_template)


@pytest.fixture(params=["as the ORM made it", "nullable, with texts"])
def any_url(
    request: pytest.FixtureRequest, copy_template: CopyTemplate, migrated_template: str, loose_template: str
) -> str:
    return copy_template(migrated_template if request.param == "as the ORM made it" else loose_template)


async def sells(url: str, *statements: str) -> None:
    """The shop's own application."""
    async with psql(url, application_name=TILL) as till:
        for statement in statements:
            await till.execute(statement)


async def opening(url: str, item_id: str = "item-Arrived") -> dict[str, Any] | None:
    """An item's opening batch."""
    async with psql(url) as connection:
        row = await connection.fetchrow(
            """
            SELECT b.* FROM stock_batches b JOIN stockshift.copy_ledger l ON l.batch_id = b.id
            WHERE l.item_id = $1 AND b."itemId" = $1
            """,
            item_id,
        )
    return dict(row) if row else None


async def writes(url: str) -> list[tuple[Any, ...]]:
    """(item, operation, followed, before, after) of every recorded write, in its order; all by the till."""
    async with psql(url) as connection:
        rows = await connection.fetch("SELECT * FROM stockshift.legacy_write ORDER BY id")
    assert {row["application"] for row in rows} <= {TILL}
    assert all(row["role"] and row["at"] for row in rows)
    return [
        (row["item_id"], row["operation"], row["followed"], *(json.loads(row[when] or "null") for when in WHEN))
        for row in rows
    ]


WHEN = ("before", "after")


async def movements(url: str) -> list[tuple[Any, ...]]:
    """(item, delta, reason) of every movement, in its order."""
    async with psql(url) as connection:
        rows = await connection.fetch("SELECT item_id, delta, reason FROM stockshift.movement ORDER BY id")
    return [tuple(row) for row in rows]


async def net_movements(url: str) -> list[tuple[str, int, str]]:
    """In all, by item and reason: a batch that changes its status, place or cost goes as it was, and comes as it is."""
    async with psql(url) as connection:
        rows = await connection.fetch(
            "SELECT item_id, sum(delta)::bigint, reason FROM stockshift.movement GROUP BY item_id, reason"
            " HAVING sum(delta) <> 0 ORDER BY min(id)"
        )
        return [tuple(row) for row in rows]


NOON = datetime(2026, 3, 4, 12)  # noqa: DTZ001 - the shop stores UTC without a zone
WRITTEN = {
    "quantityInStock": (4, 4),
    "status": ("Sold", "Sold"),
    "costPerUnitUSD": (0.1, 0.1),
    "freightCostUSD": (0.0, 0),
    "orderDate": (NOON, "2026-03-04T12:00:00"),
    "expectedArrival": (NOON, "2026-03-04T12:00:00"),
    "orderNumber": ("PO-1", "PO-1"),
    "notes": ("it's \\ new", "it's \\ new"),
    "locationId": ("acme-harbour", "acme-harbour"),
    "assignedUserId": (None, None),
}


def test_every_legacy_column_is_written_below_and_read_in_the_triggers() -> None:
    legacy = set(tables.COMPARED_COLUMNS.values())
    assert WRITTEN.keys() == legacy
    changed = re.findall(r'OLD\."(\w+)" IS DISTINCT FROM NEW\."(\w+)"', FUNCTIONS["follow_item"])
    assert set(changed) == {(name, name) for name in legacy}
    assert set(re.findall(r"'(\w+)', i\.\"(\w+)\"", FUNCTIONS["follow_inserted_items"])) == {
        (name, name) for name in legacy
    }
    set_clause = FUNCTIONS["follow_item"].partition("UPDATE public.stock_batches b SET")[2].partition("WHERE")[0]
    assert set(re.findall(r"^ +\"?(\w+)\"? = ", set_clause, re.MULTILINE)) == tables.OPENING_COLUMNS.keys()
    read = set(re.findall(r"item\.\"(\w+)\"", FUNCTIONS["follow_item"]))
    assert read == set(tables.OPENING_COLUMNS.values())


def test_every_function_is_found_in_the_file() -> None:
    assert list(FUNCTIONS) == re.findall(r"^-- name: (\w+)$", SOURCE.read_text("utf-8"), re.MULTILINE)
    assert all("SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS" in sql for sql in FUNCTIONS.values())


async def test_the_opening_batch_follows_every_legacy_column_and_its_write_is_recorded(any_url: str) -> None:
    before = await opening(any_url)
    assert before is not None
    expected = []
    async with psql(any_url, application_name=TILL) as till:
        for batch, item in tables.COMPARED_COLUMNS.items():
            value, told = WRITTEN[item]
            was = await till.fetchval(f"SELECT to_jsonb(\"{item}\")::text FROM items WHERE id = 'item-Arrived'")
            await till.execute(f"UPDATE items SET \"{item}\" = $1 WHERE id = 'item-Arrived'", value)
            after = await opening(any_url)
            assert after == before | {batch: value}, item
            before = after
            expected.append(("item-Arrived", "UPDATE", True, {item: json.loads(was or "null")}, {item: told}))
    assert await writes(any_url) == expected
    assert await net_movements(any_url) == [("item-Arrived", -6, "LEGACY_WRITE")]
    assert (await verified(any_url)).passed


async def test_what_is_not_legacy_leaves_no_record_and_does_not_touch_the_batch(migrated_url: str) -> None:
    async with psql(migrated_url) as connection:
        before = await connection.fetch("SELECT ctid, xmin, b FROM stock_batches b ORDER BY id")
        await sells(
            migrated_url,
            "UPDATE items SET name = 'x', \"sellingPriceSRD\" = 1, supplier = 'y', \"updatedAt\" = now()",
            'UPDATE items SET "quantityInStock" = "quantityInStock", status = status',
            'UPDATE items SET "useBatchSystem" = true',
        )
        assert await connection.fetch("SELECT ctid, xmin, b FROM stock_batches b ORDER BY id") == before
    assert await writes(migrated_url) == []


@pytest.mark.parametrize(
    ("written", "followed", "becomes"),
    [
        ('"quantityInStock" = NULL', True, {"quantity": 0}),
        ('"freightCostUSD" = NULL', True, {"freightCostUSD": 0.0}),
        ("\"costPerUnitUSD\" = NULL, notes = 'x'", False, {"notes": "x"}),
        ('status = NULL, "quantityInStock" = 3', False, {"quantity": 3}),
        ("status = 'Stolen', \"quantityInStock\" = 3", False, {"quantity": 3}),
        ("\"locationId\" = 'nowhere', notes = 'x'", False, {"locationId": None, "notes": "x"}),
        ("\"assignedUserId\" = 'nobody', notes = 'x'", False, {"assignedUserId": None, "notes": "x"}),
    ],
)
async def test_what_a_batch_cannot_take_is_recorded_and_the_shops_write_goes_through(
    loose_url: str, written: str, *, followed: bool, becomes: dict[str, Any]
) -> None:
    before = await opening(loose_url)
    assert before is not None
    await sells(loose_url, f"UPDATE items SET {written} WHERE id = 'item-Arrived'")
    assert await opening(loose_url) == before | becomes
    assert [row[:3] for row in await writes(loose_url)] == [("item-Arrived", "UPDATE", followed)]
    assert (await verified(loose_url)).passed is followed


async def test_a_write_of_many_items_is_followed_and_recorded_for_each(migrated_url: str) -> None:
    await sells(migrated_url, 'UPDATE items SET "quantityInStock" = "quantityInStock" - 1')
    assert len(await writes(migrated_url)) == 7
    assert {row[1:] for row in await movements(migrated_url)} == {(-1, "LEGACY_WRITE")}
    assert (await verified(migrated_url)).passed


UPSERT = """
INSERT INTO items (id, name, "quantityInStock", "costPerUnitUSD", "sellingPriceSRD", "companyId", "updatedAt")
VALUES ('{id}', 'x', 3, 1, 1, 'acme', now())
ON CONFLICT (id) DO UPDATE SET "quantityInStock" = items."quantityInStock" + EXCLUDED."quantityInStock"
"""


async def test_an_upsert_is_an_insert_or_an_update(migrated_url: str) -> None:
    await sells(migrated_url, UPSERT.format(id="item-Arrived"), UPSERT.format(id="new"))
    found = await writes(migrated_url)
    assert found[0] == ("item-Arrived", "UPDATE", True, {"quantityInStock": 10}, {"quantityInStock": 13})
    assert found[1][:4] == ("new", "INSERT", False, None)
    assert found[1][4].keys() == WRITTEN.keys()
    assert found[1][4]["quantityInStock"] == 3
    assert (await opening(migrated_url) or {})["quantity"] == 13
    assert await opening(migrated_url, "new") is None


async def test_everything_goes_with_an_item_to_its_new_id(migrated_url: str) -> None:
    before = await opening(migrated_url)
    assert before is not None
    await sells(
        migrated_url,
        "UPDATE items SET \"quantityInStock\" = 8 WHERE id = 'item-Arrived'",
        "UPDATE items SET id = 'renamed' WHERE id = 'item-Arrived'",
        "UPDATE items SET id = 'again', \"quantityInStock\" = 7 WHERE id = 'renamed'",
    )
    assert await opening(migrated_url, "again") == before | {"itemId": "again", "quantity": 7}
    assert await movements(migrated_url) == [("again", -2, "LEGACY_WRITE"), ("again", -1, "LEGACY_WRITE")]
    assert await writes(migrated_url) == [
        ("again", "UPDATE", True, {"quantityInStock": 10}, {"quantityInStock": 8}),
        ("again", "UPDATE", True, {"id": "item-Arrived"}, {"id": "renamed"}),
        ("again", "UPDATE", True, {"quantityInStock": 8}, {"quantityInStock": 7}),
    ]
    assert (await verified(migrated_url)).passed


async def test_an_item_takes_the_id_of_one_that_was_deleted_and_nothing_of_its_history(migrated_url: str) -> None:
    before = await opening(migrated_url, "item-Sold")
    assert before is not None
    await sells(
        migrated_url,
        "DELETE FROM items WHERE id = 'item-Arrived'",
        "UPDATE items SET id = 'item-Arrived' WHERE id = 'item-Sold'",
    )
    assert await opening(migrated_url) == before | {"itemId": "item-Arrived"}
    found = [row[:3] for row in await writes(migrated_url)]
    assert found[1] == ("item-Arrived", "UPDATE", True)
    assert found[0][0].startswith("item-Arrived (deleted")
    assert [row[0].startswith("item-Arrived (deleted") for row in await movements(migrated_url)] == [True]
    async with psql(migrated_url) as connection:
        assert await connection.fetchval("SELECT count(*) FROM stockshift.copy_ledger") == 7
    assert (await verified(migrated_url)).passed


async def test_an_item_made_again_under_its_id_has_the_same_opening_batch_with_its_new_values(
    migrated_url: str,
) -> None:
    before = await opening(migrated_url)
    assert before is not None
    await sells(migrated_url, "DELETE FROM items WHERE id = 'item-Arrived'")
    assert await opening(migrated_url) is None
    async with psql(migrated_url, application_name=TILL) as till:
        await insert_item(till, "item-Arrived", quantityInStock=6, status="Sold", notes="again")
    after = await opening(migrated_url)
    assert after is not None
    assert (after["id"], after["quantity"], after["status"], after["notes"]) == (before["id"], 6, "Sold", "again")
    assert [row[:3] for row in await writes(migrated_url)] == [
        ("item-Arrived", "DELETE", True),
        ("item-Arrived", "INSERT", True),
    ]
    assert await movements(migrated_url) == [("item-Arrived", -10, "DELETED"), ("item-Arrived", 6, "LEGACY_WRITE")]
    assert (await verified(migrated_url)).passed


async def test_a_company_that_is_deleted_takes_items_and_batches_with_it_and_both_are_recorded(
    migrated_url: str,
) -> None:
    await sells(migrated_url, "DELETE FROM companies WHERE id = 'globex'")
    found = await writes(migrated_url)
    assert ("item-globex", "DELETE", True) in [row[:3] for row in found]
    assert next(row[3] for row in found if row[1] == "DELETE")["quantityInStock"] == 7
    assert await net_movements(migrated_url) == [("item-globex", -7, "DELETED")]
    assert (await verified(migrated_url)).passed


@pytest.mark.parametrize(("table", "column"), [("locations", "locationId"), ("users", "assignedUserId")])
async def test_a_location_or_user_that_is_deleted_leaves_items_and_batches_alike(
    migrated_url: str, table: str, column: str
) -> None:
    gone = "acme-main" if table == "locations" else "acme-user"
    await sells(migrated_url, f"DELETE FROM {table} WHERE id = '{gone}'")
    assert (await opening(migrated_url) or {})[column] is None
    found = await writes(migrated_url)
    assert {row[1:] for row in [(*row[:3], *map(str, row[3:])) for row in found]} == {
        ("UPDATE", True, str({column: gone}), str({column: None}))
    }
    assert len(found) in (4, 5)
    assert (await verified(migrated_url)).passed


async def test_items_are_truncated_with_their_batches_or_not_at_all_and_it_is_recorded(migrated_url: str) -> None:
    with pytest.raises(asyncpg.FeatureNotSupportedError, match="cannot truncate a table referenced"):
        await sells(migrated_url, "TRUNCATE items")
    assert await writes(migrated_url) == []
    await sells(migrated_url, "TRUNCATE items CASCADE")
    found = await writes(migrated_url)
    assert {row[1:3] for row in found} == {("TRUNCATE", True)}
    assert sum(row[3]["quantityInStock"] for row in found) == 45
    moved = await movements(migrated_url)
    assert {row[2] for row in moved} == {"TRUNCATED"}
    assert sum(row[1] for row in moved) == -45
    assert (await verified(migrated_url)).passed


async def test_a_batch_that_goes_to_another_item_leaves_the_one_and_comes_to_the_other(migrated_url: str) -> None:
    async with psql(migrated_url) as connection:
        await insert(connection, "stock_batches", id="b", itemId="item-Arrived", quantity=5, costPerUnitUSD=1.0)
        await connection.execute("UPDATE stock_batches SET \"itemId\" = 'item-Sold', quantity = 4 WHERE id = 'b'")
        await connection.execute("UPDATE stock_batches SET id = 'c', quantity = 3 WHERE id = 'b'")
        assert await connection.fetchval("SELECT count(*) FROM stockshift.movement WHERE batch_id = 'c'") == 4
        await connection.execute("DELETE FROM stock_batches WHERE id = 'c'")
    assert await movements(migrated_url) == [
        ("item-Arrived", 5, "DIRECT"),
        ("item-Arrived", -5, "DIRECT"),
        ("item-Sold", 4, "DIRECT"),
        ("item-Sold", -1, "DIRECT"),
        ("item-Sold", -3, "DELETED"),
    ]
    assert (await verified(migrated_url)).passed


async def test_an_opening_batch_under_a_new_id_goes_on_following(migrated_url: str) -> None:
    await change(migrated_url, "UPDATE stock_batches SET id = 'mine' WHERE \"itemId\" = 'item-Arrived'")
    await sells(migrated_url, "UPDATE items SET \"quantityInStock\" = 8 WHERE id = 'item-Arrived'")
    found = await opening(migrated_url)
    assert found is not None
    assert (found["id"], found["quantity"]) == ("mine", 8)


async def test_a_replicated_write_is_followed_too(migrated_url: str) -> None:
    await sells(
        migrated_url,
        "SET session_replication_role = replica; UPDATE items SET \"quantityInStock\" = 8 WHERE id = 'item-Arrived'",
        "SET session_replication_role = replica; UPDATE stock_batches SET notes = 'x', quantity = quantity"
        " WHERE \"itemId\" = 'item-Sold'",
    )
    assert (await opening(migrated_url) or {})["quantity"] == 8
    assert await movements(migrated_url) == [("item-Arrived", -2, "LEGACY_WRITE")]


async def test_a_role_that_may_do_nothing_in_our_schema_goes_on_writing_items(migrated_url: str) -> None:
    grants = ("GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON items TO {role}",)
    async with role_on(migrated_url, *grants) as shop:
        await sells(
            shop,
            "UPDATE items SET \"quantityInStock\" = 8 WHERE id = 'item-Arrived'",
            UPSERT.format(id="new"),
            "UPDATE items SET id = 'renamed' WHERE id = 'item-Ordered'",
            "DELETE FROM items WHERE id = 'item-Sold'",
        )
        async with psql(shop) as connection:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch("SELECT * FROM stockshift.legacy_write")
    assert [row[:3] for row in await writes(migrated_url)] == [
        ("item-Arrived", "UPDATE", True),
        ("new", "INSERT", False),
        ("renamed", "UPDATE", True),
        ("item-Sold", "DELETE", True),
    ]
    async with psql(migrated_url) as connection:
        roles = await connection.fetch("SELECT DISTINCT role FROM stockshift.legacy_write")
        assert [row["role"].startswith("stockshift_role_") for row in roles] == [True]


async def test_nobody_but_a_trigger_may_call_the_functions(migrated_url: str) -> None:
    async with psql(migrated_url) as connection:
        open_to_all = await connection.fetch(
            """
            SELECT p.proname FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) AS right_
            WHERE p.pronamespace = 'stockshift'::regnamespace AND right_.grantee = 0
            """
        )
    assert open_to_all == []


@pytest.mark.parametrize("ddl", ["RENAME notes TO remarks", "DROP notes"])
async def test_after_a_legacy_column_was_renamed_or_dropped_the_shop_writes_on_and_every_write_is_kept_whole(
    migrated_url: str, ddl: str
) -> None:
    before = await opening(migrated_url)
    await sells(
        migrated_url,
        f"ALTER TABLE items {ddl}",
        "UPDATE items SET \"quantityInStock\" = 8 WHERE id = 'item-Arrived'",
        UPSERT.format(id="new"),
        "DELETE FROM items WHERE id = 'item-Sold'",
    )
    assert await opening(migrated_url) == before
    found = await writes(migrated_url)
    assert [row[:3] for row in found] == [
        ("item-Arrived", "UNREADABLE", False),
        ("new", "UNREADABLE", False),
        ("item-Sold", "DELETE", True),
    ]
    assert (found[0][3]["quantityInStock"], found[0][4]["quantityInStock"]) == (10, 8)
    assert found[1][4]["quantityInStock"] == 3
    assert all(("remarks" in row) is ddl.startswith("RENAME") for row in (found[0][4], found[1][4], found[2][3]))


async def test_a_column_of_the_shops_own_comes_and_goes(migrated_url: str) -> None:
    await sells(
        migrated_url,
        "ALTER TABLE items ADD shelf text DEFAULT 'A 1'",
        "UPDATE items SET \"quantityInStock\" = 8 WHERE id = 'item-Arrived'",
        UPSERT.format(id="new"),
    )
    await migrate(migrated_url)
    async with psql(migrated_url) as connection:
        original = await connection.fetchval("SELECT original FROM stockshift.copy_ledger WHERE item_id = 'new'")
    assert json.loads(original)["shelf"] == "A 1"
    await sells(migrated_url, "ALTER TABLE items DROP shelf", "UPDATE items SET notes = 'x' WHERE id = 'new'")
    assert (await opening(migrated_url, "new") or {})["notes"] == "x"
    assert (await verified(migrated_url)).passed


async def test_a_statement_that_an_orm_prepared_before_goes_on_on_its_connection(items_url: str) -> None:
    async with psql(items_url, application_name=TILL) as till:
        sell = await till.prepare(
            'UPDATE public.items SET "quantityInStock" = "quantityInStock" - $1 WHERE id = $2'
            ' RETURNING id, name, "quantityInStock", status'
        )
        read = await till.prepare('SELECT id, "quantityInStock", notes FROM public.items WHERE id = $1')
        for number in range(7):  # a generic plan, from the sixth on
            assert (await sell.fetchrow(0, "item-Arrived") or {})["quantityInStock"] == 10, number
            await read.fetchrow("item-Arrived")
        await migrate(items_url)
        assert (await sell.fetchrow(3, "item-Arrived") or {})["quantityInStock"] == 7
        assert (await read.fetchrow("item-Arrived") or {})["quantityInStock"] == 7
    assert (await opening(items_url) or {})["quantity"] == 7


async def test_what_somebody_puts_into_the_search_path_is_not_called(migrated_url: str) -> None:
    """Functions and operators that would be found before PostgreSQL's own, and tables before ours."""
    await change(
        migrated_url,
        """
        CREATE SCHEMA mine;
        CREATE FUNCTION public.current_setting(text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT 'WRITE_BACK' $$;
        CREATE FUNCTION mine.current_setting(text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT 'WRITE_BACK' $$;
        CREATE FUNCTION mine.format(text, text, text) RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$;
        CREATE FUNCTION mine.same(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$;
        CREATE OPERATOR mine.= (FUNCTION = mine.same, LEFTARG = text, RIGHTARG = text);
        CREATE OPERATOR public.<> (FUNCTION = mine.same, LEFTARG = text, RIGHTARG = text);
        CREATE TABLE mine.items (id text);
        """,
    )
    await sells(
        migrated_url,
        "SET search_path = mine, pg_catalog, public; CREATE TEMP TABLE stock_batches (id text)",
        "SET search_path = mine, public, pg_catalog; CREATE TEMP TABLE items (id text);"
        "UPDATE public.items SET \"quantityInStock\" = 8 WHERE id OPERATOR(pg_catalog.=) 'item-Arrived'",
    )
    assert await writes(migrated_url) == [
        ("item-Arrived", "UPDATE", True, {"quantityInStock": 10}, {"quantityInStock": 8})
    ]
    assert (await opening(migrated_url) or {})["quantity"] == 8
    assert (await opening(migrated_url, "item-Sold") or {})["quantity"] == 10


@pytest.mark.parametrize(
    ("ddl", "value"),
    [
        ('ALTER "quantityInStock" TYPE bigint', "3000000000"),
        ('ALTER "quantityInStock" DROP DEFAULT, ALTER "quantityInStock" TYPE text', "'a dozen'"),
    ],
)
async def test_what_no_batch_can_have_is_written_by_the_shop_all_the_same(
    migrated_url: str, ddl: str, value: str
) -> None:
    """The shop's session has run the triggers before, and so has plans of them."""
    async with psql(migrated_url) as connection:
        await connection.execute("UPDATE items SET \"quantityInStock\" = 9 WHERE id = 'item-Arrived'")
        await connection.execute(f"ALTER TABLE items {ddl}")
        await connection.execute(f"UPDATE items SET \"quantityInStock\" = {value} WHERE id = 'item-Arrived'")
        written = await connection.fetchrow("SELECT * FROM stockshift.legacy_write ORDER BY id DESC LIMIT 1")
        assert written is not None
        assert (written["item_id"], written["followed"]) == ("item-Arrived", False)
        assert str(json.loads(written["after"])["quantityInStock"]) == value.strip("'")


async def test_without_a_table_of_batches_the_shop_goes_on_writing(migrated_url: str) -> None:
    async with psql(migrated_url) as connection:
        await connection.execute("DROP TABLE stock_batches")
        await connection.execute("UPDATE items SET \"quantityInStock\" = 9 WHERE id = 'item-Arrived'")
        await connection.execute("UPDATE items SET id = 'renamed' WHERE id = 'item-Arrived'")
        await insert_item(connection, "new")
        await connection.execute("DELETE FROM items WHERE id = 'item-Sold'")
        followed = await connection.fetch("SELECT followed FROM stockshift.legacy_write WHERE operation <> 'DELETE'")
        assert [row["followed"] for row in followed] == [False] * 3
