"""Rollback archives what was made since, and nothing of the shop's own changes; undo puts all of it back (R24)."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from migration.archive import ConfirmationMismatch, NotArchived, Superseded
from migration.draft import SCHEMA
from migration.exclusively import Actor
from migration.locks import LockNotHad, MigrationRunning
from migration.online import migrate_online
from migration.options import Options
from migration.rollback import AlreadyRolledBack, OnlyInBatches, Rehearsal, rehearse, roll_back
from migration.run import ask
from migration.status import read_status
from migration.undo_rollback import Undone, undo_rollback
from migration.verify import MigrationNotStarted
from migration.write_back import set_write_back
from tests.conftest import CopyTemplate, MakeTemplate, url_of
from tests.migration.conftest import fill_items
from tests.migration.support import engine_on, legacy_rows, migrate, once_before, structure, verified
from tests.migration.test_plan import BATCHES
from tests.migration.test_variants import EQUAL
from tests.resolvers.shop import insert_batch
from tests.support import Connection, insert_item, psql

ACTOR = Actor("test")
KEPT = ("stock_batches", "stockshift.copy_ledger", "stockshift.movement", "stockshift.legacy_write")
RECEIVED = "SELECT set_config('stockshift.reason', 'RECEIVED', false)"


async def fill_migrated(connection: Connection, server_url: str) -> None:
    """Migrated; a batch was received, the shop sold, one item is cut over and has changed since, one lost its batch."""
    await fill_items(connection)
    await migrate(await url_of(connection, server_url))
    await connection.execute(RECEIVED)
    await insert_batch(connection, "received", "item-Arrived", quantity=5, locationId="acme-harbour")
    await connection.execute("RESET stockshift.reason")
    await connection.execute("""UPDATE items SET "quantityInStock" = 8 WHERE id = 'item-Ordered'""")
    await connection.execute("UPDATE stockshift.copy_ledger SET cut_over_at = now() WHERE item_id = 'item-Sold'")
    await connection.execute("""UPDATE items SET "useBatchSystem" = true WHERE id = 'item-Sold'""")
    await connection.execute("""UPDATE stock_batches SET quantity = 3 WHERE "itemId" = 'item-Sold'""")
    await connection.execute("""DELETE FROM stock_batches WHERE "itemId" = 'item-globex'""")


@pytest.fixture(scope="session")
def migrated_template(make_template: MakeTemplate, server_url: str) -> str:
    return make_template(lambda connection: fill_migrated(connection, server_url))


@pytest.fixture
def migrated_url(copy_template: CopyTemplate, migrated_template: str) -> str:
    return copy_template(migrated_template)


async def name_of(url: str) -> str:
    async with psql(url) as connection:
        return str(await connection.fetchval("SELECT current_database()"))


async def rolled_back(url: str, **options: Any) -> Rehearsal:
    async with engine_on(url) as engine:
        return await roll_back(engine, ACTOR, **{"confirm": await name_of(url), **options})


async def undone(url: str, **options: Any) -> Undone:
    async with engine_on(url) as engine:
        return await undo_rollback(engine, ACTOR, **{"confirm": await name_of(url), **options})


async def phase(url: str) -> str:
    async with engine_on(url) as engine, engine.connect() as connection:
        return (await read_status(connection, None)).phase


async def kept(connection: Connection) -> dict[str, list[str]]:
    """Every row of what is archived, and the items with their flags."""
    found = {}
    for name in KEPT:
        rows = await connection.fetch(f"SELECT to_jsonb(t)::text AS row FROM {name} t ORDER BY 1")
        found[name] = [row["row"] for row in rows]
    found["items"] = [
        row[0]
        for row in await connection.fetch("""SELECT concat_ws(' ', id, "useBatchSystem") FROM items ORDER BY 1""")
    ]
    return found


async def columns_as_md5(connection: Connection) -> dict[str, str]:
    """By column of items that is the shop's: its bytes in every row."""
    names = await connection.fetch(
        "SELECT attname::text FROM pg_attribute WHERE attrelid = 'items'::regclass AND attnum > 0 AND NOT attisdropped"
        " AND attname <> 'useBatchSystem'"
    )
    found = {}
    for (name,) in names:
        rows = await connection.fetch(f'SELECT id, "{name}"::text FROM items ORDER BY id')
        found[name] = hashlib.md5(repr([tuple(row) for row in rows]).encode()).hexdigest()  # noqa: S324
    return found


