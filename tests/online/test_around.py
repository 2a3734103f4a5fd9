"""What others do around an online migration, to it and to the shop's tables, and how it holds back for them."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from sqlalchemy.util import await_only

from migration.backfill import LARGEST_CHUNK, SMALLEST_CHUNK, TARGET_SECONDS, Pace
from migration.blockers import Blocked
from migration.online import Outcome, migrate_online
from migration.options import Options
from migration.progress import Progress
from migration.run import Run, Wanted, ask, latest_run
from migration.throttle import POLL_SECONDS, Measured, Throttle
from tests.migration.support import at_statements, engine_on, once_before
from tests.online.support import migrate_live
from tests.online.test_races import sound
from tests.support import psql

FIVE = Options(chunk_size=5)
BEFORE_A_CHUNK = "SELECT chunk.id"
"""The statement with which a chunk begins: nothing of the shop's is locked."""
COPIED = "SELECT count(*) FROM stockshift.copy_ledger"


async def migrate_and_meanwhile(url: str, act: Callable[[], Awaitable[None]], *, chunk: int = 3) -> Outcome:
    """Five items a chunk; somebody acts before the one of this number."""
    begun = 0

    def look(statement: str, _cursor: Any) -> None:
        nonlocal begun
        if BEFORE_A_CHUNK in statement:
            begun += 1
            if begun == chunk:
                await_only(act())

    async with engine_on(url) as engine:
        with at_statements(engine, look):
            return await migrate_online(engine, driver="test", options=FIVE)


async def run_of(url: str) -> Run:
    async with engine_on(url) as engine, engine.connect() as connection:
        run = await latest_run(connection)
        assert run is not None
        return run


async def wants(url: str, wanted: Wanted) -> None:
    async with engine_on(url) as engine, engine.begin() as connection:
        await ask(connection, wanted, "somebody else")


# The shop's tables


async def test_a_column_that_the_shop_adds_meanwhile_is_kept_from_then_on(quiet_url: str) -> None:
    async with psql(quiet_url) as shop:

        async def add() -> None:
            await shop.execute("ALTER TABLE items ADD COLUMN colour text DEFAULT 'red'")

        assert (await migrate_and_meanwhile(quiet_url, add)).copied == 30
        kept = "SELECT count(*) FROM stockshift.copy_ledger WHERE original ->> 'colour' = 'red'"
        assert await shop.fetchval(kept) == 20
        await shop.execute("UPDATE items SET colour = 'blue', notes = 'painted'")
    await sound(quiet_url)


async def test_a_column_that_the_shop_renames_meanwhile_stops_the_run_and_nothing_is_lost(quiet_url: str) -> None:
    async with psql(quiet_url) as shop:

        async def rename() -> None:
            await shop.execute("ALTER TABLE items RENAME notes TO remarks")

        with pytest.raises(Blocked) as blocked:
            await migrate_and_meanwhile(quiet_url, rename)
        assert "notes" in blocked.value.message
        run = await run_of(quiet_url)
        assert (run.state, run.error, run.driven) == ("FAILED", blocked.value.message, False)
        assert await shop.fetchval(COPIED) == 10

        await shop.execute("""UPDATE items SET "quantityInStock" = 100, remarks = 'sold' WHERE id = 'item-03'""")
        with pytest.raises(Blocked):
            await migrate_live(quiet_url)
        await shop.execute("ALTER TABLE items RENAME remarks TO notes")
        await shop.execute("""UPDATE items SET "quantityInStock" = 7 WHERE id = 'item-03'""")
        outcome = await migrate_live(quiet_url)
        assert (outcome.run > run.id, outcome.copied) == (True, 20)
    await sound(quiet_url)


# Whoever tells it to stop


async def test_a_run_is_paused_between_two_chunks_and_gone_on_with(quiet_url: str) -> None:
    paused = await migrate_and_meanwhile(quiet_url, lambda: wants(quiet_url, "PAUSE"))
    assert (paused.state, paused.copied) == ("PAUSED", 15)
    run = await run_of(quiet_url)
    assert (run.state, run.wanted, run.items_copied, run.driven) == ("PAUSED", "PAUSE", 15, False)
    async with psql(quiet_url) as shop:
        assert await shop.fetchval("SELECT count(*) FROM stockshift.driver") == 0
        await shop.execute("UPDATE items SET notes = 'while it was paused'")
    outcome = await migrate_live(quiet_url)
    assert (outcome.run, outcome.state, outcome.copied) == (run.id, "FINISHED", 30)
    await sound(quiet_url)


async def test_a_pause_that_is_taken_back_in_time_is_none(quiet_url: str) -> None:
    async def change_their_mind() -> None:
        await wants(quiet_url, "PAUSE")
        await wants(quiet_url, "RUN")

    assert (await migrate_and_meanwhile(quiet_url, change_their_mind)).state == "FINISHED"


async def test_a_run_that_is_cancelled_keeps_what_it_copied_and_another_copies_the_rest(quiet_url: str) -> None:
    cancelled = await migrate_and_meanwhile(quiet_url, lambda: wants(quiet_url, "CANCEL"))
    assert (cancelled.state, cancelled.copied) == ("CANCELLED", 15)
    async with psql(quiet_url) as shop:
        assert await shop.fetchval(COPIED) == 15
        await shop.execute("UPDATE items SET notes = 'while nothing ran'")
    outcome = await migrate_live(quiet_url)
    assert (outcome.run > cancelled.run, outcome.copied) == (True, 15)
    await sound(quiet_url)


# How it holds back


def measured(*, lag: float | None = None, active: int = 0, written: int = 0, at: float = 100.0) -> Measured:
    return Measured(lag, active, written, at)


