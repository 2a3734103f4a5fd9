"""R5: times are stored in UTC without a zone, and answered with an offset, to the millisecond."""

import pytest

from tests.graphql_client import client_of
from tests.support import insert_item, psql

USUAL = {
    "2026-01-31 12:00:00": "2026-01-31T12:00:00.000Z",
    "2026-01-31 12:00:00.007": "2026-01-31T12:00:00.007Z",
    "1969-12-31 23:59:59.999": "1969-12-31T23:59:59.999Z",
    "2024-02-29 00:00:00.5": "2024-02-29T00:00:00.500Z",
    "9999-12-31 23:59:59.999": "9999-12-31T23:59:59.999Z",
    "0001-01-01 00:00:00": "0001-01-01T00:00:00.000Z",
}
UNUSUAL = {
    "infinity": "infinity",
    "-infinity": "-infinity",
    "10000-01-01 00:00:00": "10000-01-01 00:00:00",
    "20260-01-31 12:00:00.001": "20260-01-31 12:00:00.001",
    "0001-12-31 23:59:59.999 BC": "0001-12-31 23:59:59.999 BC",
}


@pytest.mark.parametrize("timezone", ["UTC", "Asia/Tokyo"])
async def test_a_time_is_answered_to_the_millisecond_in_utc_whatever_the_databases_zone(
    database_url: str, timezone: str
) -> None:
    async with psql(database_url) as connection:
        await connection.execute("INSERT INTO companies (id, name, \"updatedAt\") VALUES ('acme', 'Acme', now())")
        name = await connection.fetchval("SELECT current_database()")
        await connection.execute(f"ALTER DATABASE \"{name}\" SET timezone = '{timezone}'")
        for number, stored in enumerate([*USUAL, *UNUSUAL]):
            await insert_item(connection, f"item-{number:02}", locationId=None)
            await connection.execute(
                f"""UPDATE items SET "createdAt" = '{stored}', "updatedAt" = '{stored}' WHERE id = 'item-{number:02}'"""
            )
    async with client_of(database_url) as client:
        items = (await client.ask("{ items { edges { node { createdAt updatedAt } } } }"))["items"]["edges"]
    assert [item["node"]["createdAt"] for item in items] == [*USUAL.values(), *UNUSUAL.values()]
    assert all(item["node"]["createdAt"] == item["node"]["updatedAt"] for item in items)


@pytest.mark.parametrize("datestyle", ["ISO, MDY", "German", "SQL, DMY"])
async def test_pages_by_time_go_through_all_the_ages(database_url: str, datestyle: str) -> None:
    times = ["-infinity", "0044-03-15 12:00:00 BC", "0001-01-01", "2026-02-01 10:00", "2026-02-01 10:00:00.001",
             "2026-02-11", "9999-12-31 23:59:59.999", "20260-01-31 12:00", "294275-01-01", "infinity"]  # fmt: skip
    async with psql(database_url) as connection:
        await connection.execute("INSERT INTO companies (id, name, \"updatedAt\") VALUES ('acme', 'Acme', now())")
        for number, stored in enumerate(times):
            await insert_item(connection, f"item-{number}", locationId=None)
            await connection.execute(f"""UPDATE items SET "createdAt" = '{stored}' WHERE id = 'item-{number}'""")
        name = await connection.fetchval("SELECT current_database()")
        await connection.execute(f"ALTER DATABASE \"{name}\" SET datestyle = '{datestyle}'")
    query = """query($after: String) { items(first: 1, after: $after, orderBy: { field: CREATED_AT, direction: ASC })
        { pageInfo { endCursor } edges { node { id } } } }"""
    seen = []
    after = None
    async with client_of(database_url) as client:
        for _ in times:
            page = (await client.ask(query, after=after))["items"]
            after = page["pageInfo"]["endCursor"]
            seen += [edge["node"]["id"] for edge in page["edges"]]
    assert seen == [f"item-{number}" for number in range(len(times))]


async def test_pages_by_time_miss_nothing_where_times_are_finer_than_a_millisecond(shop_url: str) -> None:
    async with psql(shop_url) as connection:
        await connection.execute('ALTER TABLE items ALTER "createdAt" TYPE timestamp(6)')
        for number in range(5):
            await insert_item(connection, f"item-{number}")
            stamp = f"2026-01-01 00:00:00.00000{number}"
            await connection.execute(f"""UPDATE items SET "createdAt" = '{stamp}' WHERE id = 'item-{number}'""")
    query = """query($after: String) { items(first: 2, after: $after, orderBy: { field: CREATED_AT, direction: DESC })
        { pageInfo { endCursor hasNextPage } edges { node { id } } } }"""
    seen = []
    after = None
    async with client_of(shop_url) as client:
        for _ in range(3):
            page = (await client.ask(query, after=after))["items"]
            after = page["pageInfo"]["endCursor"]
            seen += [edge["node"]["id"] for edge in page["edges"]]
    assert seen == [f"item-{number}" for number in (4, 3, 2, 1, 0)]