def without_flag(lines: list[str]) -> list[str]:
    """A column that is added again has another number."""
    return [line for line in lines if "useBatchSystem" not in line and ".pg.dropped." not in line]


@asynccontextmanager
async def unchanged_columns(url: str) -> AsyncIterator[Connection]:
    """Nothing of what the shop wrote changes in here."""
    async with psql(url) as connection:
        before = await columns_as_md5(connection)
        yield connection
        assert await columns_as_md5(connection) == before


# What it does


async def test_a_rollback_archives_what_is_ours_and_leaves_the_items_as_they_are(migrated_url: str) -> None:
    async with unchanged_columns(migrated_url) as connection:
        before = await kept(connection)
        done = await rolled_back(migrated_url)
        assert done.archive == "stockshift_archive_1"
        for name in KEPT:
            archived = f"{done.archive}.{name.split('.')[-1]}"
            rows = await connection.fetch(f"SELECT to_jsonb(t)::text AS row FROM {archived} t ORDER BY 1")
            assert [row["row"] for row in rows] == before[name]
        ours = """
            SELECT tgname::text FROM pg_trigger WHERE tgname LIKE 'stockshift%'
            UNION SELECT relname::text FROM pg_class WHERE relname LIKE 'stockshift_items%'
            UNION SELECT attname::text FROM pg_attribute
                  WHERE attrelid = 'items'::regclass AND attname = 'useBatchSystem' AND NOT attisdropped
            UNION SELECT relname::text FROM pg_class WHERE oid = to_regclass('stock_batches')
        """
        assert await connection.fetch(ours) == []
    async with psql(migrated_url) as shop:
        await shop.execute("DELETE FROM items; DELETE FROM locations; DELETE FROM users")
        assert await shop.fetchval("SELECT count(*) FROM stockshift_archive_1.stock_batches") == 7


async def test_what_exists_only_in_batches_is_listed_before_and_after(migrated_url: str) -> None:
    async with engine_on(migrated_url) as engine:
        before = await rehearse(engine)
    expected = [
        OnlyInBatches("item-Arrived", "item-Arrived", 10, 15, 1),
        OnlyInBatches("item-Sold", "item-Sold", 10, 3, 0),
        OnlyInBatches("item-globex", "item-globex", 7, 0, 0),
    ]
    assert (before.listed, before.items, before.units, before.batches) == (expected, 3, 5 - 7 - 7, 7)
    done = await rolled_back(migrated_url)
    assert (done.listed, done.items, done.units, done.batches) == (expected, 3, 5 - 7 - 7, 7)


async def test_the_phase_says_so_and_reports_runs_and_audit_stay(migrated_url: str) -> None:
    await verified(migrated_url)
    await rolled_back(migrated_url)
    assert await phase(migrated_url) == "ROLLED_BACK"
    async with psql(migrated_url) as connection:
        assert await connection.fetchval("SELECT count(*) FROM stockshift.verification") == 2
        assert await connection.fetchval("SELECT count(*) FROM stockshift.migration_run") == 1
        (last,) = await connection.fetch("SELECT action, actor FROM stockshift.audit ORDER BY id DESC LIMIT 1")
    assert tuple(last) == ("ROLLED_BACK", "test")
    with pytest.raises(MigrationNotStarted, match="rolled back"):
        await verified(migrated_url)
    with pytest.raises(AlreadyRolledBack, match="by test"):
        await rolled_back(migrated_url)


async def test_a_rollback_changes_nothing_unless_the_database_is_named(migrated_url: str) -> None:
    async with psql(migrated_url) as connection:
        before = await structure(connection)
        with pytest.raises(ConfirmationMismatch, match="'shop'"):
            await rolled_back(migrated_url, confirm="shop")
        with pytest.raises(ConfirmationMismatch):
            await undone(migrated_url, confirm="shop")
        assert await structure(connection) == before


async def test_what_was_never_migrated_is_not_rolled_back(items_url: str) -> None:
    with pytest.raises(MigrationNotStarted):
        await rolled_back(items_url)
    with pytest.raises(MigrationNotStarted):
        await undone(items_url)


