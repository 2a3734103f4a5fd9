"""The demo shop: the same rows everywhere, in the legacy shape, with what real tables hold."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection

from db.demo_shop import DEMO_COMPANIES, DemoShopExists, DemoShopSize, load_demo_shop
from db.engine import create_engine
from db.url import DatabaseUrl
from tests.conftest import MakeTemplate
from tests.support import Connection, psql

TABLES = ("companies", "users", "locations", "items", "expenses")

# Of a shop of 500 items. When the shop is changed on purpose, say so in the commit and write down the new ones.
CHECKSUMS = {
    "companies": "4adb655e0829573beb4089dedfb7ec66",
    "users": "e193acdc04c26e9a95720dd953dbd2e0",
    "locations": "a16bc8fc29ab6fe92817d17910c7c38d",
    "items": "76674b67cc2bce2a0ec5993606587717",
    "expenses": "0a5297859b7515115c6e4079f7e17357",
}


@asynccontextmanager
async def transaction(url: str) -> AsyncIterator[AsyncConnection]:
    engine = create_engine(DatabaseUrl.parse(url), application_name="test-demo-shop")
    try:
        async with engine.begin() as connection:
            yield connection
    finally:
        await engine.dispose()


async def load(url: str, items: int) -> None:
    async with transaction(url) as connection:
        await load_demo_shop(connection, items=items)


async def checksums(url: str) -> Mapping[str, str]:
    async with psql(url) as connection:
        return {
            table: await connection.fetchval(
                f"SELECT md5(string_agg(row::text, E'\\n' ORDER BY id COLLATE \"C\")) FROM {table} AS row"
            )
            for table in TABLES
        }


async def rows_of(url: str, table: str) -> set[str]:
    async with psql(url) as connection:
        return {row["text"] for row in await connection.fetch(f"SELECT t::text AS text FROM {table} AS t")}


@pytest.fixture(scope="session")
def hundred_items_url(make_template: MakeTemplate, server_url: str) -> str:
    """A shop of 100 items, for tests that only read."""

    async def leave_empty(_: Connection) -> None: ...

    name = make_template(leave_empty)
    url = make_url(server_url).set(database=name).render_as_string(hide_password=False)
    asyncio.run(load(url, 100))
    return url


async def test_a_shop_of_500_items_is_the_one_written_down(empty_database_url: str) -> None:
    await load(empty_database_url, 500)
    assert await checksums(empty_database_url) == CHECKSUMS


async def test_the_settings_of_the_session_change_nothing(empty_database_url: str) -> None:
    async with transaction(empty_database_url) as connection:
        for setting in (
            "search_path = pg_catalog",
            "timezone = 'Asia/Tokyo'",
            "datestyle = 'SQL, DMY'",
            "intervalstyle = 'sql_standard'",
            "extra_float_digits = -10",
            "enable_nestloop = off",
        ):
            await connection.exec_driver_sql(f"SET LOCAL {setting}")
        await load_demo_shop(connection, items=500)
    assert await checksums(empty_database_url) == CHECKSUMS


async def test_a_larger_shop_begins_with_the_smaller_one(empty_database_url: str, hundred_items_url: str) -> None:
    await load(empty_database_url, 300)
    for table in ("users", "locations", "items", "expenses"):
        smaller, larger = await rows_of(hundred_items_url, table), await rows_of(empty_database_url, table)
        assert smaller <= larger


@pytest.mark.parametrize("items", [0, 1, 46, 5_000])
async def test_the_shop_has_as_many_items_as_asked_for(empty_database_url: str, items: int) -> None:
    await load(empty_database_url, items)
    async with psql(empty_database_url) as connection:
        counts = {table: await connection.fetchval(f"SELECT count(*) FROM {table}") for table in TABLES}
    assert counts == {"companies": 3, "users": 40, "locations": 12, "items": items, "expenses": items * 2 // 5}


@pytest.mark.parametrize("items", [-1, 10_000_001])
async def test_a_size_out_of_range_is_refused_by_name(empty_database_url: str, items: int) -> None:
    with pytest.raises(DemoShopSize, match=f"{items} items"):
        await load(empty_database_url, items)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE items (mine int)",
        "CREATE VIEW items AS SELECT 1 AS mine",
        "CREATE TYPE \"Status\" AS ENUM ('mine')",
    ],
)
async def test_a_database_that_has_a_shop_is_refused_and_left_alone(empty_database_url: str, statement: str) -> None:
    taken = "Status" if "Status" in statement else "items"
    async with psql(empty_database_url) as connection:
        await connection.execute(statement)
    with pytest.raises(DemoShopExists, match=f"already has {taken} in public"):
        await load(empty_database_url, 1)
    async with psql(empty_database_url) as connection:
        assert await connection.fetchval("SELECT to_regclass('public.companies')") is None


async def test_tables_of_these_names_in_another_schema_are_no_hindrance(empty_database_url: str) -> None:
    async with psql(empty_database_url) as connection:
        await connection.execute("CREATE SCHEMA elsewhere; CREATE TABLE elsewhere.items (mine int)")
    await load(empty_database_url, 1)


async def test_a_caller_that_rolls_back_has_no_shop(empty_database_url: str) -> None:
    async with transaction(empty_database_url) as connection:
        await load_demo_shop(connection, items=10)
        await connection.rollback()
    async with psql(empty_database_url) as connection:
        assert await connection.fetchval("SELECT to_regclass('public.items')") is None


SHAPE = """
SELECT format('column %s.%s %s %s not null %s default %s', relname, attnum, attname,
              format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid)) AS fact
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0
UNION ALL SELECT format('constraint %s on %s: %s, valid %s', conname, conrelid::regclass,
                        pg_get_constraintdef(oid), convalidated)
