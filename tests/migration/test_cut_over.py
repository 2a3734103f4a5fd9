"""Cutting items over (R9): what is done, what is refused and why, and what is left as it was."""

import json

import pytest

from db.engine import connecting
from migration import in_chunks
from migration.cut_over import cut_over
from migration.failures import ConnectionLost
from migration.in_chunks import LegacyColumnsGone, NotPrepared, Selection, all_items
from migration.status import read_status
from migration.take_back import take_back
from migration.verify import MigrationNotStarted
from tests.migration.cutting_over import cut, cut_over_items, killed_before, kinds, taken_back, writes_of
from tests.migration.support import at_statements, engine_on, legacy_rows, migrate, verified, whole_database
from tests.resolvers.shop import insert_batch
from tests.support import insert_item, psql


async def test_all_items_are_cut_over_and_answer_as_before(migrated_url: str) -> None:
    async with psql(migrated_url) as connection:
        before = await legacy_rows(connection)
        outcome = await cut(migrated_url)
        assert (outcome.done, outcome.refused) == (7, {})
        assert len(await cut_over_items(connection)) == 7
        assert await legacy_rows(connection) == before
    assert (await verified(migrated_url)).passed


async def test_only_the_items_that_are_named_are_cut_over(migrated_url: str) -> None:
    outcome = await cut(migrated_url, "item-Sold", "item-Arrived")
    assert (outcome.done, outcome.refused) == (2, {})
    async with psql(migrated_url) as connection:
        assert await cut_over_items(connection) == ["item-Arrived", "item-Sold"]


async def test_cutting_over_twice_changes_nothing(migrated_url: str) -> None:
    await cut(migrated_url)
    async with psql(migrated_url) as connection:
        before = await whole_database(connection)
        for ids in ([], ["item-Sold"]):
            outcome = await cut(migrated_url, *ids)
            assert (outcome.done, outcome.refused) == (0, {})
        assert await whole_database(connection) == before


async def test_an_item_that_was_never_copied_is_copied_first(migrated_url: str) -> None:
    async with psql(migrated_url) as connection:
        await insert_item(connection, "new", quantityInStock=4)
        assert (await cut(migrated_url, "new")).done == 1
        assert await cut_over_items(connection) == ["new"]
        assert await connection.fetchval("""SELECT sum(quantity) FROM stock_batches WHERE "itemId" = 'new'""") == 4
    assert (await verified(migrated_url)).passed


async def test_what_does_not_verify_is_refused_by_name_and_the_rest_goes_on(migrated_url: str) -> None:
    async with psql(migrated_url) as connection:
        await insert_item(connection, "nothing", quantityInStock=0)
        await connection.execute(
            """
            ALTER TABLE items ALTER "costPerUnitUSD" DROP NOT NULL, ALTER status DROP NOT NULL;
            UPDATE items SET status = NULL WHERE id = 'nothing';
            UPDATE stock_batches SET quantity = 3 WHERE "itemId" = 'item-Sold';
            UPDATE stock_batches SET notes = 'other' WHERE "itemId" = 'item-Ordered';
            DELETE FROM stock_batches WHERE "itemId" = 'item-ToOrder';
            ALTER TABLE stock_batches DISABLE TRIGGER stockshift_move_insert
            """
        )
        await insert_batch(connection, "unmoved", "item-Arrived", quantity=5)
        await connection.execute("ALTER TABLE stock_batches ENABLE ALWAYS TRIGGER stockshift_move_insert")
        await insert_item(connection, "costless", costPerUnitUSD=None)
        await insert_item(connection, "hidden")
        await insert_batch(connection, "hidden-1", "hidden", quantity=99)
        named = await cut(migrated_url, "nothing", "nowhere", "item-Sold")
        assert kinds(named) == {"nothing": "NOTHING_TO_COPY", "nowhere": "NOT_FOUND", "item-Sold": "FIELDS_DIFFER"}
        outcome = await cut(migrated_url)
        assert kinds(outcome) == {
            "costless": "HELD_BACK",
            "hidden": "HIDDEN_LEGACY_STOCK",
            "item-Arrived": "UNBALANCED",
            "item-Ordered": "FIELDS_DIFFER",
            "item-Sold": "FIELDS_DIFFER",
            "item-ToOrder": "BATCH_LOST",
        }
        assert "costPerUnitUSD is NULL" in outcome.refused["costless"].reason
        assert "differ in quantity;" in outcome.refused["item-Sold"].reason
        assert outcome.done == 3
        assert await cut_over_items(connection) == ["item-globex", "item-negative", "item-nowhere"]