# Undo


async def test_undo_puts_everything_back_bit_for_bit(migrated_url: str) -> None:
    async with unchanged_columns(migrated_url) as connection:
        before, looked = await kept(connection), without_flag(await structure(connection))
        triggers = "SELECT pg_get_triggerdef(oid) || tgenabled::text FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1"
        fired = await connection.fetch(triggers)
        await rolled_back(migrated_url)
        done = await undone(migrated_url)
        assert (done.batches, done.written, done.inserted, done.deleted, done.archive) == (7, 0, 0, 0, None)
        assert await kept(connection) == before
        assert without_flag(await structure(connection)) == looked
        assert await connection.fetch(triggers) == fired
        assert await connection.fetchval("SELECT count(*) FROM pg_constraint WHERE NOT convalidated") == 0
        assert await connection.fetchval("SELECT to_regnamespace('stockshift_archive_1') IS NULL")
    assert await phase(migrated_url) == "DUAL_RUN"
    with pytest.raises(NotArchived):
        await undone(migrated_url)


async def test_what_the_shop_wrote_meanwhile_is_followed_or_is_drift(migrated_url: str) -> None:
    failed_before = {check.name for check in (await verified(migrated_url)).checks if not check.passed}
    await rolled_back(migrated_url)
    async with psql(migrated_url) as shop:
        await shop.execute("""UPDATE items SET "quantityInStock" = 4, notes = 'less' WHERE id = 'item-Arrived'""")
        await shop.execute("""UPDATE items SET "quantityInStock" = 1 WHERE id = 'item-Sold'""")
        await insert_item(shop, "item-new", quantityInStock=2)
    async with unchanged_columns(migrated_url) as connection:
        done = await undone(migrated_url)
        assert (done.written, done.inserted, done.deleted) == (2, 1, 0)
        batches = await connection.fetch('SELECT "itemId", quantity, notes FROM stock_batches ORDER BY quantity, 1')
        quantities = {(row["itemId"], row["quantity"], row["notes"]) for row in batches}
        assert {("item-Arrived", 4, "less"), ("item-Arrived", 5, None), ("item-Sold", 3, None)} <= quantities
        writes = await connection.fetch(
            "SELECT item_id, operation, followed FROM stockshift.legacy_write WHERE application = 'while rolled back'"
            " ORDER BY 1"
        )
        assert [tuple(row) for row in writes] == [
            ("item-Arrived", "UPDATE", True),
            ("item-Sold", "UPDATE", False),
            ("item-new", "INSERT", False),
        ]
        assert await connection.fetchval("SELECT \"useBatchSystem\" FROM items WHERE id = 'item-new'") is False
        failed = {check.name for check in (await verified(migrated_url)).checks if not check.passed}
        assert failed == failed_before | {"drift"}


LATE = {
    "written": "UPDATE items SET notes = 'late' WHERE id = 'item-Sold'",
    "inserted": 'INSERT INTO items SELECT (jsonb_populate_record(i, \'{"id": "late"}\')).* FROM items i LIMIT 1',
    "deleted": "DELETE FROM items WHERE id = 'item-Sold'",
    "written and deleted": "DELETE FROM items WHERE id = 'item-Arrived'",
    "inserted and deleted": "DELETE FROM items WHERE id = 'item-new'",
    "deleted and inserted again": 'INSERT INTO items SELECT (jsonb_populate_record(i, \'{"id": "item-Ordered"}\')).*'
    " FROM items i WHERE id = 'item-ToOrder'",
    "one deleted, another inserted": "UPDATE items SET id = 'late' WHERE id = 'item-Sold'",
}


@pytest.fixture
def two_urls(copy_template: CopyTemplate, migrated_template: str) -> tuple[str, str]:
    return copy_template(migrated_template), copy_template(migrated_template)