BEGUN = measured(written=1_000_000)

WAITS: dict[str, tuple[Throttle, Measured, float | None]] = {
    "a replica is behind": (Throttle(lag=5), measured(lag=5.5), POLL_SECONDS),
    "a replica is as far behind as it may be": (Throttle(lag=5), measured(lag=5.0), None),
    "there is no replica": (Throttle(lag=5), measured(), None),
    "others are at work": (Throttle(active=2), measured(active=3), POLL_SECONDS),
    "so many may be at work": (Throttle(active=2), measured(active=2), None),
    "4 MB in a second, and 2 are allowed": (Throttle(wal=2), measured(written=5_000_000, at=101.0), 1.0),
    "4 MB in 2 s, as allowed": (Throttle(wal=2), measured(written=5_000_000, at=102.0), None),
    "the replica comes first": (Throttle(lag=1, wal=2), measured(lag=2.0, written=90_000_000), POLL_SECONDS),
    "nothing is asked for": (Throttle(), measured(lag=99.0, active=99, written=10**12), None),
}


@pytest.mark.parametrize("case", WAITS)
def test_a_throttle_waits_as_it_says(case: str) -> None:
    throttle, now, seconds = WAITS[case]
    due = throttle.wait(now, BEGUN)
    assert (None if due is None else due[0]) == seconds


def test_how_much_log_was_written_is_known_from_the_second_chunk_on() -> None:
    assert Throttle(wal=1).wait(measured(written=10**9), None) is None


class Waits:
    """How often a migration says that it waits for something."""

    def __init__(self, words: str) -> None:
        self.words = words
        self.times = 0

    def __call__(self, progress: Progress) -> None:
        if progress.waiting and self.words in progress.waiting:
            self.times += 1


async def test_a_throttle_by_sessions_waits_until_others_have_less_to_do(quiet_url: str) -> None:
    waits = Waits("other sessions are at work, more than active=")
    async with psql(quiet_url) as busy, psql(quiet_url) as administrator:
        work = [asyncio.create_task(busy.execute("SELECT pg_sleep(600)"))]
        stop = f"SELECT pg_cancel_backend({busy.get_server_pid()})"

        def look(progress: Progress) -> None:
            waits(progress)
            if len(work) == 1 and (waits.times or progress.stage == "sweep"):
                work.append(asyncio.create_task(administrator.execute(stop)))

        options = Options(chunk_size=15, throttle=Throttle(active=0.5))
        outcome = await migrate_live(quiet_url, options=options, progress=look)
        cancelled, *_ = await asyncio.gather(*work, return_exceptions=True)
    assert isinstance(cancelled, asyncpg.QueryCanceledError)
    assert (outcome.copied, waits.times > 0) == (30, True)


async def test_a_throttle_by_log_waits_after_a_chunk_that_wrote_too_much(quiet_url: str) -> None:
    said = Waits("MB of log a second are written")
    options = Options(throttle=Throttle(wal=0.03))
    assert (await migrate_live(quiet_url, options=options, progress=said)).copied == 30
    assert said.times > 0


async def test_a_throttle_by_time_waits_after_each_chunk(quiet_url: str) -> None:
    said = Waits("as asked for, 0.5 times as long as a chunk takes")
    options = Options(chunk_size=10, throttle=Throttle(sleep=0.5))
    assert (await migrate_live(quiet_url, options=options, progress=said)).copied == 30
    assert said.times == 3


def test_chunks_grow_and_shrink_with_what_they_take() -> None:
    pace = Pace(None)
    first = pace.size
    pace.took(TARGET_SECONDS / 10, first)
    assert pace.size == 2 * first
    pace.took(TARGET_SECONDS * 1.25, first)
    assert pace.size == int(2 * first * 0.8)
    for _ in range(20):
        pace.took(TARGET_SECONDS / 10, first)
    assert pace.size == LARGEST_CHUNK
    for _ in range(20):
        pace.took(TARGET_SECONDS * 10, first)
    assert pace.size == SMALLEST_CHUNK
    for _ in range(20):
        pace.halve()
    assert pace.size == 1


def test_no_chunk_is_larger_than_asked_for() -> None:
    pace = Pace(7)
    assert pace.size == 7
    pace.took(TARGET_SECONDS / 10, 7)
    assert pace.size == 7
    pace.took(TARGET_SECONDS * 10, 7)
    assert pace.size == 7


async def test_a_chunk_that_takes_too_long_gives_its_items_up_and_is_made_smaller(quiet_url: str) -> None:
    """Somebody may be waiting for one of them. Here the batches are locked: the shop makes an index of its own."""
    sizes: list[str] = []
    async with psql(quiet_url) as shop:
        index = shop.transaction()
        ended: list[asyncio.Task[None]] = []

        async def make_index() -> None:
            await index.start()
            await shop.execute("CREATE INDEX ON stock_batches (notes)")

        def look(progress: Progress) -> None:
            waited = re.search(
                r"a chunk took too long, or met a lock; the next has (\d+) items", progress.waiting or ""
            )
            if waited:
                sizes.append(waited[1])
            if len(sizes) == 3 and not ended:
                ended.append(asyncio.create_task(index.commit()))

        async with engine_on(quiet_url) as engine:
            with once_before(engine, BEFORE_A_CHUNK, make_index):
                outcome = await migrate_online(
                    engine, driver="test", options=Options(chunk_size=16), lock_timeout_ms=100, progress=look
                )
        await asyncio.gather(*ended)
    assert (outcome.state, outcome.copied) == ("FINISHED", 30)
    assert sizes[:3] == ["8", "4", "2"]
    await sound(quiet_url)
