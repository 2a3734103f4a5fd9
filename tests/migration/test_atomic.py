"""`migrate --atomic`: everything or nothing, once, whoever else is there (R13-R17, R27, R28)."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import event

from migration.atomic import Migrated, NotVerified, migrate_atomic
from migration.failures import ConnectionLost
from migration.locks import LockNotHad
from tests.migration.support import (
    at_statements,
    batches_per_item,
    engine_on,
    legacy_rows,
    locks_left,
    migrate,
    once_before,
    until,
    verified,
    waits_for_lock,
    whole_database,
)
from tests.support import insert_item, psql

ITEMS = 7
STRIDE = 1 if "STOCKSHIFT_TEST_EXAMPLES" in os.environ else 3
"""Every so manieth statement fails."""


class Injected(Exception):
    """A failure that nobody expects."""


async def test_every_item_has_one_opening_batch_and_a_ledger_row_afterwards(items_url: str) -> None:
    assert await migrate(items_url) == Migrated(ITEMS, 0, 0, 1)
    async with psql(items_url) as connection:
        rows = await connection.fetch(
            """
            SELECT i.id, b.quantity, i."quantityInStock", l.batch_id = b.id AS known, i."useBatchSystem"
            FROM items i JOIN stock_batches b ON b."itemId" = i.id JOIN stockshift.copy_ledger l ON l.item_id = i.id
            """
        )
    assert len(rows) == ITEMS
    assert all(row["known"] and row["quantity"] == row["quantityInStock"] for row in rows)
    assert not any(row["useBatchSystem"] for row in rows), "the flag says cut over, not copied"


async def test_items_are_not_written_not_even_to_the_same_values(items_url: str) -> None:
    async with psql(items_url) as connection:
        before = await legacy_rows(connection)
        places = await connection.fetch("SELECT ctid::text, xmin::text FROM items ORDER BY id")
        await migrate(items_url)
        assert await legacy_rows(connection) == before
        assert await connection.fetch("SELECT ctid::text, xmin::text FROM items ORDER BY id") == places


async def test_again_copies_nothing_and_a_third_time_only_what_is_new(items_url: str) -> None:
    await migrate(items_url)
    assert (await migrate(items_url)).copied == 0
    async with psql(items_url) as connection:
        await insert_item(connection, "item-new", quantityInStock=3)
        await insert_item(connection, "item-new-too", quantityInStock=0)
    assert (await migrate(items_url)).copied == 2
    batches = await batches_per_item(items_url)
    assert len(batches) == ITEMS + 2
    assert set(batches.values()) == {1}


async def test_what_differs_since_an_earlier_run_does_not_keep_new_items_from_being_copied(items_url: str) -> None:
    await migrate(items_url)
    async with psql(items_url) as connection:
        await connection.execute("UPDATE stock_batches SET quantity = 9 WHERE \"itemId\" = 'item-Sold'")
        await insert_item(connection, "item-new")
    outcome = await migrate(items_url)
    assert (outcome.copied, outcome.mismatched) == (1, 1)


async def test_a_run_that_forgot_items_is_not_kept(items_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing_follows(*_: object) -> None: ...

    monkeypatch.setattr("migration.atomic.next_bound", nothing_follows)
    async with psql(items_url) as connection:
        before = await whole_database(connection)
        with pytest.raises(NotVerified, match=r"7 wrong, such as item item-\w+: it was not copied, "):
            await migrate(items_url)
        assert await whole_database(connection) == before


def fail(statement: str, _cursor: Any) -> None:
    raise Injected(statement)


def end_session(_statement: str, cursor: Any) -> None:
    cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


async def test_a_failure_at_any_statement_leaves_the_database_as_it_was(items_url: str) -> None:
    """At one an error, at the next that is tried the loss of the session."""
    async with engine_on(items_url) as engine, psql(items_url) as connection:
        before = await whole_database(connection)

        async def fails_at(place: int) -> bool:
            seen = 0

            def at(statement: str, cursor: Any) -> None:
                nonlocal seen
                seen += seen > 0 or statement.startswith("LOCK TABLE")  # all before only looked
                if seen == place:
                    (fail if place % 2 else end_session)(statement, cursor)

            with at_statements(engine, at), suppress(Injected, ConnectionLost):
                await migrate_atomic(engine, driver="test")
                return False
            return True

        place = 1
        while await fails_at(place):
            assert await whole_database(connection) == before, f"changed by a failure at statement {place}"
            place += STRIDE
        assert place > 30
        assert await whole_database(connection) != before


async def test_a_failure_at_the_commit_leaves_the_database_as_it_was(items_url: str) -> None:
    async with engine_on(items_url) as engine, psql(items_url) as connection:
        before = await whole_database(connection)

        @event.listens_for(engine.sync_engine, "commit")
        def fail_commit(_connection: Any) -> None:
            raise Injected

        with pytest.raises(Injected):
            await migrate_atomic(engine, driver="test")
        assert await whole_database(connection) == before
        assert await locks_left(connection) == 0


async def start_driver(url: str, name: str, pause_before: str | None = None) -> Process:
    arguments = [url, name, *([pause_before] if pause_before else [])]
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.migration.driver", *arguments, stdout=PIPE, stderr=PIPE
    )


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("pause_before", ["LOCK TABLE", "WITH choice", "ANALYZE", "ADD COLUMN"])
async def test_a_driver_that_is_killed_leaves_nothing_and_the_next_one_completes(
    items_url: str, how: signal.Signals, pause_before: str
) -> None:
    async with psql(items_url) as holder, psql(items_url) as connection:
        before = await whole_database(connection)
        await holder.execute("SELECT pg_advisory_lock(42)")
        driver = await start_driver(items_url, "killed", pause_before)
        await waits_for_lock(connection)
        driver.send_signal(how)
        await driver.communicate()
        assert driver.returncode != 0
        await holder.execute("SELECT pg_advisory_unlock(42)")

        async def gone() -> bool:
            return await locks_left(connection) == 0

        await until(gone, "the killed driver's session is gone")
        assert await whole_database(connection) == before
        assert (await migrate(items_url)).copied == ITEMS


async def test_two_drivers_make_one_opening_batch_an_item_and_the_second_is_told_who_drives(items_url: str) -> None:
    async with psql(items_url) as holder, psql(items_url) as connection:
        await holder.execute("SELECT pg_advisory_lock(42)")
        first = await start_driver(items_url, "anna@till", "WITH choice")
        await waits_for_lock(connection)
        pid = await connection.fetchval(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'stockshift migrate: anna@till'"
        )
        second = await start_driver(items_url, "ben@office")
        said = (await second.communicate())[0].decode()
        assert said.startswith(f"MigrationRunning: a migration is running already (pid {pid}, ")
        assert "anna@till" in said
        assert ", since 20" in said
        await holder.execute("SELECT pg_advisory_unlock(42)")
        assert (await first.communicate())[0].decode() == f"copied {ITEMS}\n"
    assert set((await batches_per_item(items_url)).values()) == {1}


async def test_drivers_started_at_once_make_one_opening_batch_an_item(items_url: str) -> None:
    async with engine_on(items_url) as one, engine_on(items_url) as other:
        outcomes = await asyncio.gather(migrate_atomic(one, driver="one"), migrate_atomic(other, driver="other"))
    assert sorted(outcome.copied for outcome in outcomes) == [0, ITEMS]
    batches = await batches_per_item(items_url)
    assert len(batches) == ITEMS
    assert set(batches.values()) == {1}


@pytest.mark.usefixtures("no_backoff")
@pytest.mark.parametrize(
    "statement",
    [
        "LOCK TABLE items IN ACCESS EXCLUSIVE MODE",
        "UPDATE items SET notes = 'mine' WHERE id = 'item-Sold'",
        "UPDATE locations SET name = 'mine'",
    ],
)
async def test_a_writer_that_does_not_end_is_named_and_nothing_is_changed(items_url: str, statement: str) -> None:
    async with psql(items_url, application_name="old till") as writer, psql(items_url) as connection:
        before = await whole_database(connection)
        transaction = writer.transaction()
        await transaction.start()
        await writer.execute(statement)
        with pytest.raises(LockNotHad, match=f"in use by pid {writer.get_server_pid()}, application 'old till', user "):
            await asyncio.wait_for(migrate(items_url, lock_timeout_ms=50), 10)
        await transaction.rollback()
        assert await whole_database(connection) == before


@pytest.mark.parametrize("words", ["CREATE SCHEMA", "WITH choice", "ANALYZE", "UPDATE stockshift.migration_run"])
async def test_readers_do_not_wait_while_items_are_copied(items_url: str, words: str) -> None:
    async with engine_on(items_url) as engine, psql(items_url, application_name="old till") as reader:

        async def read() -> None:
            await reader.execute("SET statement_timeout = '2s'")
            assert await reader.fetchval("SELECT count(*) FROM items") == ITEMS

        with once_before(engine, words, read):
            await migrate_atomic(engine, driver="test")


async def test_a_write_during_the_run_waits_lands_and_is_followed(items_url: str) -> None:
    async with engine_on(items_url) as engine, psql(items_url) as till, psql(items_url) as watcher:
        writing: asyncio.Task[str] | None = None

        async def write() -> None:
            nonlocal writing
            sale = "UPDATE items SET \"quantityInStock\" = 9 WHERE id = 'item-Arrived'"
            writing = asyncio.create_task(till.execute(sale))
            await waits_for_lock(watcher)

        with once_before(engine, "WITH choice", write):
            outcome = await migrate_atomic(engine, driver="test")
        assert writing is not None
        assert await writing == "UPDATE 1"
        assert (outcome.copied, outcome.mismatched) == (ITEMS, 0)
        assert (await verified(items_url)).passed
        found = await watcher.fetchrow(
            """
            SELECT w.item_id, w.followed, b.quantity FROM stockshift.legacy_write w
            JOIN stockshift.copy_ledger l USING (item_id) JOIN stock_batches b ON b.id = l.batch_id
            """
        )
        assert found is not None
        assert tuple(found) == ("item-Arrived", True, 9)


async def test_a_write_that_commits_while_the_run_waits_for_the_lock_is_copied(items_url: str) -> None:
    """The snapshot must not be older than the lock: else the copy would be of what was before the write."""
    async with engine_on(items_url) as engine, psql(items_url) as till, psql(items_url) as watcher:
        transaction = till.transaction()

        async def write() -> None:
            await transaction.start()
            await till.execute("UPDATE items SET \"quantityInStock\" = 9 WHERE id = 'item-Arrived'")

            async def commit() -> None:
                await waits_for_lock(watcher)
                await transaction.commit()

            tasks.append(asyncio.create_task(commit()))

        tasks: list[asyncio.Task[None]] = []
        with once_before(engine, "LOCK TABLE public.items", write):
            outcome = await migrate_atomic(engine, driver="test")
        await tasks[0]
        assert (outcome.copied, outcome.mismatched) == (ITEMS, 0)
        assert (await verified(items_url)).passed
        quantity = await watcher.fetchval("SELECT quantity FROM stock_batches WHERE \"itemId\" = 'item-Arrived'")
        assert quantity == 9


async def test_a_reader_that_goes_on_to_write_is_no_deadlock(items_url: str) -> None:
    """It has read `items` and waits to write them, so adding the flag waits for it: each for the other."""
    async with engine_on(items_url) as engine, psql(items_url) as till, psql(items_url) as watcher:
        selling: asyncio.Task[None] | None = None

        async def sell() -> None:
            async with till.transaction():
                await till.fetchval("SELECT count(*) FROM items")
                await till.execute("UPDATE items SET \"quantityInStock\" = 9 WHERE id = 'item-Arrived'")

        async def start() -> None:
            nonlocal selling
            selling = asyncio.create_task(sell())
            await waits_for_lock(watcher)

        with once_before(engine, "IN ACCESS EXCLUSIVE MODE", start):
            outcome = await migrate_atomic(engine, driver="test")
        assert selling is not None
        await selling
        assert outcome.copied == ITEMS
        quantity = await watcher.fetchval("SELECT quantity FROM stock_batches WHERE \"itemId\" = 'item-Arrived'")
        assert quantity == 9, "the run started over, after the sale"
        assert (await verified(items_url)).passed


async def test_a_writer_of_another_table_that_goes_on_to_items_is_no_deadlock(items_url: str) -> None:
    async with engine_on(items_url) as engine, psql(items_url) as till, psql(items_url) as watcher:
        selling: asyncio.Task[str] | None = None
        transaction = till.transaction()
        await transaction.start()

        async def start() -> None:
            nonlocal selling
            await till.execute("UPDATE locations SET name = 'Moved' WHERE id = 'acme-main'")
            selling = asyncio.create_task(till.execute("UPDATE items SET notes = 'x' WHERE id = 'item-Arrived'"))
            await waits_for_lock(watcher)

        async def sell() -> None:
            await until(started, "the sale has begun")
            assert selling is not None
            await selling
            await transaction.commit()

        async def started() -> bool:
            return selling is not None

        with once_before(engine, "LOCK TABLE public.locations", start):
            outcome, _ = await asyncio.gather(migrate_atomic(engine, driver="test"), sell())
        assert outcome.copied == ITEMS
        assert await watcher.fetchval("SELECT notes FROM stock_batches WHERE \"itemId\" = 'item-Arrived'") == "x"


async def test_nobody_queues_for_long_behind_the_flag_and_what_was_copied_is_kept(items_url: str) -> None:
    async with (
        engine_on(items_url) as engine,
        psql(items_url) as reader,
        psql(items_url) as till,
        psql(items_url) as website,
    ):
        statements: list[str] = []
        transaction = reader.transaction()
        await transaction.start()
        await reader.execute("SELECT count(*) FROM items")
        await website.execute("SET lock_timeout = '2s'")

        async def read_on() -> None:
            while True:
                await website.execute("SELECT count(*) FROM items")

        async def start() -> None:
            tasks.append(asyncio.create_task(till.execute("UPDATE items SET notes = 'x' WHERE id = 'item-Arrived'")))
            tasks.append(asyncio.create_task(read_on()))

        tasks: list[asyncio.Task[Any]] = []
        with (
            at_statements(engine, lambda statement, _: statements.append(statement)),
            once_before(engine, "WITH choice", start),
            once_before(engine, "ROLLBACK TO SAVEPOINT", transaction.commit),
        ):
            outcome = await migrate_atomic(engine, driver="test", lock_timeout_ms=10_000)
        assert not tasks[1].done(), "the website was answered all the time"
        tasks[1].cancel()
        await asyncio.wait(tasks)
        assert await tasks[0] == "UPDATE 1"
        assert outcome.copied == ITEMS
        assert len([words for words in statements if words.startswith("LOCK TABLE public.items IN SHARE")]) == 1


@pytest.mark.usefixtures("no_backoff")
async def test_a_reader_that_does_not_end_is_named_and_nothing_is_changed(items_url: str) -> None:
    async with psql(items_url, application_name="yearly report") as reader, psql(items_url) as connection:
        before = await whole_database(connection)
        async with reader.transaction():
            await reader.execute("SELECT count(*) FROM items")
            with pytest.raises(LockNotHad, match=r"items is in use by .*'yearly report'"):
                await migrate(items_url, lock_timeout_ms=50)
        assert await whole_database(connection) == before


async def test_progress_counts_up_to_all_items(items_url: str) -> None:
    seen: list[tuple[str, int, int]] = []
    await migrate(items_url, progress=lambda progress: seen.append((progress.stage, progress.done, progress.total)))
    assert seen == [("copy", ITEMS, ITEMS), ("verify", 0, ITEMS), ("verify", ITEMS, ITEMS)]


async def test_chunks_end_at_the_last_item_in_the_databases_own_order(
    items_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [
        "a",
        "A",
        "b",
        "B",
        "é",
        "É",
        "ß",
        "ss",
        "-",
        "_a",
        "a b",
        "ab",
        "z",
        "10",
        "9",
        " ",
        "",
        "💡",
        "'",
        "\\",
        "%s",
    ]
    async with psql(items_url) as connection:
        for item in ids:
            await insert_item(connection, item)
    monkeypatch.setattr("migration.atomic.CHUNK", 3)
    assert (await migrate(items_url)).copied == ITEMS + len(ids)
    assert set(ids) < set(await batches_per_item(items_url))