@pytest.mark.parametrize("late", LATE)
async def test_what_is_written_while_undo_waits_for_its_lock_is_as_what_was_written_before(
    two_urls: tuple[str, str], late: str
) -> None:
    async def made_by(url: str, *, before: bool) -> list[object]:
        await rolled_back(url)
        async with psql(url) as shop, engine_on(url) as engine:
            await shop.execute("""UPDATE items SET "quantityInStock" = 4 WHERE id = 'item-Arrived'""")
            await shop.execute("DELETE FROM items WHERE id = 'item-Ordered'")
            await insert_item(shop, "item-new", quantityInStock=2)
            if before:
                await shop.execute(LATE[late])

            async def write() -> None:
                if not before:
                    await shop.execute(LATE[late])

            with once_before(engine, "IN ACCESS EXCLUSIVE", write):
                done = await undo_rollback(engine, ACTOR, confirm=await name_of(url))
            batches = await shop.fetch('SELECT id, "itemId", quantity, notes FROM stock_batches ORDER BY id')
            writes = await shop.fetch(
                "SELECT item_id, operation, followed, after FROM stockshift.legacy_write"
                " WHERE application = 'while rolled back' ORDER BY 1, 2"
            )
            flags = await shop.fetch('SELECT id, "useBatchSystem" FROM items ORDER BY id')
            assert await shop.fetchval("SELECT to_regnamespace($1) IS NULL", SCHEMA)
            return [done, *batches, *writes, *flags]

    assert await made_by(two_urls[0], before=False) == await made_by(two_urls[1], before=True)


async def test_batches_of_what_was_deleted_meanwhile_stay_archived(migrated_url: str) -> None:
    await rolled_back(migrated_url)
    async with psql(migrated_url) as shop:
        await shop.execute("DELETE FROM items WHERE id = 'item-Arrived'")
        await shop.execute("DELETE FROM locations WHERE id = 'acme-main'")
        await shop.execute("DELETE FROM users WHERE id = 'acme-user'")
        done = await undone(migrated_url)
        assert (done.deleted, done.lost, done.archive) == (1, 2, "stockshift_archive_1")
        lost = await shop.fetch(f"SELECT id, quantity FROM {done.archive}.lost_batches ORDER BY quantity")
        assert [row["quantity"] for row in lost] == [5, 10]
        gone = await shop.fetch("SELECT delta FROM stockshift.movement WHERE reason = 'DELETED' ORDER BY delta")
        assert [row["delta"] for row in gone] == [-10, -7, -5]
        assert await shop.fetchval("""SELECT count(*) FROM stock_batches WHERE "locationId" = 'acme-main'""") == 0
        assert await shop.fetchval("SELECT count(*) FROM pg_constraint WHERE NOT convalidated") == 0


async def test_the_shops_own_triggers_see_nothing_of_it(migrated_url: str) -> None:
    async with psql(migrated_url) as shop:
        await shop.execute(
            """
            CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN NEW."updatedAt" = clock_timestamp(); RETURN NEW; END $$;
            CREATE TRIGGER touch BEFORE UPDATE ON items FOR EACH ROW EXECUTE FUNCTION touch();
            CREATE TRIGGER touch_not BEFORE UPDATE ON items FOR EACH ROW EXECUTE FUNCTION touch();
            ALTER TABLE items DISABLE TRIGGER touch_not, ENABLE ALWAYS TRIGGER touch
            """
        )
        await rolled_back(migrated_url)
        await shop.execute("""UPDATE items SET "quantityInStock" = 4 WHERE id = 'item-Arrived'""")
        async with unchanged_columns(migrated_url):
            await undone(migrated_url)
        enabled = "SELECT tgname::text, tgenabled::text FROM pg_trigger WHERE tgname LIKE 'touch%' ORDER BY 1"
        assert [(row[0], row[1]) for row in await shop.fetch(enabled)] == [("touch", "A"), ("touch_not", "D")]


async def test_most_items_flagged_or_few_each_has_its_own_flag_again(migrated_url: str) -> None:
    async with psql(migrated_url) as connection:
        await connection.execute("""UPDATE items SET "useBatchSystem" = id <> 'item-Sold'""")
        await connection.execute("""UPDATE items SET "useBatchSystem" = NULL WHERE id = 'item-Ordered'""")
        before = await kept(connection)
        await rolled_back(migrated_url)
        await insert_item(connection, "item-new")
        await undone(migrated_url)
        assert await connection.fetchval("SELECT \"useBatchSystem\" FROM items WHERE id = 'item-new'") is False
        await connection.execute("DELETE FROM items WHERE id = 'item-new'")
        assert (await kept(connection))["items"] == before["items"]


