"""The first batch of an item copies the item first, whoever else is there (R6)."""

import asyncio
import sys
from asyncio.subprocess import PIPE

import pytest

from migration.atomic import migrate_atomic
from migration.locks import LockNotHad
from resolvers import mutate
from tests.migration.support import at_statements, engine_on, locks_left, migrate, once_before, until, waits_for_lock
from tests.mutations.support import Client, rows, serving, stock, stopping_at_harbour
from tests.support import insert_item, psql

FIFTY = range(50)


async def test_fifty_first_batches_at_once_make_one_copy_and_an_exact_total(client: Client, uncopied_url: str) -> None:
    payloads = await asyncio.gather(*[client.made(itemId="mug", quantity=1) for _ in FIFTY])
    assert sorted(payload["item"]["totalQuantity"] for payload in payloads) == [11 + number for number in FIFTY]
    assert len({payload["batch"]["id"] for payload in payloads}) == len(FIFTY)
    async with psql(uncopied_url) as connection:
        assert await stock(connection, "mug") == (60, 51, 1)
    answer = await client.data('{ item(id: "mug") { batches(first: 100) { edges { node { openingBatch } } } } }')
    assert sum(edge["node"]["openingBatch"] for edge in answer["item"]["batches"]["edges"]) == 1


async def test_a_stricter_isolation_by_default_changes_nothing(uncopied_url: str) -> None:
    async with psql(uncopied_url) as connection:
        name = await connection.fetchval("SELECT current_database()")
        await connection.execute(f"ALTER DATABASE \"{name}\" SET default_transaction_isolation TO 'repeatable read'")
        async with serving(uncopied_url) as client:
            await asyncio.gather(*[client.made(itemId="mug", quantity=1) for _ in range(20)])
        assert await stock(connection, "mug") == (30, 21, 1)


async def test_several_processes_make_one_copy_and_an_exact_total(uncopied_url: str) -> None:
    command = [sys.executable, "-m", "tests.mutations.driver", uncopied_url, "mug", "17"]
    processes = [await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE) for _ in range(3)]
    for process in processes:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    async with psql(uncopied_url) as watcher:
        async with psql(uncopied_url) as holder, holder.transaction():
            await holder.execute("SELECT FROM items WHERE id = 'mug' FOR UPDATE")
            for process in processes:
                assert process.stdin is not None
                process.stdin.write(b"go\n")
            await waits_for_lock(watcher, 20)
        outputs = [(await process.communicate())[0].split() for process in processes]
        assert sorted(int(total) for output in outputs for total in output) == [11 + number for number in range(51)]
        assert await stock(watcher, "mug") == (61, 52, 1)


async def test_first_batches_of_many_items_do_not_wait_in_a_circle(client: Client, uncopied_url: str) -> None:
    items = ["mug", "pot", "empty", "copied"]
    await asyncio.gather(*[client.made(itemId=item, quantity=1) for _ in range(6) for item in [*items, *items[::-1]]])
    async with psql(uncopied_url) as connection:
        assert [await stock(connection, item) for item in items] == [
            (22, 13, 1),
            (22, 13, 1),
            (12, 13, 1),
            (22, 13, 1),
        ]


async def test_a_sale_by_the_legacy_application_is_waited_for_and_copied(client: Client, uncopied_url: str) -> None:
    async with psql(uncopied_url) as legacy, psql(uncopied_url) as watcher:
        async with legacy.transaction():
            await legacy.execute('UPDATE items SET "quantityInStock" = 3, "costPerUnitUSD" = 7 WHERE id = \'mug\'')
            making = asyncio.create_task(client.made(itemId="mug", quantity=5))
            await waits_for_lock(watcher)
        payload = await making
        assert payload["item"]["totalQuantity"] == 8
        assert payload["batch"]["costPerUnitUSD"] == 7


async def test_a_sale_during_the_copy_waits_for_it_and_is_followed(client: Client, uncopied_url: str) -> None:
    async with psql(uncopied_url) as legacy, psql(uncopied_url) as watcher:
        async with stopping_at_harbour(uncopied_url):
            making = asyncio.create_task(client.made(itemId="mug", quantity=5, locationId="acme-harbour"))
            await waits_for_lock(watcher)
            sale = asyncio.create_task(legacy.execute("UPDATE items SET \"quantityInStock\" = 3 WHERE id = 'mug'"))
            await waits_for_lock(watcher, 2)
        await making
        await sale
        assert await stock(watcher, "mug") == (8, 2, 1)


