"""Kept verifications: read back, exported, compared, and seen to be interrupted (R23)."""

import asyncio
import csv
import io

import orjson

from migration.report import compare_reports, latest_reports, load_report, to_json, write_mismatches_csv
from migration.verify import start, verify
from tests.migration.support import engine_on, migrate, once_before, verified
from tests.migration.test_plan import change
from tests.support import psql

TAMPER = "UPDATE stock_batches SET quantity = 12, notes = 'a, \"b\"' WHERE \"itemId\" = '{}'"


async def test_there_is_no_report_before_the_migration(items_url: str) -> None:
    async with engine_on(items_url) as engine, engine.connect() as connection:
        assert await load_report(connection, 1, None) is None
        assert await latest_reports(connection, None, first=20) == []


async def test_reports_are_listed_newest_first_and_each_company_sees_its_own(items_url: str) -> None:
    await migrate(items_url)
    for company in (None, "acme", "globex", "acme"):
        await verified(items_url, company=company)
    async with engine_on(items_url) as engine, engine.connect() as connection:
        for company, first, ids in ((None, 20, [5, 4, 3, 2, 1]), (None, 2, [5, 4]), ("acme", 20, [5, 3])):
            listed = await latest_reports(connection, company, first=first)
            assert [(report.id, report.state) for report in listed] == [(id_, "PASSED") for id_ in ids]
        assert await load_report(connection, 4, "acme") is None
        assert await load_report(connection, 2, "acme") is None, "of all companies together"
        report = await load_report(connection, 4, "globex")
        assert report is not None
        assert (report.company_id, report.items_checked) == ("globex", 1)
        assert await load_report(connection, 99, None) is None


async def test_a_report_is_exported_whole(items_url: str) -> None:
    await migrate(items_url)
    await change(items_url, TAMPER.format("item-Sold"), TAMPER.format("item-Arrived"))
    made = await verified(items_url)
    async with engine_on(items_url) as engine, engine.connect() as connection:
        report = await load_report(connection, made.id, None)
    assert report is not None
    told = orjson.loads(to_json(report))
    assert (told["state"], told["items_checked"], told["legacy_quantity"], told["batch_quantity"]) == (
        "FAILED",
        7,
        45,
        49,
    )
    assert told["started_at"].endswith("+00:00")
    assert {"name": "copied twice", "passed": True, "expected": "0", "actual": "0", "detail": None} in told["checks"]
    assert [mismatch["item_id"] for mismatch in told["mismatches"]] == ["item-Arrived", "item-Sold"]
    assert told["mismatches"][0]["fields"] == ["quantity", "notes"]
    file = io.StringIO(newline="")
    write_mismatches_csv(report, file)
    file.seek(0)
    rows = list(csv.DictReader(file))
    assert [(row["item_id"], row["legacy_quantity"], row["batch_quantity"], row["difference"]) for row in rows] == [
        ("item-Arrived", "10", "12", "2"),
        ("item-Sold", "10", "12", "2"),
    ]
    assert rows[0]["fields"] == "quantity notes"
    assert rows[0]["repair"] == told["mismatches"][0]["repair"]
    assert rows[0]["kind"] == told["mismatches"][0]["kind"] == "OPENING_BATCH_CHANGED"
    assert orjson.loads(rows[0]["evidence"]) == told["mismatches"][0]["evidence"]


async def test_two_reports_are_compared_by_item(items_url: str) -> None:
    await migrate(items_url)
    await change(items_url, TAMPER.format("item-Sold"), TAMPER.format("item-Arrived"))
    earlier = await verified(items_url)
    await change(
        items_url,
        "UPDATE stock_batches SET quantity = 10, notes = NULL WHERE \"itemId\" = 'item-Sold'",
        TAMPER.format("item-Ordered"),
    )
    later = await verified(items_url)
    async with engine_on(items_url) as engine, engine.connect() as connection:
        reports = [await load_report(connection, made.id, None) for made in (earlier, later)]
    assert reports[0] is not None
    assert reports[1] is not None
    compared = compare_reports(reports[0], reports[1])
    assert [mismatch.item_id for mismatch in compared.new] == ["item-Ordered"]
    assert [mismatch.item_id for mismatch in compared.gone] == ["item-Sold"]
    assert [mismatch.item_id for mismatch in compared.still_there] == ["item-Arrived"]


async def state_of(url: str, verification_id: int) -> str:
    async with engine_on(url) as engine, engine.connect() as connection:
        report = await load_report(connection, verification_id, None)
    assert report is not None
    return report.state


async def test_a_verification_whose_session_was_ended_reads_as_interrupted(items_url: str) -> None:
    await migrate(items_url)
    async with engine_on(items_url) as engine, psql(items_url) as administrator:

        async def end() -> None:
            # As if it had begun long ago: it is RUNNING as long as it has its lock, and not a moment longer.
            await administrator.execute("UPDATE stockshift.verification SET started_at = now() - interval '1 hour'")
            assert await state_of(items_url, 2) == "RUNNING"
            assert await state_of(items_url, 1) == "PASSED"
            await administrator.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory'"
            )

        with once_before(engine, "WITH compared", end):
            outcome = await asyncio.gather(verify(engine, requested_by="test"), return_exceptions=True)
        assert type(outcome[0]).__name__ == "ConnectionLost"
        assert await state_of(items_url, 2) == "INTERRUPTED"
        assert await state_of(items_url, 1) == "PASSED"


async def test_a_report_that_has_just_begun_is_running(items_url: str) -> None:
    await migrate(items_url)
    async with engine_on(items_url) as engine:
        assert await state_of(items_url, await start(engine, requested_by="test")) == "RUNNING"