async def test_write_back_is_off_after_a_rollback_and_on_again_after_its_undo(migrated_url: str) -> None:
    looked = """
        SELECT pg_get_triggerdef(oid) || tgenabled::text FROM pg_trigger WHERE tgname LIKE 'stockshift%'
        UNION ALL SELECT write_back::text FROM stockshift.setting ORDER BY 1
    """
    async with psql(migrated_url) as connection, engine_on(migrated_url) as engine:
        await set_write_back(engine, on=True, actor="test")
        before = await connection.fetch(looked)
        await rolled_back(migrated_url)
        assert [row[0] for row in await connection.fetch(looked)] == ["false"]
        await undone(migrated_url)
        assert await connection.fetch(looked) == before


async def test_what_is_written_before_the_lock_is_had_was_not_written_meanwhile(migrated_url: str) -> None:
    async with psql(migrated_url) as shop, engine_on(migrated_url) as engine:

        async def write_late() -> None:
            await shop.execute("""UPDATE items SET notes = 'late' WHERE id = 'item-Ordered'""")
            await shop.execute("DELETE FROM items WHERE id = 'item-ToOrder'")
            await insert_item(shop, "item-late")

        with once_before(engine, "IN ACCESS EXCLUSIVE", write_late):
            await roll_back(engine, ACTOR, confirm=await name_of(migrated_url))
        done = await undone(migrated_url)
        assert (done.written, done.inserted, done.deleted) == (0, 0, 0)
        assert await shop.fetchval("SELECT notes FROM stock_batches WHERE \"itemId\" = 'item-Ordered'") == "late"


# Folding


async def test_folded_quantities_are_in_the_legacy_columns_and_each_is_recorded(migrated_url: str) -> None:
    async with psql(migrated_url) as connection:
        before = await legacy_rows(connection)
        done = await rolled_back(migrated_url, fold=True)
        assert done.folded == 3
        quantities = await connection.fetch('SELECT id, "quantityInStock" FROM items ORDER BY id')
        assert {row[0]: row[1] for row in quantities}.items() >= {
            "item-Arrived": 15, "item-Sold": 3, "item-globex": 0, "item-Ordered": 8,
        }.items()  # fmt: skip
        folds = await connection.fetch(f"SELECT * FROM {done.archive}.fold ORDER BY item_id")
        assert [tuple(row) for row in folds] == [("item-Arrived", 10, 15), ("item-Sold", 10, 3), ("item-globex", 7, 0)]
        assert (await undone(migrated_url)).archive == done.archive  # where the folds are kept
        assert await legacy_rows(connection) == before


async def test_what_was_sold_of_a_folded_item_is_sold_after_undo(migrated_url: str) -> None:
    await rolled_back(migrated_url, fold=True)
    async with psql(migrated_url) as shop:
        await shop.execute("""UPDATE items SET "quantityInStock" = "quantityInStock" - 3 WHERE id = 'item-Arrived'""")
        done = await undone(migrated_url)
        assert (done.unfolded, done.written) == (3, 1)
        assert await shop.fetchval("""SELECT "quantityInStock" FROM items WHERE id = 'item-Arrived'""") == 7
        total = """SELECT sum(quantity)::int FROM stock_batches WHERE "itemId" = 'item-Arrived'"""
        assert await shop.fetchval(total) == 12


LATER = {
    "sold": "UPDATE items SET \"quantityInStock\" = 9 WHERE id = 'item-Ordered'",
    "counted": "UPDATE items SET \"quantityInStock\" = 3 WHERE id = 'item-Sold'",
    "received": "UPDATE stock_batches SET quantity = quantity + 7 WHERE \"itemId\" = 'item-ToOrder'",
    "gone": "DELETE FROM stock_batches WHERE id = 'received'",
    "moved": "UPDATE stock_batches SET \"itemId\" = 'item-ToOrder' WHERE id = 'received'",
    "deleted": "DELETE FROM items WHERE id = 'item-globex'",
    "copied and gone": "INSERT INTO stockshift.copy_ledger (item_id, batch_id, original)"
    " VALUES ('uncopied', 'none', 'null')",
}