async def test_only_one_companys_items_are_cut_over_for_who_sees_one_company(migrated_url: str) -> None:
    async with engine_on(migrated_url) as engine, psql(migrated_url) as connection:
        named = await cut_over(engine, Selection(all_items("globex"), ("item-Sold",), "globex"), actor="test")
        assert kinds(named) == {"item-Sold": "NOT_FOUND"}
        assert (await cut_over(engine, Selection(all_items("globex"), None, "globex"), actor="test")).done == 1
        assert await cut_over_items(connection) == ["item-globex"]


async def test_a_cut_over_is_in_the_audit(migrated_url: str) -> None:
    await cut(migrated_url, "item-Sold")
    async with psql(migrated_url) as connection:
        (row,) = await connection.fetch(
            "SELECT actor, details::text AS details FROM stockshift.audit WHERE action = 'CUT_OVER'"
        )
        assert row["actor"] == "test"
        assert json.loads(row["details"]) == {"items": 1, "named": ["item-Sold"], "company": None}


async def test_the_phase_is_cut_over_once_every_copied_item_is(migrated_url: str) -> None:
    async def phase() -> tuple[str, int]:
        async with engine_on(migrated_url) as engine, connecting(engine) as connection:
            status = await read_status(connection, None)
            return status.phase, status.cut_over

    await cut(migrated_url, "item-Sold")
    assert await phase() == ("DUAL_RUN", 1)
    await cut(migrated_url)
    assert await phase() == ("CUT_OVER", 7)


async def test_a_legacy_write_after_it_is_drift_and_is_not_followed(migrated_url: str) -> None:
    await cut(migrated_url, "item-Sold")
    async with psql(migrated_url) as connection:
        await connection.execute("""UPDATE items SET "quantityInStock" = 3 WHERE id = 'item-Sold'""")
        assert await connection.fetchval("""SELECT quantity FROM stock_batches WHERE "itemId" = 'item-Sold'""") == 10
        assert await writes_of(connection, "item-Sold") == [
            ("UPDATE", False, {"quantityInStock": 10}, {"quantityInStock": 3})
        ]


async def test_an_item_that_is_cut_over_can_get_another_id_be_deleted_and_made_again(migrated_url: str) -> None:
    await cut(migrated_url, "item-Sold", "item-Arrived")
    async with psql(migrated_url) as connection:
        await connection.execute("UPDATE items SET id = 'renamed' WHERE id = 'item-Sold'")
        assert await cut_over_items(connection) == ["item-Arrived", "renamed"]
        await connection.execute("DELETE FROM items WHERE id = 'item-Arrived'")
        await insert_item(connection, "item-Arrived", quantityInStock=2)
        assert await cut_over_items(connection) == ["renamed"]
    assert (await verified(migrated_url)).passed
    assert (await cut(migrated_url, "item-Arrived", "renamed")).done == 1


async def test_a_flag_that_is_true_by_default_says_nothing_and_that_of_what_is_cut_over_is_set_again(
    items_url: str,
) -> None:
    async with psql(items_url) as connection:
        await connection.execute('ALTER TABLE items ADD "useBatchSystem" boolean DEFAULT true')
        await migrate(items_url)
        assert (await cut(items_url, "item-Sold")).done == 1
        await connection.execute('UPDATE items SET "useBatchSystem" = NULL')
        assert (await cut(items_url, "item-Sold")).done == 0
        assert await cut_over_items(connection) == ["item-Sold"]


async def test_an_item_that_a_rule_of_the_shop_protects_is_refused_alone(migrated_url: str) -> None:
    async with psql(migrated_url) as connection:
        await connection.execute(
            """
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF NEW.id = 'item-Sold' THEN RAISE 'sold is sold'; END IF;
                RETURN NEW;
            END $$;
            CREATE TRIGGER refuse BEFORE UPDATE ON items FOR EACH ROW EXECUTE FUNCTION refuse()
            """
        )
        outcome = await cut(migrated_url)
        assert (outcome.done, kinds(outcome)) == (6, {"item-Sold": "REFUSED"})
        assert "sold is sold" in outcome.refused["item-Sold"].reason
        assert "item-Sold" not in await cut_over_items(connection)