FROM pg_constraint WHERE connamespace = 'public'::regnamespace
UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
UNION ALL SELECT format('label %s of %s: %s', enumsortorder, enumtypid::regtype, enumlabel) FROM pg_enum
UNION ALL SELECT format('relation %s %s', relkind, relname) FROM pg_class
WHERE relnamespace = 'public'::regnamespace
UNION ALL SELECT format('trigger %s', tgname) FROM pg_trigger WHERE NOT tgisinternal
"""


async def test_the_tables_have_exactly_the_legacy_shape(hundred_items_url: str, database_url: str) -> None:
    async with psql(hundred_items_url) as demo, psql(database_url) as legacy:
        made = {row["fact"] for row in await demo.fetch(SHAPE)}
        expected = {row["fact"] for row in await legacy.fetch(SHAPE)}
    assert made == expected
    assert len(expected) > 80  # the question itself sees something


ODDITIES = {
    "to order": "status = 'ToOrder'",
    "ordered": "status = 'Ordered'",
    "arrived": "status = 'Arrived'",
    "sold": "status = 'Sold'",
    "no location": '"locationId" IS NULL AND "quantityInStock" > 0',
    "no order date": '"orderDate" IS NULL AND "quantityInStock" > 0',
    "nobody assigned": '"assignedUserId" IS NULL AND "quantityInStock" > 0',
    "every optional column empty": (
        'num_nonnulls("supplier", "supplierSku", "orderDate", "expectedArrival", "orderNumber",'
        ' "profitMarginPercent", "minStockLevel", "notes", "assignedUserId", "locationId") = 0'
    ),
    "arrived but none left": "status = 'Arrived' AND \"quantityInStock\" = 0",
    "arrived and negative": "status = 'Arrived' AND \"quantityInStock\" < 0",
    "sold and negative": "status = 'Sold' AND \"quantityInStock\" < 0",
    "sold but some left": "status = 'Sold' AND \"quantityInStock\" > 0",
    "hundreds of thousands": '"quantityInStock" BETWEEN 200000 AND 999999',
    "very long name": "length(name) > 600",
    "very long name without a space": "length(name) > 600 AND name !~ ' '",
    "long note of many lines": r"length(notes) > 2000 AND notes ~ '\n\n' AND notes ~ '\r\n'",
    "accents": "name ~ 'û' AND name ~ 'ñ'",
    "accents, decomposed": r"name ~ '\u0301'",
    "Chinese": "name ~ '电饭锅'",
    "Arabic": "name ~ 'مروحة'",
    "emoji of several code points": r"name ~ '\u200d'",
    "quotes of both kinds": """name ~ '''' AND name ~ '"'""",
    "backslash": r"name ~ '\\'",
    "tab": r"name ~ '\t'",
    "line feed in a name": r"name ~ '\n'",
    "spaces around": "name ~ '^  .*  $'",
    "formula": "name ~ '^='",
    "markup": "name ~ '<script>'",
    "wildcards": "name ~ '%.*_'",
    "empty rather than absent": "notes = '' AND \"orderNumber\" = '' AND supplier = ''",
    "cost with many digits": '"costPerUnitUSD" = 0.1::float8 + 0.2::float8',
    "cost of nothing": '"costPerUnitUSD" = 0 AND "quantityInStock" > 0',
    "cost in an exponent": "\"costPerUnitUSD\"::text ~ 'e-'",
    "freight that cannot be shared evenly": (
        '"quantityInStock" > 1 AND "freightCostUSD" > 0 AND ("freightCostUSD" * 100)::bigint % "quantityInStock" <> 0'
    ),
    "less freight than a cent a unit": '"freightCostUSD" = 0.01 AND "quantityInStock" > 1',
    "milliseconds": "\"orderDate\"::text ~ '\\.\\d{3}$' AND \"expectedArrival\"::text ~ '\\.\\d{3}$'",
    "expected before ordered": '"expectedArrival" < "orderDate"',
    "last millisecond of a year": "\"orderDate\"::text ~ '-12-31 23:59:59.999'",
    "the epoch": "\"orderDate\" = '1970-01-01'",
    "the end of time": "\"expectedArrival\" = '9999-12-31 23:59:59.999'",
    "changed before it was made": '"updatedAt" < "createdAt"',
    "same name within a company": (
        "EXISTS (SELECT FROM items AS twin WHERE twin.name = item.name AND twin.id <> item.id"
        ' AND twin."companyId" = item."companyId" AND twin."locationId" = item."locationId"'
        " AND twin.status = item.status)"
    ),
    "same name in two companies": (
        'EXISTS (SELECT FROM items AS twin WHERE twin.name = item.name AND twin."companyId" <> item."companyId")'
    ),
    "somebody inactive assigned": ('EXISTS (SELECT FROM users WHERE users.id = "assignedUserId" AND NOT "isActive")'),
}


@pytest.mark.parametrize("condition", ODDITIES.values(), ids=ODDITIES.keys())
async def test_a_hundred_items_hold_what_real_tables_hold(hundred_items_url: str, condition: str) -> None:
    async with psql(hundred_items_url) as connection:
        assert await connection.fetchval(f"SELECT count(*) FROM items AS item WHERE {condition}") > 0


async def test_the_famous_items_are_as_documented(hundred_items_url: str) -> None:
    async with psql(hundred_items_url) as connection:
        famous = await connection.fetch(
            'SELECT id, status::text, "quantityInStock", "costPerUnitUSD", "freightCostUSD", "companyId", "locationId"'
            " FROM items WHERE id LIKE 'demo-item-%' ORDER BY id"
        )
        main_warehouse = await connection.fetchval("SELECT name FROM locations WHERE id = 'demo-location-1'")
    assert [tuple(item) for item in famous] == [
        ("demo-item-1", "Arrived", 10, 4.25, 12.5, "demo-company-1", "demo-location-1"),
        ("demo-item-2", "Ordered", 6, 18.9, 20, "demo-company-1", "demo-location-5"),
        ("demo-item-3", "Sold", 0, 219.99, 75, "demo-company-1", "demo-location-2"),
        ("demo-item-4", "ToOrder", 0, 36.5, 0, "demo-company-1", None),
        ("demo-item-5", "Arrived", 3, 4.6, 5, "demo-company-2", "demo-location-8"),
        ("demo-item-6", "Arrived", -2, 3.1, 10, "demo-company-1", "demo-location-2"),
    ]
    assert main_warehouse == "Main Warehouse"


async def test_the_companies_are_those_that_callers_know(hundred_items_url: str) -> None:
    async with psql(hundred_items_url) as connection:
        companies = await connection.fetch("SELECT id, name FROM companies ORDER BY id")
    assert [tuple(company) for company in companies] == list(DEMO_COMPANIES)


async def test_ids_look_like_the_shops_own_and_tell_nothing_of_the_names(hundred_items_url: str) -> None:
    async with psql(hundred_items_url) as connection:
        strange = await connection.fetchval(
            "SELECT count(*) FROM items WHERE id !~ '^c[a-z0-9]{24}$' AND id NOT LIKE 'demo-item-_'"
        )
        by_name = await connection.fetch('SELECT id FROM items ORDER BY name COLLATE "C"')
    ids = [row["id"] for row in by_name]
    assert strange == 0
    assert ids not in (sorted(ids), sorted(ids, reverse=True))


async def test_nobody_can_log_in_and_some_are_inactive(hundred_items_url: str) -> None:
    async with psql(hundred_items_url) as connection:
        users = await connection.fetch('SELECT email, password, role::text, "isActive" FROM users')
    assert all(len(user["password"]) == 60 and "-" in user["password"] for user in users)
    assert all(user["email"].endswith(".example") for user in users)
    assert {user["role"] for user in users} == {"ADMIN", "MANAGER", "STAFF"}
    assert {user["isActive"] for user in users} == {True, False}


async def test_nothing_points_into_another_company(empty_database_url: str) -> None:
    await load(empty_database_url, 5_000)
    async with psql(empty_database_url) as connection:
        strays = await connection.fetchval(
            """
            SELECT (SELECT count(*) FROM items JOIN locations ON locations.id = "locationId"
                    WHERE locations."companyId" <> items."companyId")
                 + (SELECT count(*) FROM items JOIN users ON users.id = "assignedUserId"
                    WHERE users."companyId" IS DISTINCT FROM items."companyId")
                 + (SELECT count(*) FROM locations JOIN users ON users.id = "managerId"
                    WHERE users."companyId" IS DISTINCT FROM locations."companyId")
                 + (SELECT count(*) FROM expenses JOIN users ON users.id = "createdById"
                    WHERE users."companyId" IS DISTINCT FROM expenses."companyId")
            """
        )
    assert strays == 0


async def test_five_thousand_items_look_like_a_shop(empty_database_url: str) -> None:
    await load(empty_database_url, 5_000)
    async with psql(empty_database_url) as connection:
        shares = dict(
            await connection.fetch("SELECT status::text, count(*) / 5000.0::float8 FROM items GROUP BY status")
        )
        shop = await connection.fetchrow(
            """
            SELECT count(*) FILTER (WHERE "locationId" = 'demo-location-1') / 5000.0::float8 AS main_warehouse,
                   count(*) FILTER (WHERE "companyId" = 'demo-company-1') / 5000.0::float8 AS first_company,
                   count(DISTINCT "locationId") AS locations,
                   count(DISTINCT name) AS names,
                   count(*) FILTER (WHERE "quantityInStock" = 0 AND status = 'Sold')
                       / count(*) FILTER (WHERE status = 'Sold')::float8 AS sold_out,
                   count(*) FILTER (WHERE length("costPerUnitUSD"::text) > 15) AS long_costs,
                   count(DISTINCT extract(year FROM "createdAt")) AS years
            FROM items
            """
        )
        shared_names = await connection.fetchval(
            "SELECT max(companies) FROM"
            ' (SELECT count(DISTINCT "companyId") AS companies FROM locations GROUP BY name) AS named'
        )
    assert shop is not None
    assert shares["Arrived"] > 0.6
    assert all(share > 0.03 for share in shares.values())
    assert shop["main_warehouse"] == pytest.approx(0.4, abs=0.03)
    assert 0.7 < shop["first_company"] < 0.9
    assert shop["locations"] == 12
    assert shop["names"] > 2_000
    assert shop["sold_out"] > 0.8
    assert shop["long_costs"] > 50
    assert shop["years"] == 6
    assert shared_names == 3