@pytest.mark.parametrize("late", LATER)
async def test_what_is_written_before_the_lock_is_had_is_folded_as_it_is_then(
    two_urls: tuple[str, str], late: str
) -> None:
    async def made_by(url: str, *, before: bool) -> list[object]:
        async with psql(url) as shop, engine_on(url) as engine:
            await insert_item(shop, "uncopied")
            if before:
                await shop.execute(LATER[late])

            async def write() -> None:
                if not before:
                    await shop.execute(LATER[late])

            with once_before(engine, "IN ACCESS EXCLUSIVE", write):
                done = await roll_back(engine, ACTOR, confirm=await name_of(url), fold=True)
            folds = await shop.fetch(f"SELECT * FROM {done.archive}.fold ORDER BY item_id")
            assert len(folds) == done.folded
            quantities = await shop.fetch('SELECT id, "quantityInStock" FROM items ORDER BY id')
            return [replace(done, database=""), *folds, *quantities]

    assert await made_by(two_urls[0], before=False) == await made_by(two_urls[1], before=True)


# Again, and what was there before us


async def test_migrating_anew_works_and_a_second_rollback_makes_a_second_archive(migrated_url: str) -> None:
    await rolled_back(migrated_url)
    assert (await migrate(migrated_url)).copied == 7
    assert await phase(migrated_url) == "DUAL_RUN"
    assert (await verified(migrated_url)).passed
    with pytest.raises(Superseded, match="roll it back first"):
        await undone(migrated_url)
    async with psql(migrated_url) as connection:
        before = await kept(connection)
        assert (await rolled_back(migrated_url)).archive == "stockshift_archive_2"
        await undone(migrated_url)
        assert await kept(connection) == before
        assert await connection.fetchval("SELECT count(*) FROM stockshift_archive_1.stock_batches") == 7
        await rolled_back(migrated_url)


async def test_what_was_copied_before_a_rollback_is_no_mismatch_while_a_new_migration_is_at_it(items_url: str) -> None:
    await migrate(items_url)
    await rolled_back(items_url)
    await migrate(items_url, options=Options(items=("item-Sold",)))
    report = await verified(items_url)
    assert (report.mismatched, report.not_copied) == (0, 6)


async def test_a_table_and_a_flag_that_were_there_before_stay(items_url: str) -> None:
    async with psql(items_url) as shop:
        await shop.execute(BATCHES)
        await shop.execute(f"{EQUAL} WHERE id = 'item-Sold'")
        await shop.execute('ALTER TABLE items ADD "useBatchSystem" boolean DEFAULT true')
        await shop.execute("ALTER TABLE stock_batches ADD shelf text")
        found = await shop.fetch("SELECT * FROM stock_batches")
        looked = [line for line in await structure(shop) if "useBatchSystem" in line or "shelf" in line]
        await migrate(items_url)
        await shop.execute(RECEIVED)
        await insert_batch(shop, "received", "item-Arrived", quantity=5)
        before = await kept(shop)
        done = await rolled_back(items_url)
        assert [line.split(",")[0] for line in done.stays] == [
            "table public.stock_batches", 'column items."useBatchSystem"',
        ]  # fmt: skip
        assert await shop.fetch("SELECT * FROM stock_batches") == found
        assert [line for line in await structure(shop) if "useBatchSystem" in line or "shelf" in line] == looked
        await undone(items_url)
        assert await kept(shop) == before
        await rolled_back(items_url)
        assert (await migrate(items_url)).adopted == 1


