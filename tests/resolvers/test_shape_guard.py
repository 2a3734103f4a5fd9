"""A service that runs while the database changes shape under it answers right at once, without an error or a restart.

Each test lets a Reader learn one shape, has somebody else change it, and asks again.
"""

import asyncio
from typing import Any

import pytest

from migration.read_source import set_read_source
from resolvers.selection import Selected
from tests.graphql_client import ADMIN, Client, client_of
from tests.migration.support import migrate
from tests.resolvers.shop import ITEM, STOCK_BATCHES, insert_batch
from tests.support import psql

MUG = f'{{ item(id: "mug") {{ {ITEM} minStockLevel }} }}'


async def mug(client: Client) -> Any:
    return (await client.ask(MUG))["item"]


async def fresh(url: str) -> Any:
    """What a process that has just started answers."""
    async with client_of(url) as client:
        return await mug(client)


async def test_a_migration_by_another_process_is_seen_at_once(stock_url: str) -> None:
    async with client_of(stock_url) as client:
        before = await mug(client)
        await migrate(stock_url)
        after = await mug(client)
        assert (before["usingBatchSystem"], after["usingBatchSystem"]) == (False, True)
        assert after == await fresh(stock_url)
        assert len(await client.sent(MUG)) == 1


ROLLED_BACK = [
    "DROP SCHEMA stockshift CASCADE",
    "DROP TABLE stock_batches",
    "DROP SCHEMA stockshift CASCADE; DROP TABLE stock_batches",
    "DROP TABLE stockshift.copy_ledger",
    "DROP TABLE stockshift.setting",
    "ALTER TABLE stock_batches RENAME TO old_batches",
    "ALTER SCHEMA stockshift RENAME TO archive",
    'ALTER TABLE items DROP COLUMN "useBatchSystem"',
]


@pytest.mark.parametrize("change", ROLLED_BACK)
async def test_what_is_taken_away_is_missed_at_once(batches_url: str, change: str) -> None:
    async with client_of(batches_url) as client, psql(batches_url) as connection:
        assert (await mug(client))["totalQuantity"] == 22
        await connection.execute(change)
        assert await mug(client) == await fresh(batches_url)


async def test_a_rollback_and_another_migration_are_seen_at_once(batches_url: str) -> None:
    async with client_of(batches_url) as client, psql(batches_url) as connection:
        assert (await mug(client))["totalQuantity"] == 22
        await connection.execute("DROP SCHEMA stockshift CASCADE; DROP TABLE stock_batches")
        assert (await mug(client))["totalQuantity"] == 10
        await migrate(batches_url)
        assert (await mug(client))["usingBatchSystem"]
        assert await mug(client) == await fresh(batches_url)


async def test_batches_made_by_hand_are_seen_at_once(stock_url: str) -> None:
    async with client_of(stock_url) as client, psql(stock_url) as connection:
        await mug(client)
        await connection.execute(STOCK_BATCHES)
        await insert_batch(connection, "by-hand", "mug", quantity=2)
        assert (await mug(client))["totalQuantity"] == 2


async def test_a_strange_table_that_becomes_one_of_batches_is_seen_at_once(stock_url: str) -> None:
    async with client_of(stock_url) as client, psql(stock_url) as connection:
        await connection.execute(STOCK_BATCHES + "; ALTER TABLE stock_batches RENAME notes TO remarks")
        await insert_batch(connection, "by-hand", "mug", quantity=2)
        assert (await mug(client))["totalQuantity"] == 10
        await connection.execute("ALTER TABLE stock_batches RENAME remarks TO notes")
        assert (await mug(client))["totalQuantity"] == 2


async def test_columns_of_items_that_come_and_go_are_seen_at_once(stock_url: str) -> None:
    async with client_of(stock_url) as client, psql(stock_url) as connection:
        assert (await mug(client))["minStockLevel"] == 30
        await connection.execute('ALTER TABLE items DROP "minStockLevel"')
        assert (await mug(client))["minStockLevel"] is None
        await connection.execute('ALTER TABLE items ADD shelf text, ADD "minStockLevel" integer DEFAULT 7')
        assert (await mug(client))["minStockLevel"] == 7
        await connection.execute('ALTER TABLE items RENAME "minStockLevel" TO least')
        assert (await mug(client))["minStockLevel"] is None
        await connection.execute('ALTER TABLE items RENAME least TO "minStockLevel"')
        assert (await mug(client))["minStockLevel"] == 7


