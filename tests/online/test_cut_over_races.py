"""Two at once, in every order that matters: a cut-over, a take-back or write-back, and somebody who writes as well.

None of ours waits for a row that somebody has locked, so none of them can be in a deadlock: it looks again later. A
writer of a batch waits for the item, and gives up where that would be a deadlock with the shop.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import asyncpg
import pytest
from sqlalchemy.util import await_only

from migration.cut_over import cut_over
from migration.in_chunks import Outcome, Selection, all_items
from migration.progress import Progress
from migration.take_back import take_back
from migration.write_back import set_write_back
from tests.migration.cutting_over import cut, cut_over_items, kinds, legacy, opening, write_back
from tests.migration.support import (
    DEADLINE_SECONDS,
    at_statements,
    engine_on,
    once_before,
    until,
    verified,
    waits_for_lock,
)
from tests.mutations.support import stopping_at_harbour
from tests.online.support import COPIED, Migrating, migrate_while
from tests.online.test_races import (
    ISOLATIONS,
    SALE,
    STRICT,
    Found,
    Isolation,
    copied,
    doomed,
    first_batch,
    found,
    writes,
)
from tests.resolvers.shop import insert_batch
from tests.support import Connection, psql

AT_THE_END = "INSERT INTO stockshift.audit"
"""Everything is done and locked, and not committed."""
PATIENT = 20_000


class CuttingOver:
    """A cut-over beside the test, which looks again and again at what the test has locked."""

    def __init__(self, url: str, act: Callable[..., Awaitable[Outcome]] = cut_over) -> None:
        self.seen: list[Progress] = []
        self.task = asyncio.create_task(self._run(url, act))

    async def _run(self, url: str, act: Callable[..., Awaitable[Outcome]]) -> Outcome:
        async with engine_on(url) as engine:
            return await act(
                engine, Selection(all_items()), actor="test", lock_timeout_ms=PATIENT, progress=self.seen.append
            )

    async def waits(self) -> None:
        async def waiting() -> bool:
            assert not self.task.done(), f"it ended: {self.task}"
            return any(progress.waiting for progress in self.seen)

        await until(waiting, "it waits for items that are locked")


async def cut_while(url: str, act: Callable[[], Awaitable[None]], *ids: str) -> Outcome:
    """Awaits `act` when all is done and nothing is committed."""
    async with engine_on(url) as engine:
        with once_before(engine, AT_THE_END, act):
            return await cut_over(engine, Selection(all_items(), ids or None), actor="test")


async def good(url: str) -> None:
    report = await verified(url)
    assert report.passed, [check for check in report.checks if not check.passed]


# A cut-over and a sale


@pytest.mark.parametrize("isolation", ISOLATIONS)
async def test_a_sale_in_flight_is_followed_and_then_cut_over(half_copied_url: str, isolation: Isolation) -> None:
    await cut(half_copied_url, "cup")
    async with psql(half_copied_url) as shop, psql(half_copied_url) as watcher:
        async with shop.transaction(isolation=isolation):
            await shop.execute(SALE.replace("mug", "copied"))
            cutting = CuttingOver(half_copied_url)
            await cutting.waits()
            assert await cut_over_items(watcher) == ["cup", "mug", "pot"]
        assert (await cutting.task).refused == {}
        assert await found(watcher, "copied") == Found(7, 7, 7)
        assert await writes(watcher, "copied") == []  # the migration began after it was made
        assert "copied" in await cut_over_items(watcher)
    await good(half_copied_url)


async def test_a_sale_of_what_was_not_copied_is_copied_and_cut_over_after_it(half_copied_url: str) -> None:
    async with psql(half_copied_url) as shop:
        async with shop.transaction():
            await shop.execute(SALE)
            cutting = CuttingOver(half_copied_url)
            await cutting.waits()
        assert (await cutting.task).done == 4
        assert await found(shop, "mug") == Found(7, 7, 7)
    await good(half_copied_url)


@pytest.mark.parametrize("item", ["mug", "copied"])
async def test_a_sale_during_the_cut_over_waits_for_it_and_is_drift(half_copied_url: str, item: str) -> None:
    sales: list[asyncio.Task[str]] = []
    async with psql(half_copied_url) as shop, psql(half_copied_url) as watcher:

        async def sell() -> None:
            sales.append(asyncio.create_task(shop.execute(SALE.replace("mug", item))))
            await waits_for_lock(watcher)

        assert (await cut_while(half_copied_url, sell, item)).done == 1
        await asyncio.gather(*sales)
        assert await found(watcher, item) == Found(7, 10, 10)
        assert (await writes(watcher, item) or [("UPDATE", False)])[-1] == ("UPDATE", False)


@pytest.mark.parametrize("flag", [False, True])
@pytest.mark.parametrize("isolation", STRICT)
async def test_a_sale_whose_snapshot_is_older_than_the_cut_over_is_told_to_try_again(
    half_copied_url: str, isolation: Isolation, flag: bool
) -> None:
    async with psql(half_copied_url) as shop:
        await shop.execute('UPDATE items SET "useBatchSystem" = $1', flag)
        async with doomed(shop, isolation):
            await cut(half_copied_url, "copied")
            await shop.execute(SALE.replace("mug", "copied"))
        assert await found(shop, "copied") == Found(10, 10, 10)


@pytest.mark.parametrize("isolation", STRICT)
async def test_a_sale_whose_snapshot_is_older_than_the_take_back_is_told_to_try_again(
    half_copied_url: str, isolation: Isolation
) -> None:
    await cut(half_copied_url)
    async with psql(half_copied_url) as shop, engine_on(half_copied_url) as engine:
        async with doomed(shop, isolation):
            await take_back(engine, Selection(all_items()), actor="test")
            await shop.execute(SALE.replace("mug", "copied"))
        await shop.execute(SALE.replace("mug", "copied"))
        assert await found(shop, "copied") == Found(7, 7, 7)
    await good(half_copied_url)


# A cut-over and createBatch


async def test_an_item_that_gets_its_first_batch_is_cut_over_with_it(half_copied_url: str) -> None:
    async with psql(half_copied_url) as watcher:
        async with stopping_at_harbour(half_copied_url):
            making = asyncio.create_task(first_batch(half_copied_url, "acme-harbour"))
            await waits_for_lock(watcher)
            cutting = CuttingOver(half_copied_url)
            await cutting.waits()
            assert await cut_over_items(watcher) == ["copied", "cup", "pot"]
        assert (await making)["errors"] == []
        assert (await cutting.task).refused == {}
        assert await found(watcher, "mug") == Found(10, 10, 15)
    await good(half_copied_url)


async def test_a_first_batch_during_the_cut_over_waits_for_it_and_copies_nothing(half_copied_url: str) -> None:
    making = []
    async with psql(half_copied_url) as watcher:

        async def make() -> None:
            making.append(asyncio.create_task(first_batch(half_copied_url)))
            await waits_for_lock(watcher)

        assert (await cut_while(half_copied_url, make)).done == 4
        (payload,) = await asyncio.gather(*making)
        assert payload["errors"] == []
        assert await found(watcher, "mug") == Found(10, 10, 15)
    await good(half_copied_url)


# A cut-over and the copy, or another one


async def test_what_is_being_copied_is_cut_over_after_it_and_copied_once(half_copied_url: str) -> None:
    cutting: list[CuttingOver] = []

    async def begin() -> None:
        cutting.append(CuttingOver(half_copied_url))
        await cutting[0].waits()

    assert (await migrate_while(half_copied_url, COPIED, begin)).copied == 3
    assert (await cutting[0].task).refused == {}
    async with psql(half_copied_url) as watcher:
        assert await cut_over_items(watcher) == ["copied", "cup", "mug", "pot"]
    await good(half_copied_url)


async def test_what_is_being_cut_over_is_passed_over_by_the_copy_and_copied_once(half_copied_url: str) -> None:
    migrating: list[Migrating] = []
    async with psql(half_copied_url) as watcher:

        async def begin() -> None:
            migrating.append(Migrating(half_copied_url))
            await migrating[0].waits()
            assert await copied(watcher) == ["copied", "cup", "pot"]

        assert (await cut_while(half_copied_url, begin, "mug")).done == 1
        assert (await migrating[0].task).copied == 2
        assert await cut_over_items(watcher) == ["mug"]
        assert await found(watcher, "mug") == Found(10, 10, 10)
    await good(half_copied_url)


async def test_of_two_cut_overs_one_does_it(half_copied_url: str) -> None:
    others: list[CuttingOver] = []

    async def begin() -> None:
        others.append(CuttingOver(half_copied_url))
        await others[0].waits()

    assert (await cut_while(half_copied_url, begin)).done == 4
    other = await others[0].task
    assert (other.done, other.refused) == (0, {})
    await good(half_copied_url)


async def test_a_cut_over_and_a_take_back_at_once_end_in_one_or_the_other(half_copied_url: str) -> None:
    backs: list[CuttingOver] = []
    await cut(half_copied_url, "mug", "copied")

    async def begin() -> None:
        backs.append(CuttingOver(half_copied_url, take_back))
        await until_done_or_waiting(backs[0])

    assert (await cut_while(half_copied_url, begin, "cup", "mug")).done == 1
    await backs[0].task
    async with psql(half_copied_url) as watcher:
        assert await cut_over_items(watcher) in ([], ["cup"])
    await good(half_copied_url)


async def until_done_or_waiting(act: CuttingOver) -> None:
    async def ready() -> bool:
        return act.task.done() or any(progress.waiting for progress in act.seen)

    await until(ready, "it is done, or waits")


# A take-back and writers of batches


async def test_an_opening_batch_that_is_being_written_is_taken_back_as_it_becomes(half_copied_url: str) -> None:
    await cut(half_copied_url)
    async with psql(half_copied_url) as writer, psql(half_copied_url) as watcher:
        async with writer.transaction():
            await opening(writer, "mug", quantity=4)
            back = CuttingOver(half_copied_url, take_back)
            await back.waits()
            assert await cut_over_items(watcher) == ["mug"]
        assert (await back.task).refused == {}
        assert await found(watcher, "mug") == Found(4, 4, 4)
    await good(half_copied_url)


async def test_an_item_that_gets_a_batch_is_taken_back_after_it(half_copied_url: str) -> None:
    await cut(half_copied_url)
    async with psql(half_copied_url) as writer, psql(half_copied_url) as watcher:
        await opening(writer, "mug", quantity=4)
        async with stopping_at_harbour(half_copied_url):
            making = asyncio.create_task(first_batch(half_copied_url, "acme-harbour"))
            await waits_for_lock(watcher)
            back = CuttingOver(half_copied_url, take_back)
            await back.waits()
            assert await cut_over_items(watcher) == ["mug"]
        assert (await making)["errors"] == []
        assert (await back.task).refused == {}
        assert await found(watcher, "mug") == Found(4, 4, 9)
    await good(half_copied_url)


async def test_a_batch_that_is_made_during_the_take_back_waits_for_it_and_is_counted_beside_it(
    half_copied_url: str,
) -> None:
    making = []
    await cut(half_copied_url)
    async with psql(half_copied_url) as writer, psql(half_copied_url) as watcher, engine_on(half_copied_url) as engine:
        await opening(writer, "mug", quantity=4)

        async def make() -> None:
            making.append(asyncio.create_task(first_batch(half_copied_url)))
            await waits_for_lock(watcher)

        with once_before(engine, AT_THE_END, make):
            assert (await take_back(engine, Selection(all_items()), actor="test")).done == 4
        (payload,) = await asyncio.gather(*making)
        assert payload["errors"] == []
        assert await found(watcher, "mug") == Found(4, 4, 9)
        await writer.execute(SALE)
        assert await found(watcher, "mug") == Found(1, 1, 6)
    await good(half_copied_url)


async def test_a_take_back_that_waits_too_long_says_so(half_copied_url: str) -> None:
    await cut(half_copied_url)
    async with psql(half_copied_url) as writer, writer.transaction(), engine_on(half_copied_url) as engine:
        await opening(writer, "mug", quantity=4)
        outcome = await take_back(engine, Selection(all_items()), actor="test", lock_timeout_ms=100)
        assert (outcome.done, kinds(outcome)) == (3, {"mug": "LOCKED"})


# Write-back and writers of batches


@pytest.fixture
async def written_back_url(half_copied_url: str) -> str:
    """`mug` and `pot` are cut over, of 10 units and two batches of 1 each besides; write-back is on."""
    await cut(half_copied_url, "mug", "pot")
    async with psql(half_copied_url) as connection:
        for item_id in ("mug", "pot"):
            for number in (1, 2):
                await insert_batch(connection, f"{item_id}-{number}", item_id)
    await write_back(half_copied_url)
    return half_copied_url


async def add(connection: Connection, batch_id: str) -> None:
    await connection.execute("UPDATE stock_batches SET quantity = quantity + 1 WHERE id = $1", batch_id)


@pytest.mark.parametrize("ends", ["commit", "rollback"])
async def test_the_second_of_two_writers_waits_and_counts_what_the_first_has_done(
    written_back_url: str, ends: str
) -> None:
    async with psql(written_back_url) as first, psql(written_back_url) as second, psql(written_back_url) as watcher:
        transaction = first.transaction()
        await transaction.start()
        await add(first, "mug-1")
        waiting = asyncio.create_task(add(second, "mug-2"))
        await waits_for_lock(watcher)
        await (transaction.commit() if ends == "commit" else transaction.rollback())
        await waiting
        assert (await legacy(watcher, "mug"))[0] == (14 if ends == "commit" else 13)


@pytest.mark.parametrize("isolation", STRICT)
async def test_a_writer_that_cannot_see_what_it_waited_for_is_told_to_try_again(
    written_back_url: str, isolation: Isolation
) -> None:
    async with psql(written_back_url) as first, psql(written_back_url) as second:
        async with doomed(second, isolation):
            await add(first, "mug-1")
            await add(second, "mug-2")
        assert (await legacy(first, "mug"))[0] == 13


async def test_many_writers_at_once_are_all_counted(written_back_url: str) -> None:
    async def write(number: int) -> None:
        async with psql(written_back_url) as connection:
            for _ in range(5):
                await add(connection, f"{('mug', 'pot')[number % 2]}-{1 + number // 2 % 2}")
            await insert_batch(connection, f"new-{number}", ("mug", "pot")[number % 2])

    await asyncio.gather(*[write(number) for number in range(8)])
    async with psql(written_back_url) as watcher:
        for item_id in ("mug", "pot"):
            assert (await legacy(watcher, item_id))[0] == 12 + 4 * 5 + 4 == (await found(watcher, item_id)).batches


async def test_items_of_one_statement_are_locked_in_the_order_of_their_ids(written_back_url: str) -> None:
    async with psql(written_back_url) as first, psql(written_back_url) as second, psql(written_back_url) as watcher:
        async with first.transaction():
            await add(first, "mug-1")
            both = "UPDATE stock_batches SET quantity = quantity + 1 WHERE id IN ('pot-2', 'mug-2')"
            waiting = asyncio.create_task(second.execute(both))
            await waits_for_lock(watcher)
            await add(first, "pot-1")
        await waiting
        assert [(await legacy(watcher, item_id))[0] for item_id in ("mug", "pot")] == [14, 14]


@pytest.mark.parametrize(
    ("item", "statement"),
    [
        ("mug", "DELETE FROM items WHERE id = 'mug'"),
        ("mug", "UPDATE items SET id = 'm' WHERE id = 'mug'"),
        ("copied", SALE.replace("mug", "copied")),
    ],
)
async def test_of_a_deadlock_with_the_shop_the_shop_never_hears(
    written_back_url: str, item: str, statement: str
) -> None:
    """The shop goes from the item to its batches, also when it sells what is not cut over; the writer the other way.

    Had the writer waited, however short, PostgreSQL would have noticed, and chosen.
    """
    async with psql(written_back_url) as shop, psql(written_back_url) as writer, psql(written_back_url) as watcher:
        batch: str = await watcher.fetchval("SELECT batch_id FROM stockshift.copy_ledger WHERE item_id = $1", item)
        transaction = writer.transaction()
        await transaction.start()
        await writer.execute("SELECT FROM stock_batches WHERE id = $1 FOR UPDATE", batch)
        shops = asyncio.create_task(shop.execute(statement))
        await waits_for_lock(watcher)
        await writer.execute("SET deadlock_timeout = '1ms'")
        with pytest.raises(asyncpg.SerializationError, match="try again"):
            await asyncio.wait_for(add(writer, batch), DEADLINE_SECONDS)
        await transaction.rollback()
        assert await shops in ("DELETE 1", "UPDATE 1")
    await good(written_back_url)


async def test_of_two_writers_who_go_through_items_in_opposite_order_one_is_told_to_try_again(
    written_back_url: str,
) -> None:
    """Before PostgreSQL notices, who might take either; and what the other wrote is all counted."""

    async def write(first: str, second: str, met: asyncio.Barrier) -> bool:
        async with psql(written_back_url) as connection:
            try:
                async with connection.transaction():
                    await add(connection, first)
                    await met.wait()
                    await add(connection, second)
            except asyncpg.SerializationError:
                return False
            return True

    met = asyncio.Barrier(2)
    both = asyncio.gather(write("mug-1", "pot-1", met), write("pot-2", "mug-2", met))
    done = await asyncio.wait_for(both, DEADLINE_SECONDS)
    assert not all(done)
    async with psql(written_back_url) as watcher:
        for item_id in ("mug", "pot"):
            assert (await legacy(watcher, item_id))[0] == 12 + sum(done) == (await found(watcher, item_id)).batches
    await good(written_back_url)


async def test_a_writer_whom_only_writers_wait_for_may_wait_for_another_item(written_back_url: str) -> None:
    """That is no circle. After a fifth of a second it is taken for one; a test that was that slow tries again."""

    async def through(first: Connection, second: Connection, other: Connection, watcher: Connection) -> bool:
        holding, writing = other.transaction(), first.transaction()
        await holding.start()
        await add(other, "pot-2")
        await writing.start()
        await add(first, "mug-1")
        behind = asyncio.create_task(add(second, "mug-2"))
        await waits_for_lock(watcher)
        adding = asyncio.create_task(add(first, "pot-1"))

        async def waits_or_gave_up() -> bool:
            number: int = await watcher.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            return adding.done() or number == 2

        await until(waits_or_gave_up, "it waits for the item, or gave up")
        await holding.commit()
        (gave_up,) = await asyncio.gather(adding, return_exceptions=True)
        await (writing.rollback() if gave_up else writing.commit())
        await behind
        return gave_up is None

    async with AsyncExitStack() as stack:
        four = [await stack.enter_async_context(psql(written_back_url)) for _ in range(4)]
        assert any([await through(*four) for _ in range(3)])
    await good(written_back_url)


async def waits_anew(watcher: Connection, pid: int) -> None:
    """Until the session waits for a lock that it had given up to wait for, and did again."""
    began = set()

    async def twice() -> bool:
        began.add(await watcher.fetchval("SELECT min(waitstart) FROM pg_locks WHERE pid = $1 AND NOT granted", pid))
        return len(began - {None}) >= 2

    await until(twice, "the writer waits anew")


async def test_a_writer_of_a_batch_waits_as_long_as_the_shop_is_at_work_on_the_item(written_back_url: str) -> None:
    async with psql(written_back_url) as shop, psql(written_back_url) as writer, psql(written_back_url) as watcher:
        async with shop.transaction():
            await shop.execute("UPDATE items SET name = 'Mug' WHERE id = 'mug'")
            waiting = asyncio.create_task(add(writer, "mug-1"))
            await waits_anew(watcher, writer.get_server_pid())
        await waiting
        assert (await legacy(watcher, "mug"))[0] == 13
        assert await writer.fetchval("SHOW lock_timeout") == "0"


async def test_a_writers_own_lock_timeout_holds(written_back_url: str) -> None:
    async with psql(written_back_url) as shop, psql(written_back_url) as writer, shop.transaction():
        await shop.execute("UPDATE items SET name = 'Mug' WHERE id = 'mug'")
        await writer.execute("SET lock_timeout = '10ms'")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await add(writer, "mug-1")
        assert await writer.fetchval("SHOW lock_timeout") == "10ms"


# Write-back and what is cut over, or turned on, meanwhile


async def test_a_batch_that_is_being_written_is_counted_by_the_cut_over_after_it(written_back_url: str) -> None:
    async with psql(written_back_url) as writer, psql(written_back_url) as watcher:
        async with writer.transaction():
            await insert_batch(writer, "copied-1", "copied", quantity=5)
            cutting = CuttingOver(written_back_url)
            await cutting.waits()
        assert (await cutting.task).refused == {}
        assert (await legacy(watcher, "copied"))[0] == 15
    await good(written_back_url)


async def test_a_batch_that_is_written_during_the_cut_over_waits_for_it_and_is_counted(written_back_url: str) -> None:
    making = []
    async with psql(written_back_url) as writer, psql(written_back_url) as watcher:
        await insert_batch(writer, "copied-1", "copied", quantity=5)

        async def write() -> None:
            making.append(asyncio.create_task(add(writer, "copied-1")))
            await waits_for_lock(watcher)

        assert (await cut_while(written_back_url, write, "copied")).done == 1
        await asyncio.gather(*making)
        assert (await legacy(watcher, "copied"))[0] == 16
    await good(written_back_url)


async def test_it_is_turned_on_behind_a_write_that_is_under_way(half_copied_url: str) -> None:
    await cut(half_copied_url, "mug")
    tried = 0
    async with psql(half_copied_url) as writer, engine_on(half_copied_url) as engine:
        transaction = writer.transaction()
        await transaction.start()
        await insert_batch(writer, "mug-1", "mug", quantity=5)

        def count(statement: str, _: object) -> None:
            nonlocal tried
            if "IN SHARE ROW EXCLUSIVE MODE NOWAIT" in statement:
                tried += 1
                if tried == 2:
                    await_only(transaction.commit())

        with at_statements(engine, count):
            assert (await set_write_back(engine, on=True, actor="test")).done == 1
        assert tried == 2
        assert (await legacy(writer, "mug"))[0] == 15
    await good(half_copied_url)