async def test_what_the_shop_does_to_its_own_table_meanwhile_stays_as_it_did_it(items_url: str) -> None:
    async with psql(items_url) as shop:
        await shop.execute(BATCHES)
        await shop.execute(f"{EQUAL} WHERE id IN ('item-Sold', 'item-Ordered')")
        await migrate(items_url)
        await insert_batch(shop, "of the shop", "item-globex", quantity=1)
        await shop.execute(RECEIVED)
        await insert_batch(shop, "ours", "item-Arrived", quantity=5)
        await insert_batch(shop, "lost", "item-ToOrder", quantity=6)
        await rolled_back(items_url)
        left = await shop.fetch("SELECT id FROM stock_batches WHERE id IN ('of the shop', 'ours', 'lost')")
        assert [row["id"] for row in left] == ["of the shop"]
        await shop.execute("ALTER TABLE stock_batches DROP COLUMN notes, ADD COLUMN shelf text, ADD COLUMN notes text")
        await shop.execute("""DELETE FROM stock_batches WHERE "itemId" = 'item-Sold'""")
        await shop.execute("""UPDATE stock_batches SET quantity = 3 WHERE "itemId" = 'item-Ordered'""")
        await shop.execute("DELETE FROM items WHERE id = 'item-ToOrder'")
        await shop.execute("DELETE FROM locations WHERE id = 'acme-harbour'")
        done = await undone(items_url)
        assert (done.deleted, done.lost) == (1, 2)
        rows = await shop.fetch("""SELECT "itemId", quantity FROM stock_batches ORDER BY "itemId", quantity""")
        assert [tuple(row) for row in rows] == [
            ("item-Arrived", 5), ("item-Arrived", 10), ("item-Ordered", 3), ("item-globex", 1), ("item-globex", 7),
            ("item-negative", -2), ("item-nowhere", 0),
        ]  # fmt: skip
        assert await shop.fetchval("SELECT count(*) FROM pg_constraint WHERE NOT convalidated") == 0


async def test_an_undo_is_refused_when_the_shop_dropped_its_own_table_since(items_url: str) -> None:
    async with psql(items_url) as shop:
        await shop.execute(BATCHES)
        await migrate(items_url)
        await rolled_back(items_url)
        await shop.execute("DROP TABLE stock_batches")
        with pytest.raises(Superseded, match="was dropped since"):
            await undone(items_url)


async def test_keys_of_the_shop_to_other_tables_come_along(migrated_url: str) -> None:
    """And nobody queues behind us for these tables either: they are wanted with the others."""
    key = 'ALTER TABLE stock_batches ADD "companyId" text, ADD CONSTRAINT "of" FOREIGN KEY ("companyId")'
    async with psql(migrated_url) as shop:
        await shop.execute(f"{key} REFERENCES companies NOT VALID")
        looked = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'f' ORDER BY 1"
        before = [row[0].removesuffix(" NOT VALID") for row in await shop.fetch(looked)]
        actor, name = Actor("test", patience=0.1), await name_of(migrated_url)
        async with engine_on(migrated_url) as engine, shop.transaction():
            await shop.execute("SELECT FROM companies")
            with pytest.raises(LockNotHad, match="companies is in use"):
                await roll_back(engine, actor, confirm=name)
        await rolled_back(migrated_url)
        await undone(migrated_url)
        assert [row[0] for row in await shop.fetch(looked)] == before


async def test_an_undo_is_refused_when_the_shop_lost_a_legacy_column_since(migrated_url: str) -> None:
    async with psql(migrated_url) as shop:
        await rolled_back(migrated_url)
        await shop.execute("ALTER TABLE items DROP COLUMN notes")
        with pytest.raises(Superseded, match="has lost a legacy column"):
            await undone(migrated_url)
        assert await phase(migrated_url) == "ROLLED_BACK"


# Beside a migration


async def test_a_run_that_is_driven_is_not_rolled_back_under_its_driver(migrated_url: str) -> None:
    async with psql(migrated_url) as connection:
        await connection.execute(
            "INSERT INTO stockshift.driver (token, name, place) VALUES ('t', 'somebody', 'command')"
        )
        before = await structure(connection)
        with pytest.raises(MigrationRunning, match="somebody drives"):
            await rolled_back(migrated_url)
        assert await structure(connection) == before
        await connection.execute("UPDATE stockshift.driver SET beat_at = now() - interval '1 hour'")
        await rolled_back(migrated_url)


async def test_a_run_that_was_paused_does_not_go_on_after_a_rollback(items_url: str) -> None:
    async with engine_on(items_url) as engine:
        await migrate_online(engine, driver="first")
        async with psql(items_url) as connection:
            await connection.execute("UPDATE stockshift.migration_run SET state = 'PAUSED', after_id = 'item-Sold'")
        await rolled_back(items_url)
        outcome = await migrate_online(engine, driver="second")
        assert (outcome.run, outcome.copied, outcome.mismatched) == (2, 7, 0)
        with pytest.raises(Exception, match="No online migration"):
            async with engine.begin() as connection2:
                await ask(connection2, "PAUSE", "test")
