"""A migration that is hurt at a given point, again and again, while the shop goes on trading; and what must come of it.

A point is a stage and how many statements and commits of it are let through. Nothing in the product knows of this: the
statements are counted as they leave.
"""

import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import await_only

from db.engine import ConnectionFailed
from migration.capture import TRIGGERS
from migration.failures import ConnectionLost
from migration.online import Outcome, migrate_online
from migration.options import Options
from migration.progress import Progress
from migration.run import STOPPED, Wanted, ask, latest_run
from tests.conftest import fill_shop
from tests.migration.support import engine_on, legacy_rows, locks_left, structure, until
from tests.mutations.proxy import proxy_to
from tests.online.balance import disagreements_within
from tests.support import Connection, insert_item, psql

STAGES = ("begin", "expand", "copy", "sweep", "keys", "verify")
ITEMS = 30
SMALL = Options(chunk_size=5)
DRIVER = "the one that is hurt"

Point = tuple[int, int]
"""The number of a stage in STAGES, and that of a statement or commit in it."""
Arrive = Callable[[Any, bool], None]
"""What is done at a point: with the SQLAlchemy connection, and whether it is a commit. It may await."""


async def fill(connection: Connection) -> None:
    """The shop with thirty items of all sorts that can be copied."""
    await fill_shop(connection)
    for number in range(ITEMS):
        await insert_item(
            connection,
            f"item-{number:02}",
            status=("ToOrder", "Ordered", "Arrived", "Sold")[number % 4],
            quantityInStock=number - 2,
            locationId=("acme-main", "acme-harbour", None)[number % 3],
            notes=f"note {number}" if number % 5 else None,
        )


