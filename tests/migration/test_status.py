"""How far the migration is, and where reads come from."""

import pytest

from db.shape import load_shape
from migration.read_source import set_read_source
from migration.status import Status, read_status
from migration.verify import MigrationNotStarted
from tests.migration.support import engine_on, migrate
from tests.migration.test_plan import change
from tests.support import insert_item, psql


async def status(url: str, company: str | None = None) -> Status:
    async with engine_on(url) as engine, engine.connect() as connection:
        return await read_status(connection, company)


async def counted(url: str, company: str | None = None) -> tuple[str, int, int, int]:
    """The phase, and how many items there are, are copied, and are held back."""
    found = await status(url, company)
    return found.phase, found.items, found.copied, found.held_back


async def test_the_status_counts_the_items_that_are_there_now(items_url: str) -> None:
    await change(items_url, 'ALTER TABLE items ALTER "costPerUnitUSD" DROP NOT NULL')
    async with psql(items_url) as connection:
        await insert_item(connection, "no-cost", costPerUnitUSD=None)
        assert await counted(items_url) == ("NOT_STARTED", 8, 0, 1)
        await migrate(items_url)
        assert await counted(items_url) == ("DUAL_RUN", 8, 7, 1)
        assert await counted(items_url, "globex") == ("DUAL_RUN", 1, 1, 0)
        assert await counted(items_url, "nobody") == ("DUAL_RUN", 0, 0, 0)
        await connection.execute("DELETE FROM items WHERE id = 'item-Sold'")
        assert await counted(items_url) == ("DUAL_RUN", 7, 6, 1)
        await connection.execute("DELETE FROM items")
        assert await counted(items_url) == ("DUAL_RUN", 0, 0, 0)


async def test_the_latest_run_is_told_and_one_company_has_its_own_items_counted(items_url: str) -> None:
    assert (await status(items_url)).run is None
    await migrate(items_url)
    async with psql(items_url) as connection:
        await connection.execute(
            """
            INSERT INTO stockshift.migration_run (kind, driver, started_at, items_total, items_copied, rate, waiting)
            VALUES ('online', 'host:1', now(), 900, 500, 10, 'item globex-1 is locked')
            """
        )
        await connection.execute("INSERT INTO stockshift.driver (token, name, place) VALUES ('t', 'host:1', 'command')")
        run = (await status(items_url)).run
        assert run is not None
        assert (run.kind, run.items_total, run.items_copied, run.seconds_left) == ("online", 900, 500, 40)
        assert (await status(items_url)).phase == "COPYING"
        await connection.execute("UPDATE stockshift.copy_ledger SET run_id = $1 WHERE item_id < 'item-M'", run.id)
        globex = (await status(items_url, "globex")).run
        acme = (await status(items_url, "acme")).run
        await connection.execute("UPDATE stockshift.migration_run SET state = 'FINISHED'")
        assert (await status(items_url)).phase == "DUAL_RUN"
    for seen in (globex, acme):
        assert seen is not None
        assert (seen.rate, seen.waiting, seen.seconds_left) == (None, None, None)
    assert acme is not None
    assert globex is not None
    assert (acme.items_total, globex.items_total) == (6, 1)
    assert acme.items_copied + globex.items_copied == await copied_by(items_url, run.id)


async def copied_by(url: str, run_id: int) -> int:
    async with psql(url) as connection:
        count: int = await connection.fetchval("SELECT count(*) FROM stockshift.copy_ledger WHERE run_id = $1", run_id)
    return count


async def test_an_item_has_drifted_while_a_write_since_its_copy_is_not_in_its_opening_batch(items_url: str) -> None:
    await migrate(items_url)
    async with psql(items_url) as connection:
        await connection.execute("""UPDATE items SET "quantityInStock" = 77""")
        assert (await status(items_url)).drifted == 0
        await connection.execute("ALTER TABLE items ALTER status DROP NOT NULL")
        await connection.execute("UPDATE items SET status = NULL WHERE id = 'item-Sold'")
        assert (await status(items_url)).drifted == 1
        assert (await status(items_url, "globex")).drifted == 0
        await connection.execute("UPDATE items SET status = 'Sold' WHERE id = 'item-Sold'")
        assert (await status(items_url)).drifted == 0


async def test_a_write_after_an_items_cut_over_is_drift_whatever_it_wrote(items_url: str) -> None:
    await migrate(items_url)
    async with psql(items_url) as connection:
        await connection.execute("""UPDATE items SET "quantityInStock" = 77""")
        await connection.execute("UPDATE stockshift.copy_ledger SET cut_over_at = now() WHERE item_id = 'item-Sold'")
        assert (await status(items_url)).drifted == 0
        for notes in ("'anew'", "NULL"):
            await connection.execute(f"UPDATE items SET notes = {notes} WHERE id = 'item-Sold'")
            assert (await status(items_url)).drifted == 1
        assert (await status(items_url)).cut_over == 1
        assert (await status(items_url, "globex")).cut_over == 0


async def test_a_shop_without_items_is_expanded_and_no_more(shop_url: str) -> None:
    await migrate(shop_url)
    assert (await status(shop_url)).phase == "EXPANDED"


async def test_the_read_source_is_kept_in_the_database(items_url: str) -> None:
    async with engine_on(items_url) as engine:
        async with engine.begin() as connection:
            with pytest.raises(MigrationNotStarted):
                await set_read_source(connection, "LEGACY", "test")
        await migrate(items_url)
        for source in ("LEGACY", "LEGACY", "AUTO"):
            async with engine.begin() as connection:
                await set_read_source(connection, source, "test")
            async with engine.connect() as connection:
                assert (await load_shape(connection)).read_source == source
                assert (await read_status(connection, None)).read_source == source


async def test_a_read_source_whose_row_was_deleted_can_be_set(items_url: str) -> None:
    await migrate(items_url)
    await change(items_url, "DELETE FROM stockshift.setting")
    async with engine_on(items_url) as engine, engine.begin() as connection:
        await set_read_source(connection, "LEGACY", "test")
        assert (await load_shape(connection)).read_source == "LEGACY"
