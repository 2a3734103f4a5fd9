"""`rehearse`: the whole migration on a copy, and who is told what came of it."""

from pathlib import Path

import orjson

from db.url import DatabaseUrl
from migration.rehearse import Rehearsal, rehearse, tell_live
from tests.migration.backups import backed_up
from tests.migration.support import UNFOLLOWED, engine_on, migrate, whole_database
from tests.support import psql


async def rehearsed(url: str, directory: Path) -> Rehearsal:
    async with engine_on(url) as engine:
        return await rehearse(engine, DatabaseUrl.parse(url), directory, rehearsed_by="test")


async def told(url: str, rehearsal: Rehearsal) -> bool:
    async with engine_on(url) as engine:
        return await tell_live(engine, rehearsal, "test")


async def test_a_rehearsal_restores_plans_migrates_and_verifies_and_leaves_the_shop_alone(
    items_url: str, empty_database_url: str, tmp_path: Path
) -> None:
    await backed_up(items_url, tmp_path / "backup")
    async with psql(items_url) as shop:
        before = await whole_database(shop)
        done = await rehearsed(empty_database_url, tmp_path / "backup")
        assert await whole_database(shop) == before
    assert done.matched
    assert list(done.seconds) == ["restore", "plan", "migrate", "verify"]
    assert (done.items, done.quantity, done.copied, done.held_back) == (7, 45, 7, 0)
    assert done.verification is not None
    assert done.verification.batch_quantity == 45
    assert orjson.loads(done.to_json())["verification"]["state"] == "PASSED"


async def test_a_rehearsal_is_told_to_the_database_it_is_of_and_to_no_other(
    items_url: str, shop_url: str, empty_database_url: str, tmp_path: Path
) -> None:
    manifest = await backed_up(items_url, tmp_path / "backup")
    done = await rehearsed(empty_database_url, tmp_path / "backup")
    assert not await told(items_url, done)  # it has no audit yet
    await migrate(items_url)
    await migrate(shop_url)
    assert not await told(shop_url, done)
    assert await told(items_url, done)
    async with psql(items_url) as shop:
        row = await shop.fetchrow("SELECT actor, details FROM stockshift.audit WHERE action = 'REHEARSED'")
        assert row is not None
        assert row["actor"] == "test"
        details = orjson.loads(row["details"])
        number = await shop.fetchval("SELECT system_identifier::text FROM pg_control_system()")
        database = {"name": await shop.fetchval("SELECT current_database()"), "system_identifier": number}
        assert (details["matched"], details["backup"], details["database"]) == (True, manifest.id, database)


async def test_what_stands_in_the_way_is_in_the_report_and_nothing_is_copied(
    items_url: str, empty_database_url: str, tmp_path: Path
) -> None:
    async with psql(items_url) as shop:
        await shop.execute("CREATE TABLE more_items () INHERITS (items)")
    await backed_up(items_url, tmp_path / "backup")
    done = await rehearsed(empty_database_url, tmp_path / "backup")
    assert (done.matched, list(done.seconds), done.copied, done.verification) == (False, ["restore", "plan"], 0, None)
    assert "inherit" in done.blockers[0]


async def test_what_is_held_back_is_named_and_matches_all_the_same(
    items_url: str, empty_database_url: str, tmp_path: Path
) -> None:
    async with psql(items_url) as shop:
        await shop.execute('ALTER TABLE items ALTER "costPerUnitUSD" DROP NOT NULL')
        await shop.execute("UPDATE items SET \"costPerUnitUSD\" = NULL WHERE id = 'item-Sold'")
    await backed_up(items_url, tmp_path / "backup")
    done = await rehearsed(empty_database_url, tmp_path / "backup")
    assert (done.matched, done.copied, done.held_back) == (True, 6, 1)
    assert [decision.examples for decision in done.decisions if decision.held_back] == [["item-Sold"]]


async def test_a_shop_whose_systems_differ_does_not_match(
    items_url: str, empty_database_url: str, tmp_path: Path
) -> None:
    await migrate(items_url)
    async with psql(items_url) as shop:
        await shop.execute(UNFOLLOWED)
        await shop.execute("UPDATE items SET \"quantityInStock\" = 999 WHERE id = 'item-Sold'")
    await backed_up(items_url, tmp_path / "backup")
    done = await rehearsed(empty_database_url, tmp_path / "backup")
    assert not done.matched
    assert done.verification is not None
    assert [mismatch.item_id for mismatch in done.verification.mismatches] == ["item-Sold"]
