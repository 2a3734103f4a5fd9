"""Write-back (R10): old readers see what the batches say, of items that are cut over, for as long as it is on."""

import pytest

from db.engine import connecting
from db.shape import load_shape
from migration.capture import captured
from migration.failures import ConnectionLost
from migration.in_chunks import NotPrepared
from migration.status import read_status
from migration.verify import MigrationNotStarted
from migration.write_back import set_write_back
from migration.written_back import missing_write_back, write_back_wrong
from tests.migration.cutting_over import cut, killed_before, legacy, opening, taken_back, write_back, writes_of
from tests.migration.support import engine_on, legacy_rows, migrate, verified
from tests.resolvers.shop import insert_batch
from tests.support import Connection, insert_item, psql


@pytest.fixture
async def on_url(migrated_url: str) -> str:
    """Seven items, of which `item-Sold` and `item-Arrived` are cut over, of ten units each; write-back is on."""
    await cut(migrated_url, "item-Sold", "item-Arrived")
    await write_back(migrated_url)
    return migrated_url


async def wrong(url: str, company: str | None = None) -> list[str]:
    """What verification finds of it."""
    async with engine_on(url) as engine, connecting(engine) as connection:
        shape = await load_shape(connection)
        return sorted((await connection.execute(write_back_wrong(shape, company))).scalars())


async def reasons(connection: Connection, batch_id: str) -> list[str]:
    rows = await connection.fetch("SELECT reason FROM stockshift.movement WHERE batch_id = $1 ORDER BY id", batch_id)
    return [row[0] for row in rows]


async def test_the_quantity_is_the_sum_and_the_rest_is_that_of_the_largest_batch(on_url: str) -> None:
    async with psql(on_url) as connection:
        await insert_batch(connection, "more", "item-Sold", quantity=5, status="Ordered", locationId="acme-harbour")
        assert await legacy(connection, "item-Sold") == (15, "Sold", "acme-main")
        await connection.execute("UPDATE stock_batches SET quantity = 12 WHERE id = 'more'")
        assert await legacy(connection, "item-Sold") == (22, "Ordered", "acme-harbour")
        await connection.execute(
            """UPDATE stock_batches SET status = 'Arrived', "locationId" = NULL WHERE id = 'more'"""
        )
        assert await legacy(connection, "item-Sold") == (22, "Arrived", None)
        await opening(connection, "item-Sold", quantity=12)  # as many, and older
        assert await legacy(connection, "item-Sold") == (24, "Sold", "acme-main")
        await connection.execute("DELETE FROM stock_batches WHERE id = 'more'")
        assert await legacy(connection, "item-Sold") == (12, "Sold", "acme-main")
        await opening(connection, "item-Sold", notes="nothing that an old reader reads of many batches")
    assert await wrong(on_url) == []
    assert (await verified(on_url)).passed


async def test_an_item_whose_batches_are_all_gone_has_nothing_and_stays_where_it_was(on_url: str) -> None:
    async with psql(on_url) as connection:
        await connection.execute("""DELETE FROM stock_batches WHERE "itemId" = 'item-Sold'""")
        assert await legacy(connection, "item-Sold") == (0, "Sold", "acme-main")
        await connection.execute("TRUNCATE stock_batches")
        assert await legacy(connection, "item-Arrived") == (0, "Arrived", "acme-main")
        assert (await legacy(connection, "item-Ordered"))[0] == 10, "not cut over"
    assert await wrong(on_url) == []


async def test_a_batch_that_goes_to_another_item_leaves_the_one_and_comes_to_the_other(on_url: str) -> None:
    async with psql(on_url) as connection:
        await insert_batch(connection, "more", "item-Sold", quantity=5)
        await connection.execute("""UPDATE stock_batches SET "itemId" = 'item-Arrived' WHERE id = 'more'""")
        assert (await legacy(connection, "item-Sold"))[0] == 10
        assert (await legacy(connection, "item-Arrived"))[0] == 15
        await connection.execute("""UPDATE stock_batches SET "itemId" = 'item-Ordered' WHERE id = 'more'""")
        assert (await legacy(connection, "item-Arrived"))[0] == 10
        assert (await legacy(connection, "item-Ordered"))[0] == 10, "not cut over"
    assert await wrong(on_url) == []