async def test_an_item_that_is_deleted_meanwhile_is_not_found(client: Client, uncopied_url: str) -> None:
    async with psql(uncopied_url) as legacy, psql(uncopied_url) as watcher:
        async with legacy.transaction():
            await legacy.execute("DELETE FROM items WHERE id = 'mug'")
            making = asyncio.create_task(client.refused(itemId="mug", quantity=5, idempotencyKey="k"))
            await waits_for_lock(watcher)
        assert (await making)["code"] == "NOT_FOUND"
        assert await stock(watcher, "mug") == (0, 0, 0)
        assert await watcher.fetchval("SELECT count(*) FROM stockshift.idempotency_key") == 0


async def test_an_item_whose_deletion_is_taken_back_gets_its_batch(client: Client, uncopied_url: str) -> None:
    async with psql(uncopied_url) as legacy, psql(uncopied_url) as watcher:
        deletion = legacy.transaction()
        await deletion.start()
        await legacy.execute("DELETE FROM items WHERE id = 'mug'")
        making = asyncio.create_task(client.made(itemId="mug", quantity=5))
        await waits_for_lock(watcher)
        await deletion.rollback()
        assert (await making)["item"]["totalQuantity"] == 15


async def test_a_deletion_waits_for_the_batch_and_takes_it_along(client: Client, uncopied_url: str) -> None:
    async with psql(uncopied_url) as legacy, psql(uncopied_url) as watcher:
        async with stopping_at_harbour(uncopied_url):
            making = asyncio.create_task(client.made(itemId="mug", quantity=5, locationId="acme-harbour"))
            await waits_for_lock(watcher)
            deletion = asyncio.create_task(legacy.execute("DELETE FROM items WHERE id = 'mug'"))
            await waits_for_lock(watcher, 2)
        assert (await making)["item"]["totalQuantity"] == 15
        await deletion
        assert await stock(watcher, "mug") == (0, 0, 1), "the ledger outlives the item"


async def test_a_location_that_goes_at_the_last_moment_is_not_found(client: Client, uncopied_url: str) -> None:
    async with psql(uncopied_url) as legacy:

        async def close_harbour() -> None:
            await legacy.execute("DELETE FROM locations WHERE id = 'acme-harbour'")

        with once_before(client.runtime.reader.engine, "INSERT INTO public.stock_batches", close_harbour):
            error = await client.refused(itemId="copied", quantity=5, locationId="acme-harbour")
        assert (error["field"], error["code"]) == ("input.locationId", "NOT_FOUND")
        assert await stock(legacy, "copied") == (10, 1, 1)


async def test_while_the_first_migration_runs_it_has_not_started(shop_url: str) -> None:
    async with psql(shop_url) as connection, serving(shop_url) as client, engine_on(shop_url) as engine:
        await insert_item(connection, "mug")

        async def try_to_make() -> None:
            assert (await client.refused(itemId="mug", quantity=5))["code"] == "MIGRATION_NOT_STARTED"

        with once_before(engine, "UPDATE stockshift.migration_run", try_to_make):
            assert (await migrate_atomic(engine, driver="test")).copied == 1
        assert (await client.made(itemId="mug", quantity=5))["item"]["totalQuantity"] == 15
        assert await stock(connection, "mug") == (15, 2, 1)


async def test_a_migration_that_copies_the_item_first_is_waited_for(client: Client, uncopied_url: str) -> None:
    making: list[asyncio.Task[object]] = []
    async with psql(uncopied_url) as watcher, engine_on(uncopied_url) as engine:

        async def make() -> None:
            making.append(asyncio.create_task(client.made(itemId="mug", quantity=5)))
            await waits_for_lock(watcher)

        with once_before(engine, "UPDATE stockshift.migration_run", make):
            assert (await migrate_atomic(engine, driver="test")).copied == 4
        await making[0]
        assert await stock(watcher, "mug") == (15, 2, 1)


async def test_a_batch_that_comes_first_keeps_a_migration_out_which_then_copies_the_rest(
    client: Client, uncopied_url: str, no_backoff: None
) -> None:
    async with psql(uncopied_url) as watcher:
        async with stopping_at_harbour(uncopied_url):
            making = asyncio.create_task(client.made(itemId="mug", quantity=5, locationId="acme-harbour"))
            await waits_for_lock(watcher)
            with pytest.raises(LockNotHad, match="stockshift serve"):
                await migrate(uncopied_url, lock_timeout_ms=100)
            assert not making.done()
        await making
        assert (await migrate(uncopied_url)).copied == 3
        assert await stock(watcher, "mug") == (15, 2, 1)