@pytest.mark.parametrize(
    "change",
    [
        'ALTER TABLE items ALTER "quantityInStock" TYPE bigint',
        "ALTER TABLE items ALTER name TYPE varchar(300)",
        'ALTER TABLE items ALTER "costPerUnitUSD" TYPE numeric',
        'ALTER TABLE items ALTER "createdAt" TYPE timestamptz',
        "ALTER TABLE items ALTER status DROP DEFAULT, ALTER status TYPE text",
        """
        ALTER TYPE "Status" RENAME TO "OldStatus";
        CREATE TYPE "Status" AS ENUM ('Sold', 'Arrived', 'Ordered', 'ToOrder');
        ALTER TABLE items ALTER status DROP DEFAULT, ALTER status TYPE "Status" USING status::text::"Status";
        DROP TYPE "OldStatus"
        """,
        """
        CREATE TABLE copy (LIKE items INCLUDING ALL);
        INSERT INTO copy SELECT * FROM items;
        DROP TABLE items;
        ALTER TABLE copy RENAME TO items
        """,
    ],
)
async def test_prepared_statements_survive_a_change_of_types(stock_url: str, change: str) -> None:
    """Each connection of the pool has the statement prepared for the types that were."""
    async with client_of(stock_url) as client, psql(stock_url) as connection:
        before = await asyncio.gather(*[mug(client) for _ in range(4)])
        await connection.execute(change)
        after = await asyncio.gather(*[mug(client) for _ in range(4)])
        assert before == after


async def test_a_change_within_the_transaction_of_a_mutation_is_seen_by_what_it_reads_back(batches_url: str) -> None:
    selected = Selected("item", "item", {"id": "mug"}, (Selected("total", "totalQuantity", {}),))
    async with client_of(batches_url) as client:
        await mug(client)
        async with client.engine.connect() as connection, connection.begin() as transaction:
            await connection.exec_driver_sql("UPDATE stock_batches SET quantity = 100 WHERE id = 'mug-2'")
            await set_read_source(connection, "LEGACY", "test")
            answer = await client.reader.answer_on(connection, ADMIN, [selected])
            assert answer == {"item": {"total": 10}}
            await set_read_source(connection, "AUTO", "test")
            await connection.exec_driver_sql("ALTER TABLE stock_batches RENAME notes TO remarks")
            await connection.exec_driver_sql("ALTER TABLE stock_batches RENAME remarks TO notes")
            answer = await client.reader.answer_on(connection, ADMIN, [selected])
            assert answer == {"item": {"total": 117}}
            await transaction.rollback()
        assert (await mug(client))["totalQuantity"] == 22


async def test_readers_never_fail_while_the_shape_changes_again_and_again(batches_url: str) -> None:
    """Every answer is right for one of the shapes: 22 from batches, 10 from the legacy columns."""
    away = "ALTER SCHEMA stockshift RENAME TO away; ALTER TABLE stock_batches RENAME TO away"
    back = "ALTER TABLE away RENAME TO stock_batches; ALTER SCHEMA away RENAME TO stockshift"
    seen: list[int] = []
    async with client_of(batches_url) as client, psql(batches_url) as connection:

        async def read() -> None:
            while changed < 5:
                seen.append((await mug(client))["totalQuantity"])

        changed = begun = 0
        readers = asyncio.gather(*[read() for _ in range(4)])
        async with asyncio.timeout(60):
            while not readers.done():
                if (10 if changed % 2 else 22) in seen[begun:]:
                    begun = len(seen)
                    await connection.execute(back if changed % 2 else away)
                    changed += 1
                await asyncio.sleep(0)
        await readers
    assert set(seen) == {10, 22}


async def test_what_is_no_shop_is_unavailable_and_says_no_more(database_url: str) -> None:
    async with client_of(database_url) as client, psql(database_url) as connection:
        await connection.execute("DROP TABLE items CASCADE")
        answer = await client.answer("{ items { totalCount } }")
    assert answer.codes == ["UNAVAILABLE"]


async def test_a_column_of_the_batches_that_is_dropped_takes_no_stock_with_it(batches_url: str) -> None:
    async with psql(batches_url) as connection, client_of(batches_url) as client:
        before = await client.ask("{ items { edges { node { id totalQuantity } } } }")
        await connection.execute("ALTER TABLE stock_batches DROP notes")
        assert await client.ask("{ items { edges { node { id totalQuantity } } } }") == before
        seen = await client.ask("{ items { edges { node { batches { edges { node { notes } } } } } } }")
        assert "notes" in str(seen)
        assert await client.ask("{ items { edges { node { id totalQuantity } } } }") == before