async def test_one_statement_over_many_batches_writes_each_item_once(on_url: str) -> None:
    async with psql(on_url) as connection:
        for number in range(3):
            await insert_batch(connection, f"more-{number}", "item-Sold", quantity=1)
        before = len(await writes_of(connection, "item-Sold"))
        await connection.execute("UPDATE stock_batches SET quantity = quantity + 1 WHERE id LIKE 'more-%'")
        assert len(await writes_of(connection, "item-Sold")) == before + 1
        assert (await legacy(connection, "item-Sold"))[0] == 16
        await connection.execute("""UPDATE stock_batches SET "updatedAt" = now(), notes = 'x' WHERE id LIKE 'more-%'""")
        assert len(await writes_of(connection, "item-Sold")) == before + 1


async def test_what_is_written_back_is_recorded_as_ours_and_is_no_drift(on_url: str) -> None:
    async with psql(on_url) as connection:
        await insert_batch(connection, "more", "item-Sold", quantity=5)
        assert await writes_of(connection, "item-Sold") == [
            ("WRITE_BACK", True, {"quantityInStock": 10}, {"quantityInStock": 15})
        ]
    async with engine_on(on_url) as engine, connecting(engine) as connection:
        status = await read_status(connection, None)
    assert (status.drifted, status.write_back) == (0, True)
    assert (await verified(on_url)).passed


async def test_nothing_but_quantity_status_and_location_is_written(on_url: str) -> None:
    others = """SELECT to_jsonb(i) - '{quantityInStock,status,locationId}'::text[] FROM items i ORDER BY id"""
    async with psql(on_url) as connection:
        before = await connection.fetch(others)
        await opening(connection, "item-Sold", quantity=1, costPerUnitUSD=9.0, notes="x", orderNumber="y")
        assert await connection.fetch(others) == before


async def test_the_reason_of_a_statement_is_still_its_reason_afterwards(on_url: str) -> None:
    async with psql(on_url) as connection, connection.transaction():
        await connection.execute("SELECT set_config('stockshift.reason', 'RECEIVED', true)")
        await insert_batch(connection, "more", "item-Sold", quantity=5)
        await connection.execute("UPDATE stock_batches SET quantity = 9 WHERE id = 'more'")
        assert await reasons(connection, "more") == ["RECEIVED", "RECEIVED"]
        await connection.execute("SELECT set_config('stockshift.reason', '', true)")
        await connection.execute("UPDATE stock_batches SET quantity = 8 WHERE id = 'more'")
        await connection.execute("""UPDATE items SET "quantityInStock" = 4 WHERE id = 'item-Arrived'""")
        assert await reasons(connection, "more") == ["RECEIVED", "RECEIVED", "DIRECT"]
        assert [row[0] for row in await writes_of(connection, "item-Arrived")] == ["UPDATE"]


async def test_an_item_that_is_not_cut_over_follows_its_legacy_columns_as_before(on_url: str) -> None:
    async with psql(on_url) as connection:
        await insert_batch(connection, "more", "item-Ordered", quantity=5)
        assert (await legacy(connection, "item-Ordered"))[0] == 10
        await connection.execute("""UPDATE items SET "quantityInStock" = 4 WHERE id = 'item-Ordered'""")
        assert (
            await connection.fetchval("""SELECT sum(quantity) FROM stock_batches WHERE "itemId" = 'item-Ordered'""")
            == 9
        )
        await cut(on_url, "item-Ordered")
        assert (await legacy(connection, "item-Ordered"))[0] == 9
        await taken_back(on_url, "item-Ordered")
        assert (await legacy(connection, "item-Ordered"))[0] == 4
    assert await wrong(on_url) == []
    assert (await verified(on_url)).passed