async def test_an_item_that_stays_locked_is_refused_and_the_rest_goes_on(migrated_url: str) -> None:
    async with psql(migrated_url) as connection, psql(migrated_url) as shop, shop.transaction():
        await shop.execute("SELECT FROM items WHERE id = 'item-Sold' FOR UPDATE")
        outcome = await cut(migrated_url, lock_timeout_ms=100)
        assert (outcome.done, kinds(outcome)) == (6, {"item-Sold": "LOCKED"})
        assert "item-Sold" not in await cut_over_items(connection)


@pytest.mark.parametrize(
    "words", ["UPDATE stockshift.copy_ledger", "UPDATE public.items", "INSERT INTO stockshift.audit"]
)
async def test_one_that_is_killed_has_done_nothing_by_halves_and_can_be_done_again(
    migrated_url: str, words: str
) -> None:
    async with psql(migrated_url) as connection:
        await insert_item(connection, "new")
        with pytest.raises(ConnectionLost):
            async with killed_before(migrated_url, words) as engine:
                await cut_over(engine, Selection(all_items()), actor="test")
        assert await cut_over_items(connection) == []
        assert await connection.fetchval("SELECT count(*) FROM stockshift.copy_ledger") == 7
        assert (await cut(migrated_url)).done == 8
    assert (await verified(migrated_url)).passed


AUDITED = "INSERT INTO stockshift.audit"
"""The statement with which a chunk ends."""


async def test_one_that_is_killed_in_its_second_chunk_keeps_the_first_and_the_same_again_does_the_rest(
    migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_chunks, "CHUNK", 3)
    chosen = Selection(all_items())
    first = ["item-Arrived", "item-Ordered", "item-Sold"]
    async with psql(migrated_url) as connection:
        with pytest.raises(ConnectionLost):
            async with killed_before(migrated_url, AUDITED, time=2) as engine:
                await cut_over(engine, chosen, actor="test")
        assert await cut_over_items(connection) == first
        assert (await cut(migrated_url)).done == 4
        with pytest.raises(ConnectionLost):
            async with killed_before(migrated_url, AUDITED, time=2) as engine:
                await take_back(engine, chosen, actor="test")
        assert len(await cut_over_items(connection)) == 4
        assert set(first).isdisjoint(await cut_over_items(connection))
        assert (await taken_back(migrated_url)).done == 4
        assert await connection.fetchval("SELECT count(*) FROM stock_batches") == 7
    assert (await verified(migrated_url)).passed


async def test_a_chunk_takes_the_same_statements_for_any_number_of_items(migrated_url: str) -> None:
    sent: list[str] = []

    async def statements(number: int) -> int:
        async with psql(migrated_url) as connection:
            ids = [f"new-{number}-{each}" for each in range(number)]
            for each in ids:
                await insert_item(connection, each)
        sent.clear()
        async with engine_on(migrated_url) as engine:
            with at_statements(engine, lambda statement, _: sent.append(statement)):
                done = await cut_over(engine, Selection(all_items(), tuple(ids)), actor="test")
        assert done.done == number
        return len(sent)

    assert await statements(1) == await statements(30)


async def test_before_the_migration_there_is_nothing_to_cut_over(items_url: str) -> None:
    with pytest.raises(MigrationNotStarted):
        await cut(items_url)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("ALTER TABLE items DISABLE TRIGGER stockshift_follow_update", NotPrepared),
        ('ALTER TABLE items DROP COLUMN "useBatchSystem"', NotPrepared),
        ('ALTER TABLE items DROP COLUMN "quantityInStock" CASCADE', LegacyColumnsGone),
    ],
)
async def test_where_both_systems_are_not_kept_in_step_nothing_is_cut_over(
    migrated_url: str, change: str, error: type[Exception]
) -> None:
    async with psql(migrated_url) as connection:
        await connection.execute(change)
        with pytest.raises(error):
            await cut(migrated_url)
        assert await connection.fetchval("SELECT count(cut_over_at) FROM stockshift.copy_ledger") == 0
