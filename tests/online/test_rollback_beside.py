"""Rollback, contract and their undos beside a shop that goes on: nobody queues behind them, and killed they did nothing
or all."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from sqlalchemy.util import await_only

from migration.archive import NotArchived
from migration.contract import contract
from migration.draft import SCHEMA
from migration.exclusively import Actor
from migration.failures import ConnectionLost
from migration.locks import LockNotHad
from migration.progress import Progress
from migration.rollback import roll_back
from migration.undo_contract import undo_contract
from migration.undo_rollback import undo_rollback
from tests.conftest import CopyTemplate, MakeTemplate, url_of
from tests.graphql_client import client_of
from tests.migration.support import at_statements, engine_on, migrate, structure, until
from tests.migration.test_contract import closed, contracted, open_gates, restored
from tests.migration.test_rollback import kept, name_of, rolled_back, undone, without_flag
from tests.online.crash import fill
from tests.online.test_locks import APPLICATION, BEHIND_US, SALE, reading, sell_on, writing
from tests.support import Connection, psql

HAS_NOTES = "SELECT FROM information_schema.columns WHERE table_name = 'items' AND column_name = 'notes'"
ACTS: dict[str, Callable[..., Awaitable[Any]]] = {
    "rollback": roll_back,
    "undo": undo_rollback,
    "contract": contract,
    "undo contract": undo_contract,
}
OVER = {
    "rollback": "SELECT to_regclass('stockshift.copy_ledger') IS NULL",
    "undo": "SELECT to_regclass('stockshift.copy_ledger') IS NOT NULL",
    "contract": f"SELECT NOT EXISTS ({HAS_NOTES})",
    "undo contract": f"SELECT EXISTS ({HAS_NOTES})",
}
"""Whether its one transaction was committed."""
STRIDE = 1 if "STOCKSHIFT_TEST_EXAMPLES" in os.environ else 21
"""Every so manieth statement is killed."""


@pytest.fixture(scope="session")
def copied_template(make_template: MakeTemplate, server_url: str) -> str:
    async def copied(connection: Connection) -> None:
        await fill(connection)
        await migrate(await url_of(connection, server_url))

    return make_template(copied)


@pytest.fixture
def shop_url(copy_template: CopyTemplate, copied_template: str) -> str:
    """Thirty items, migrated."""
    return copy_template(copied_template)


async def ready_for(act: str, url: str) -> None:
    if act == "undo":
        await rolled_back(url)
    if "contract" in act:
        async with psql(url) as connection:
            await open_gates(connection, url)
    if act == "undo contract":
        await contracted(url)


def sale(act: str) -> str:
    """Once all is cut over, nobody writes legacy columns any more."""
    return SALE.replace("quantityInStock", "sellingPriceSRD") if "contract" in act else SALE


@asynccontextmanager
async def acting(act: str, url: str, **how: Any) -> AsyncIterator[tuple["asyncio.Task[Any]", list[Progress]]]:
    """Nobody is ever found behind it. It is to be awaited by the caller."""
    seen: list[Progress] = []
    behind_us: list[Any] = []
    name = await name_of(url)
    async with psql(url, application_name="watcher") as watcher, engine_on(url) as engine:

        async def look_on() -> None:
            while True:
                behind_us.extend(await watcher.fetch(BEHIND_US, APPLICATION))

        looking = asyncio.create_task(look_on())
        actor = Actor("test", report=seen.append, **how)
        task = asyncio.ensure_future(ACTS[act](engine, actor, confirm=name))
        try:
            yield task, seen
        finally:
            looking.cancel()
            await asyncio.gather(looking, task, return_exceptions=True)
    assert behind_us == []


@pytest.mark.parametrize("act", ACTS)
async def test_nobody_queues_behind_it_while_it_waits_for_a_reader_and_a_writer(shop_url: str, act: str) -> None:
    await ready_for(act, shop_url)
    async with psql(shop_url, application_name="another writer") as shop:
        async with acting(act, shop_url) as (task, seen):

            async def waits_for(words: str, times: int = 2) -> None:
                async def said() -> bool:
                    assert not task.done(), task
                    return sum(words in (progress.waiting or "") for progress in seen) >= times

                await until(said, f"it has waited {times} times for {words}")

            async with reading(shop_url):
                async with writing(shop_url, sale(act)):
                    await waits_for("a long writer")
                    await sell_on(shop, sale(act))
                await waits_for("a long reader")
                await sell_on(shop, sale(act))
            await task
        written = '"sellingPriceSRD" - 250' if "contract" in act else '"quantityInStock"'
        assert await shop.fetchval(f"SELECT {written} FROM items WHERE id = 'item-02'") == -40


@pytest.mark.parametrize("act", ACTS)
async def test_who_has_no_patience_is_told_who_is_in_the_way(shop_url: str, act: str) -> None:
    await ready_for(act, shop_url)
    async with reading(shop_url), psql(shop_url) as connection:
        before = await structure(connection)
        with pytest.raises(LockNotHad, match="a long reader"):
            async with acting(act, shop_url, patience=0.2) as (task, _):
                await task
        assert await structure(connection) == before


@pytest.mark.parametrize("act", ACTS)
async def test_killed_before_any_statement_it_did_nothing_and_can_be_run_again(shop_url: str, act: str) -> None:
    await ready_for(act, shop_url)
    name = await name_of(shop_url)
    async with psql(shop_url) as shop, engine_on(shop_url) as engine:
        before, rows = await structure(shop), await shop.fetch("SELECT * FROM items ORDER BY id")
        point, count = 0, 0

        def kill(statement: str, cursor: Any) -> None:
            nonlocal count
            count += 1
            if count == point:
                pid = cursor._connection.get_server_pid()  # noqa: SLF001 - the driver's own
                assert await_only(shop.fetchval("SELECT pg_terminate_backend($1, 5000)", pid))

        while True:
            point, count = point + STRIDE, 0
            with at_statements(engine, kill):
                try:
                    await ACTS[act](engine, Actor("test"), confirm=name)
                except ConnectionLost:
                    pass
                else:
                    break
            assert await shop.fetchval("SELECT count(*) FROM stockshift.driver") == 0
            assert await shop.fetchval("SELECT to_regnamespace($1) IS NULL", SCHEMA)
            if await shop.fetchval(OVER[act]):
                break
            assert await structure(shop) == before
            assert await shop.fetch("SELECT * FROM items ORDER BY id") == rows
        assert point > 60
    if act == "rollback":
        await undone(shop_url)
        assert (await migrate(shop_url)).copied == 0
    if act == "contract":
        assert (await restored(shop_url)).restored == 30
    if act == "undo contract":
        with suppress(NotArchived):  # but if it was killed after the commit, this makes what is missing
            await restored(shop_url)
        assert await closed(shop_url) == {}


async def test_an_undo_that_was_killed_before_its_keys_were_checked_is_finished_by_migrate(shop_url: str) -> None:
    async with psql(shop_url) as shop:
        before, looked = await kept(shop), without_flag(await structure(shop))
        await rolled_back(shop_url)
        async with engine_on(shop_url) as engine:

            def kill(statement: str, cursor: Any) -> None:
                if "VALIDATE" in statement:
                    pid = cursor._connection.get_server_pid()  # noqa: SLF001 - the driver's own
                    assert await_only(shop.fetchval("SELECT pg_terminate_backend($1, 5000)", pid))

            with at_statements(engine, kill), pytest.raises(ConnectionLost):
                await undo_rollback(engine, Actor("test"), confirm=await name_of(shop_url))
        assert await kept(shop) == before
        await migrate(shop_url)
        assert without_flag(await structure(shop)) == looked


ITEM = '{ item(id: "item-09") { totalQuantity usingBatchSystem statuses locations { id } legacy { quantityInStock } } }'


async def test_a_service_that_was_started_before_goes_on_answering(shop_url: str) -> None:
    """Every answer is one of two: from the batches, or from the legacy columns; and none fails."""
    seen: list[bool] = []
    async with client_of(shop_url) as client, psql(shop_url) as shop:
        received = "UPDATE stock_batches SET quantity = quantity + 5 WHERE \"itemId\" = 'item-09' "
        await shop.execute("UPDATE stockshift.copy_ledger SET cut_over_at = now() WHERE item_id = 'item-09'")
        await shop.execute(received)
        before = (await client.ask(ITEM))["item"]
        expected = {True: 12, False: 7}

        async def read(until_seen: bool) -> None:
            while True:
                item = (await client.ask(ITEM))["item"]
                seen.append(item["usingBatchSystem"])
                assert item["totalQuantity"] == expected[item["usingBatchSystem"]]
                assert item["legacy"] == {"quantityInStock": 7}
                if item["usingBatchSystem"] is until_seen:
                    return

        readers = asyncio.gather(*[read(until_seen=False) for _ in range(4)])
        await rolled_back(shop_url)
        await readers
        refused = await client.ask(
            'mutation { createBatch(input: { itemId: "item-09", quantity: 1 }) { errors { code } } }'
        )
        assert refused["createBatch"]["errors"] == [{"code": "MIGRATION_NOT_STARTED"}]
        assert (await client.ask("{ migration { phase copied } }"))["migration"] == {
            "phase": "ROLLED_BACK",
            "copied": 0,
        }
        readers = asyncio.gather(*[read(until_seen=True) for _ in range(4)])
        await undone(shop_url)
        await readers
        assert (await client.ask(ITEM))["item"] == before


CUT_OVER = '{ item(id: "item-09") { totalQuantity usingBatchSystem statuses legacy { quantityInStock } } }'


async def test_a_service_that_was_started_before_goes_on_through_a_contract_and_its_undo(shop_url: str) -> None:
    """With requests in flight: every answer is the same, but for the legacy stock, which is there or is not."""
    await ready_for("contract", shop_url)
    async with client_of(shop_url) as client:
        before = (await client.ask(CUT_OVER))["item"]
        assert before["legacy"] == {"quantityInStock": 7}

        async def read(until_gone: bool) -> None:
            gone = not until_gone
            while gone is not until_gone:
                item = (await client.ask(CUT_OVER))["item"]
                gone = item["legacy"] is None
                assert item == {**before, "legacy": None if gone else before["legacy"]}

        for act, until_gone in ((contracted, True), (restored, False)):
            readers = asyncio.gather(*[read(until_gone) for _ in range(4)])
            await act(shop_url)
            await readers
