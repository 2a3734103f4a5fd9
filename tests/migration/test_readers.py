"""A large shop is read on two connections, which see the same instant whatever is written meanwhile (R19)."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from migration import readers
from migration.report import VerificationReport, load_report
from migration.verify import verify
from tests.migration.support import engine_on, once_before
from tests.migration.test_verify import failed
from tests.support import Connection, psql


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any shop is large enough for a second connection."""
    monkeypatch.setattr(readers, "LARGE", -1)


async def report_of(engine: AsyncEngine) -> tuple[VerificationReport, Counter[int]]:
    """And how many statements each of the server's sessions was asked."""
    sessions: Counter[int] = Counter()

    def count(connection: object, *_rest: object) -> None:
        sessions[connection.connection.driver_connection.get_server_pid()] += 1  # type: ignore[attr-defined]

    event.listen(engine.sync_engine, "before_cursor_execute", count)
    try:
        made = await verify(engine, requested_by="test")
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", count)
    async with engine.connect() as connection:
        report = await load_report(connection, made.id, None)
    assert report is not None
    return report, sessions


def said(report: VerificationReport) -> dict[str, Any]:
    return {name: value for name, value in vars(report).items() if name not in ("id", "started_at", "finished_at")}


async def sell(till: Connection) -> None:
    """Whichever half of this a reader sees, it agrees with nothing else."""
    async with till.transaction():
        await till.execute('UPDATE items SET "quantityInStock" = "quantityInStock" + 1000')
        await till.execute(
            """
            INSERT INTO stock_batches SELECT (jsonb_populate_record(
                b, jsonb_build_object('id', gen_random_uuid(), 'createdAt', now(), 'quantity', 7)
            )).* FROM stock_batches b
            """
        )
        await till.execute("DELETE FROM items WHERE id = 'item-globex'")


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("words", ["pg_export_snapshot", "AS counted", "AS lost", "WITH compared"])
async def test_both_readers_see_what_was_there_when_the_first_began(migrated_url: str, words: str) -> None:
    """Between their statements somebody sells: what the report says is true of before."""
    async with engine_on(migrated_url) as engine, psql(migrated_url) as till:
        undisturbed, sessions = await report_of(engine)
        assert len(sessions) == 2
        with once_before(engine, words, lambda: sell(till)):
            report, _ = await report_of(engine)
        assert failed(report) == {}
        assert said(report) == said(undisturbed)
        later, _ = await report_of(engine)
        assert (failed(later), later.items_checked) == ({}, 6)
        assert later.fingerprint != report.fingerprint


@pytest.mark.usefixtures("large")
async def test_while_a_till_sells_all_the_time_no_report_is_of_two_instants(migrated_url: str) -> None:
    async with engine_on(migrated_url) as engine, psql(migrated_url) as till:

        async def always() -> None:
            while True:
                async with till.transaction():
                    await till.execute('UPDATE items SET "quantityInStock" = "quantityInStock" + 1')
                    await till.execute("UPDATE stock_batches SET quantity = quantity + 1 WHERE id = 'received'")

        selling = asyncio.create_task(always())
        try:
            found = [(await report_of(engine))[0] for _ in range(4)]
        finally:
            selling.cancel()
            await asyncio.gather(selling, return_exceptions=True)
    assert [failed(report) for report in found] == [{}] * 4
    assert len({report.legacy_quantity for report in found}) > 1, "it did sell"
    for report in found:
        assert report.legacy_quantity == report.batch_quantity == 45 + 7 * ((report.legacy_quantity - 45) // 7)
        assert sum(one.batch_units for one in report.conservation) == report.batch_quantity


async def test_a_small_shop_is_read_on_one_connection(migrated_url: str) -> None:
    async with engine_on(migrated_url) as engine:
        assert len((await report_of(engine))[1]) == 1


@pytest.mark.usefixtures("large")
async def test_a_reader_that_fails_ends_the_verification_and_leaves_no_session_behind(migrated_url: str) -> None:
    async with engine_on(migrated_url) as engine, psql(migrated_url) as administrator:

        async def end() -> None:
            await administrator.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND query LIKE '%AS lost%'"
            )

        with once_before(engine, "DISTINCT", end):
            outcome = await asyncio.gather(verify(engine, requested_by="test"), return_exceptions=True)
        assert type(outcome[0]).__name__ == "ConnectionLost"
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        assert (await report_of(engine))[0].state == "PASSED"