async def test_batches_and_migrations_all_at_once_end_well(client: Client, uncopied_url: str) -> None:
    items = ["mug", "pot", "empty"] * 8
    making = [client.made(itemId=item, quantity=1) for item in items]
    await asyncio.gather(*making[:12], migrate(uncopied_url), *making[12:], migrate(uncopied_url))
    async with psql(uncopied_url) as connection:
        assert [await stock(connection, item) for item in ("mug", "pot", "empty")] == [
            (18, 9, 1),
            (18, 9, 1),
            (8, 9, 1),
        ]


async def test_stock_that_stays_locked_is_said_to_be(
    client: Client, uncopied_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutate, "LOCK_TIMEOUT_MS", 50)
    async with psql(uncopied_url) as holder:
        before = await rows(holder)
        for lock in ("LOCK TABLE stock_batches IN SHARE MODE", "SELECT FROM items WHERE id = 'mug' FOR UPDATE"):
            async with holder.transaction():
                await holder.execute(lock)
                error = await client.refused(itemId="mug", quantity=5, idempotencyKey="k")
                assert (error["field"], error["code"]) == ("", "MIGRATION_RUNNING")
                assert "try again" in error["message"]
        assert {name: len(found) for name, found in before.items()} == {
            name: len(found) for name, found in (await rows(holder)).items()
        }


async def test_a_deadlock_with_somebody_else_is_tried_again(uncopied_url: str) -> None:
    async with psql(uncopied_url) as watcher:
        name = await watcher.fetchval("SELECT current_database()")
        await watcher.execute(f"ALTER DATABASE \"{name}\" SET deadlock_timeout TO '50ms'")
        async with serving(uncopied_url) as client:
            attempts: list[str] = []

            def count(statement: str, _cursor: object) -> None:
                attempts.extend([statement] if statement.startswith("LOCK TABLE") else [])

            async with stopping_at_harbour(uncopied_url) as other:
                await other.execute("SET deadlock_timeout TO '1min'")
                with at_statements(client.runtime.reader.engine, count):
                    making = asyncio.create_task(client.made(itemId="mug", quantity=5, locationId="acme-harbour"))
                    await waits_for_lock(watcher)
                    await other.execute("UPDATE items SET \"quantityInStock\" = 3 WHERE id = 'mug'")
                    await until(lambda: tried(attempts, 2), "it is tried again")
            assert (await making)["item"]["totalQuantity"] == 8


async def tried(attempts: list[str], times: int) -> bool:
    return len(attempts) == times


async def test_batches_that_are_taken_away_meanwhile_mean_that_nothing_has_started(
    client: Client, uncopied_url: str
) -> None:
    async with psql(uncopied_url) as admin, psql(uncopied_url) as watcher:
        async with admin.transaction():
            await admin.execute("DROP TABLE stock_batches; DROP SCHEMA stockshift CASCADE")
            making = asyncio.create_task(client.refused(itemId="mug", quantity=5))
            await waits_for_lock(watcher)
        assert (await making)["code"] == "MIGRATION_NOT_STARTED"


async def test_a_switch_of_the_read_source_meanwhile_changes_the_answer_and_not_the_batch(
    client: Client, uncopied_url: str
) -> None:
    async with psql(uncopied_url) as watcher:
        async with stopping_at_harbour(uncopied_url):
            making = asyncio.create_task(client.made(itemId="mug", quantity=5, locationId="acme-harbour"))
            await waits_for_lock(watcher)
            await client.data("mutation { setReadSource(source: LEGACY) { errors { code } } }")
        payload = await making
        assert (payload["item"]["totalQuantity"], payload["item"]["usingBatchSystem"]) == (10, False)
        assert payload["batch"]["quantity"] == 5
        await client.data("mutation { setReadSource(source: AUTO) { errors { code } } }")
        answer = await client.data('{ item(id: "mug") { totalQuantity } }')
        assert answer["item"]["totalQuantity"] == 15
        assert await stock(watcher, "mug") == (15, 2, 1)


async def test_no_lock_is_left_behind(client: Client, uncopied_url: str) -> None:
    async with psql(uncopied_url) as watcher:
        await client.made(itemId="mug", quantity=5)
        await client.refused(itemId="mug", quantity=-1)
        await client.refused(itemId="nothing", quantity=1)

        async def free() -> bool:
            return await locks_left(watcher) == 0

        await until(free, "no lock is left")