class Course:
    """A driver's way through its statements. From point `until` on, `arrive` is called before each of them."""

    def __init__(self, until: Point, arrive: Arrive) -> None:
        self.until = until
        self.arrive = arrive
        self.at: Point = (0, 0)
        self.passed: list[Point] = []

    def report(self, progress: Progress) -> None:
        stage = STAGES.index(progress.stage)
        if stage != self.at[0]:
            self.at = (stage, 0)

    def _comes(self, connection: Any, *, commit: bool) -> None:
        self.at = (self.at[0], self.at[1] + 1)
        self.passed.append(self.at)
        if self.at >= self.until:
            self.arrive(connection, commit)

    @contextmanager
    def along(self, engine: AsyncEngine) -> Iterator[None]:
        def statement(connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            if not statement.startswith("SET "):  # settings of a transaction that has done nothing yet
                self._comes(connection, commit=False)

        def commit(connection: Any) -> None:
            self._comes(connection, commit=True)

        event.listen(engine.sync_engine, "before_cursor_execute", statement)
        event.listen(engine.sync_engine, "commit", commit)
        try:
            yield
        finally:
            event.remove(engine.sync_engine, "before_cursor_execute", statement)
            event.remove(engine.sync_engine, "commit", commit)


COMPILED: dict[Any, Any] = {}
"""Statements, which another engine would compile anew: most of what a driver here would do."""
NOWHERE: Point = (len(STAGES), 0)


async def drive(url: str, course: Course) -> Outcome:
    async with engine_on(url) as made:
        engine = made.execution_options(compiled_cache=COMPILED)
        with course.along(engine):
            return await migrate_online(
                engine, driver=DRIVER, requested_by="somebody", options=SMALL, progress=course.report
            )


def ignore(_connection: Any, _commit: bool) -> None: ...


class Killed(BaseException):
    """The driver is dead: nothing of it runs any more, no matter what it would clean up."""


@dataclass
class Hurts:
    """How a driver is hurt, once, when it arrives. `shop` is a connection past it."""

    url: str
    shop: Connection
    done: bool = False

    def trade(self) -> None:
        """The last that the shop does before."""
        await_only(sell(self.shop, "item-07"))

    @asynccontextmanager
    async def way(self) -> AsyncIterator[str]:
        """The URL by which the driver reaches the database."""
        yield self.url

    def arrive(self, connection: Any, commit: bool) -> None:
        raise NotImplementedError


class Kills(Hurts):
    """As kill -9 does: nothing is sent any more, and the server rolls back. Real ones: tests/online/crash_driver.py."""

    def arrive(self, connection: Any, commit: bool) -> None:
        if not self.done:
            self.trade()
        self.done = True
        raise Killed


class Terminates(Hurts):
    """The server ends the session, as an administrator or a failover does."""

    def arrive(self, connection: Any, commit: bool) -> None:
        if self.done:
            return
        self.done = True
        self.trade()
        pid = connection.connection.driver_connection.get_server_pid()
        gone = await_only(self.shop.fetchval("SELECT pg_terminate_backend($1, 5000)", pid))
        assert gone, f"session {pid} does not end"


class Cuts(Hurts):
    """The connection breaks in the middle of a commit, of which nobody hears whether it happened."""

    arrives = True

    @asynccontextmanager
    async def way(self) -> AsyncIterator[str]:
        async with proxy_to(self.url) as self.proxy:
            yield self.proxy.url

    def arrive(self, connection: Any, commit: bool) -> None:
        if self.done or not commit:
            return
        self.done = True
        self.trade()
        self.proxy.words, self.proxy.arrives = b"COMMIT", self.arrives


class CutsBefore(Cuts):
    arrives = False


class Asks(Hurts):
    """Somebody else wants the driver to stop."""

    wanted: Wanted = "PAUSE"

    def arrive(self, connection: Any, commit: bool) -> None:
        if self.done:
            return
        self.trade()
        self.done = await_only(self.asked())

    async def asked(self) -> bool:
        """Not while the driver writes the run's row: it waits for us."""
        async with engine_on(self.url) as engine, engine.begin() as connection:
            if await unlocked(self.shop):
                await connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
                await ask(connection, self.wanted, "somebody else")
                return True
        return False


class Cancels(Asks):
    wanted = "CANCEL"


async def driven(hurts: Hurts, point: Point) -> Outcome | None:
    """None: it was killed, or lost its connection and said so."""
    async with hurts.way() as url:
        try:
            return await drive(url, Course(point, hurts.arrive))
        except (Killed, ConnectionLost, ConnectionFailed):
            return None


async def unlocked(shop: Connection) -> bool:
    """There is an unfinished run, and nobody is writing its row."""
    if not await shop.fetchval("SELECT to_regclass('stockshift.migration_run') IS NOT NULL"):
        return False
    found = await shop.fetchval(
        "SELECT true FROM stockshift.migration_run WHERE state IN ('RUNNING', 'PAUSED') FOR UPDATE SKIP LOCKED"
    )
    return found is True


async def sell(shop: Connection, item_id: str) -> None:
    """One unit, unless it is locked."""
    async with shop.transaction():
        await shop.execute("SET LOCAL lock_timeout = '5ms'")
        try:
            async with shop.transaction():
                await shop.execute(
                    """UPDATE items SET "quantityInStock" = "quantityInStock" - 1 WHERE id = $1""", item_id
                )
        except asyncpg.LockNotAvailableError:
            pass


async def trade(shop: Connection, chance: random.Random) -> list[str]:
    """A busy hour: answers the legacy rows after it."""
    ids = [row[0] for row in await shop.fetch("SELECT id FROM items ORDER BY id")]
    sold, moved, gone = chance.sample(ids, 3)
    await shop.execute("""UPDATE items SET "quantityInStock" = "quantityInStock" - 3 WHERE id = $1""", sold)
    await shop.execute(
        """UPDATE items SET status = 'Sold', "locationId" = 'acme-harbour', notes = 'moved' WHERE id = $1""", moved
    )
    if gone != "item-07":
        await shop.execute("DELETE FROM items WHERE id = $1", gone)
    await insert_item(shop, f"item-{chance.randrange(ITEMS):02}-{chance.randrange(10**6):06}", quantityInStock=3)
    return await legacy_rows(shop)


@dataclass
class Life:
    """Of one migration. `straight` is what a database looks like after a migration that nothing happened to."""

    url: str
    chance: random.Random
    straight: list[str]
    run: int | None = None

    async def hurt(self, kind: type[Hurts], point: Point) -> Outcome | None:
        """Drives until `point`; None: the driver did not come to an end of its own."""
        async with psql(self.url, application_name="the shop") as shop:
            hurts = kind(self.url, shop)
            outcome = await driven(hurts, point)
            if kind is Cancels and hurts.done and outcome is not None and outcome.run != self.run:
                self.run = None  # it was cancelled before this driver took it over
            await self.follow_up(shop, outcome)
            if outcome is not None and issubclass(kind, Asks) and hurts.done:
                assert outcome.state in (STOPPED[kind.wanted], "FINISHED")
        return outcome

    async def follow_up_on_dead(self, outcome: Outcome | None = None) -> None:
        """After a driver that was a process of its own, or whose server died."""
        async with psql(self.url, application_name="the shop") as shop:
            await self.follow_up(shop, outcome)

    async def follow_up(self, shop: Connection, outcome: Outcome | None) -> None:
        """What holds at any time, and a dead driver's lease is made old."""
        await nothing_is_locked(shop)
        async with engine_on(self.url) as engine, engine.connect() as connection:
            run = await latest_run(connection)
        if run is not None:
            assert run.state != "FAILED", run.error
            assert outcome is None or (outcome.run, outcome.state) == (run.id, run.state)
            assert self.run in (None, run.id), f"run {self.run} was not gone on with, but {run.id} begun"
            self.run = run.id if run.unfinished else None
            assert await disagreements_within(shop) == []
        if await shop.fetchval("SELECT to_regclass('stockshift.driver') IS NOT NULL"):
            await shop.execute("UPDATE stockshift.driver SET beat_at = beat_at - interval '1 hour'")

    async def finish(self) -> None:
        """The shop trades on, and the next driver is let be."""
        async with psql(self.url, application_name="the shop") as shop:
            rows = await trade(shop, self.chance)
            outcome = await drive(self.url, Course(NOWHERE, ignore))
            assert self.run in (None, outcome.run)
            assert await legacy_rows(shop) == rows
            await whole(shop, outcome)
            assert await structure(shop) == self.straight


async def nothing_is_locked(shop: Connection) -> None:
    async def free() -> bool:
        return await locks_left(shop) == 0

    await until(free, "the server gave up what the driver was doing")
    assert await shop.fetchval("SELECT count(*) FROM pg_prepared_xacts") == 0


async def whole(shop: Connection, outcome: Outcome) -> None:
    """Everything is copied, once, verified, and nothing is left lying about."""
    assert (outcome.state, outcome.held_back, outcome.mismatched, outcome.not_copied) == ("FINISHED", 0, 0, 0)
    await nothing_is_locked(shop)
    copied = """
        SELECT i.id FROM items i FULL JOIN stock_batches b ON b."itemId" = i.id
        FULL JOIN stockshift.copy_ledger l ON l.item_id = i.id AND l.batch_id = b.id
        GROUP BY i.id HAVING count(b.id) <> 1 OR (i.id IS NOT NULL AND count(l.batch_id) <> 1)
    """
    assert [row[0] for row in await shop.fetch(copied) if row[0] is not None] == []
    opening = 'SELECT count(*) FROM items i JOIN stock_batches b ON b."itemId" = i.id'
    items = await shop.fetchval("SELECT count(*) FROM items")
    batches = await shop.fetchval("SELECT count(*) FROM stock_batches")
    assert (await shop.fetchval(opening), batches) == (items, items)
    assert await disagreements_within(shop) == []
    runs = await shop.fetch(
        """
        SELECT id, state, items_copied, waiting, error,
               (SELECT count(*) FROM stockshift.copy_ledger l WHERE l.run_id = r.id) AS noted
        FROM stockshift.migration_run r ORDER BY id
        """
    )
    assert [run["id"] for run in runs if run["items_copied"] != run["noted"]] == []
    last = runs[-1]
    assert (last["id"], last["state"], last["waiting"], last["error"]) == (outcome.run, "FINISHED", None, None)
    failed = "SELECT name, actual FROM stockshift.verification_check WHERE verification_id = $1 AND NOT passed"
    assert await shop.fetch(failed, outcome.verification) == []
    assert (
        await shop.fetchval("SELECT state FROM stockshift.verification WHERE id = $1", outcome.verification) == "PASSED"
    )
    assert await shop.fetchval("SELECT count(*) FROM stockshift.driver") == 0
    assert await shop.fetch("SELECT indexrelid::regclass FROM pg_index WHERE NOT indisvalid OR NOT indisready") == []
    triggers = await shop.fetch(
        """
        SELECT tgname::text FROM pg_trigger
        WHERE NOT tgisinternal AND tgenabled = 'A' AND tgrelid IN ('items'::regclass, 'stock_batches'::regclass)
        """
    )
    assert {row[0] for row in triggers} == TRIGGERS.keys()