async def test_drift_is_recorded_shown_and_only_then_written_over(on_url: str) -> None:
    async with psql(on_url) as connection:
        await connection.execute("""UPDATE items SET "quantityInStock" = 3 WHERE id = 'item-Sold'""")
        assert (await legacy(connection, "item-Sold"))[0] == 3
        assert await wrong(on_url) == [], "it is drift, and shown as that"
        assert not (await verified(on_url)).passed
        await opening(connection, "item-Sold", quantity=8)
        assert (await legacy(connection, "item-Sold"))[0] == 8
        assert [row[:2] for row in await writes_of(connection, "item-Sold")] == [
            ("UPDATE", False),
            ("WRITE_BACK", True),
        ]


async def test_turning_it_on_brings_what_was_cut_over_before_up_to_date(migrated_url: str) -> None:
    await cut(migrated_url, "item-Sold", "item-Arrived")
    async with psql(migrated_url) as connection:
        await insert_batch(connection, "more", "item-Sold", quantity=5)
        await insert_batch(connection, "other", "item-Ordered", quantity=5)
        assert (await legacy(connection, "item-Sold"))[0] == 10
        outcome = await write_back(migrated_url)
        assert (outcome.done, outcome.refused) == (2, {})
        assert (await legacy(connection, "item-Sold"))[0] == 15
        assert (await legacy(connection, "item-Ordered"))[0] == 10
        audit = "SELECT count(*) FROM stockshift.audit WHERE action = 'WRITE_BACK_SET' AND actor = 'test'"
        assert await connection.fetchval(audit) == 1


async def test_turned_off_it_leaves_the_columns_alone_and_can_be_turned_on_again(on_url: str) -> None:
    async with psql(on_url) as connection:
        for _ in range(2):
            await write_back(on_url, on=False)
            before = await legacy_rows(connection)
            await opening(connection, "item-Sold", quantity=2)
            assert await legacy_rows(connection) == before
            assert await wrong(on_url) == []
            await write_back(on_url)
            assert (await legacy(connection, "item-Sold"))[0] == 2
            await opening(connection, "item-Sold", quantity=10)
            assert (await legacy(connection, "item-Sold"))[0] == 10


async def test_one_that_is_killed_between_the_two_is_on_and_the_same_again_does_the_rest(
    migrated_url: str,
) -> None:
    await cut(migrated_url, "item-Sold")
    async with psql(migrated_url) as connection:
        await insert_batch(connection, "more", "item-Sold", quantity=5)
        with pytest.raises(ConnectionLost):
            async with killed_before(migrated_url, "stockshift.write_back(") as engine:
                await set_write_back(engine, on=True, actor="test")
        assert (await legacy(connection, "item-Sold"))[0] == 10
        assert await wrong(migrated_url) == [
            "item item-Sold: 10, Sold, acme-main in the legacy columns; 15, Sold, acme-main in the batches"
        ]
        assert await wrong(migrated_url, "globex") == []
        await write_back(migrated_url)
        assert (await legacy(connection, "item-Sold"))[0] == 15
    assert await wrong(migrated_url) == []


async def test_what_a_rule_of_the_shop_refuses_is_named_and_no_batch_write_fails(on_url: str) -> None:
    async with psql(on_url) as connection:
        await connection.execute('ALTER TABLE items ADD CHECK ("quantityInStock" BETWEEN -5 AND 20)')
        await connection.execute(
            """
            UPDATE stock_batches SET quantity = CASE "itemId" WHEN 'item-Sold' THEN 25 ELSE 15 END
            WHERE "itemId" IN ('item-Sold', 'item-Arrived')
            """
        )
        assert (await legacy(connection, "item-Sold"))[0] == 10
        assert (await legacy(connection, "item-Arrived"))[0] == 15
        await insert_batch(connection, "huge", "item-Arrived", quantity=2**31 - 1)
    assert [line.partition(":")[0] for line in await wrong(on_url)] == ["item item-Arrived", "item item-Sold"]


async def test_a_status_that_is_a_text_is_written_too(items_url: str) -> None:
    async with psql(items_url) as connection:
        await connection.execute("ALTER TABLE items ALTER status DROP DEFAULT, ALTER status TYPE text")
        await migrate(items_url)
        await cut(items_url, "item-Sold")
        await write_back(items_url)
        await opening(connection, "item-Sold", status="Arrived", quantity=3)
        assert await legacy(connection, "item-Sold") == (3, "Arrived", "acme-main")
        await taken_back(items_url, "item-Sold")
        assert await legacy(connection, "item-Sold") == (3, "Arrived", "acme-main")


async def test_an_item_that_is_deleted_or_gets_another_id_takes_it_along(on_url: str) -> None:
    async with psql(on_url) as connection:
        await connection.execute("""UPDATE items SET id = 'renamed' WHERE id = 'item-Sold'""")
        await insert_batch(connection, "more", "renamed", quantity=5)
        assert (await legacy(connection, "renamed"))[0] == 15
        await connection.execute("DELETE FROM items WHERE id = 'renamed'")
        await insert_item(connection, "renamed", quantityInStock=2)
        assert (await legacy(connection, "renamed"))[0] == 2
    assert await wrong(on_url) == []
    assert (await verified(on_url)).passed


async def test_a_location_that_is_deleted_leaves_an_item_and_its_batches_alike(on_url: str) -> None:
    """The keys write both: the item's location, which is no drift, and the batch's, which write-back follows."""
    async with psql(on_url) as connection:
        await insert_batch(connection, "more", "item-Sold", quantity=5, locationId="acme-harbour")
        await connection.execute("DELETE FROM locations WHERE id = 'acme-main'")
        assert await legacy(connection, "item-Sold") == (15, "Sold", None)
        await connection.execute("UPDATE stock_batches SET quantity = 12 WHERE id = 'more'")
        assert (await legacy(connection, "item-Sold"))[2] == "acme-harbour"
    assert await wrong(on_url) == []
    assert (await verified(on_url)).passed


async def test_a_trigger_of_it_that_is_gone_is_named_while_it_is_on(on_url: str) -> None:
    async def missing(*, on: bool) -> list[str]:
        async with engine_on(on_url) as engine, connecting(engine) as connection:
            return missing_write_back(await captured(connection), on=on)

    assert await missing(on=True) == []
    async with psql(on_url) as connection:
        await connection.execute("ALTER TABLE stock_batches DISABLE TRIGGER stockshift_write_back_update")
        await connection.execute("DROP TRIGGER stockshift_write_back_insert ON stock_batches")
    assert await missing(on=True) == [
        f"trigger stockshift_write_back_{event} on public.stock_batches is missing or disabled"
        for event in ("insert", "update")
    ]
    assert await missing(on=False) == []
    await write_back(on_url)
    assert await missing(on=True) == []


async def test_while_it_is_off_a_verification_reads_no_batch_for_it(migrated_url: str) -> None:
    async with engine_on(migrated_url) as engine, connecting(engine) as connection:
        query = write_back_wrong(await load_shape(connection), None)
        sql = str(query.compile(connection.sync_connection, compile_kwargs={"literal_binds": True}))
        rows = (await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {sql}")).scalars()
        read = [line for line in rows if "on stock_batches" in line]
    assert read
    assert all("never executed" in line for line in read)


async def test_before_the_migration_and_without_triggers_it_is_refused(items_url: str, migrated_url: str) -> None:
    with pytest.raises(MigrationNotStarted):
        await write_back(items_url)
    async with psql(migrated_url) as connection:
        await connection.execute("ALTER TABLE items DISABLE TRIGGER stockshift_follow_update")
    with pytest.raises(NotPrepared):
        await write_back(migrated_url)
