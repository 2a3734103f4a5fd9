"""Repair: shown before it is made, made in one transaction with its proof, and every change kept (R21)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from migration.exclusively import Actor
from migration.failures import ConnectionLost
from migration.repair import Asked, NoDrift, NotRepaired, Repair, repair
from migration.rollback import roll_back
from migration.status import read_status
from migration.verify import MigrationNotStarted
from tests.migration.cutting_over import cut, killed_before
from tests.migration.support import engine_on, once_before, verified
from tests.migration.test_defects import CUT_OVER, NEW_ITEM, NO_ITEM_KEY, OPENING, RECEIVED, UNMOVED, UNSEEN, tamper
from tests.support import psql

TAMPERED = f"UPDATE stock_batches SET quantity = 12, notes = 'x' WHERE id = {OPENING}"


async def repaired(url: str, **asked: Any) -> Repair:
    async with engine_on(url) as engine:
        return await repair(engine, Asked("tester", **asked))


async def all_of(url: str, sql: str) -> list[dict[str, Any]]:
    async with psql(url) as connection:
        return [dict(row) for row in await connection.fetch(sql)]


COUNTS = """
    SELECT (SELECT count(*) FROM stockshift.verification) AS reports,
        (SELECT count(*) FROM stockshift.repair_archive) AS archived,
        (SELECT count(*) FROM stockshift.audit) AS acts, (SELECT count(*) FROM stockshift.movement) AS movements,
        (SELECT jsonb_agg(b ORDER BY id) FROM stock_batches b)::text AS batches
"""


async def test_before_the_migration_there_is_nothing_to_repair(items_url: str) -> None:
    with pytest.raises(MigrationNotStarted):
        await repaired(items_url)


async def test_what_was_rolled_back_is_not_made_again(migrated_url: str) -> None:
    async with psql(migrated_url) as connection, engine_on(migrated_url) as engine:
        await roll_back(engine, Actor("test"), confirm=await connection.fetchval("SELECT current_database()"))
    with pytest.raises(MigrationNotStarted):
        await repaired(migrated_url, make=True)
    async with psql(migrated_url) as connection:
        assert await connection.fetchval("SELECT to_regclass('stock_batches')") is None


async def test_what_is_only_shown_changes_nothing(migrated_url: str) -> None:
    await tamper(migrated_url, TAMPERED)
    before = await all_of(migrated_url, COUNTS)
    shown = await repaired(migrated_url)
    assert (shown.made, shown.proof, shown.changes) == (False, None, {"OPENING_BATCH_CHANGED": 1})
    (change,) = shown.shown
    assert (change.item_id, change.act) == ("item-Arrived", "SET")
    assert change.before is not None
    assert change.after is not None
    assert (change.before["quantity"], change.after["quantity"]) == (12, 10)
    assert (change.before["notes"], change.after["notes"]) == ("x", None)
    assert await all_of(migrated_url, COUNTS) == before


async def test_what_is_made_leaves_a_movement_the_batch_as_it_was_and_who_did_it(migrated_url: str) -> None:
    await tamper(migrated_url, TAMPERED)
    done = await repaired(migrated_url, make=True)
    assert done.made
    movements = await all_of(migrated_url, "SELECT delta, reason, actor FROM stockshift.movement ORDER BY id DESC")
    assert movements[0] == {"delta": -2, "reason": "REPAIRED", "actor": "tester"}
    (kept,) = await all_of(
        migrated_url,
        "SELECT item_id, kind, act, actor, before ->> 'notes' AS notes, before ->> 'quantity' AS quantity,"
        " after ->> 'quantity' AS now FROM stockshift.repair_archive",
    )
    assert kept == {
        "item_id": "item-Arrived",
        "kind": "OPENING_BATCH_CHANGED",
        "act": "SET",
        "actor": "tester",
        "notes": "x",
        "quantity": "12",
        "now": "10",
    }
    (act,) = await all_of(
        migrated_url, "SELECT actor, details ->> 'proof' AS proof FROM stockshift.audit WHERE action = 'REPAIRED'"
    )
    assert act == {"actor": "tester", "proof": str(done.proof)}
    states = await all_of(migrated_url, "SELECT state FROM stockshift.verification ORDER BY id")
    assert [row["state"] for row in states] == ["PASSED", "FAILED", "PASSED"], "the migration's, before, and the proof"


async def test_what_does_not_prove_right_is_undone_and_said(migrated_url: str) -> None:
    """A trigger of the shop's own does not let the quantity be."""
    await tamper(migrated_url, TAMPERED + "; DELETE FROM stock_batches WHERE \"itemId\" = 'item-Sold'")
    await tamper(
        migrated_url,
        """
        CREATE FUNCTION stubborn() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN NEW.quantity := OLD.quantity; RETURN NEW; END';
        CREATE TRIGGER stubborn BEFORE UPDATE ON stock_batches FOR EACH ROW EXECUTE FUNCTION stubborn()
        """,
    )
    before = await all_of(migrated_url, COUNTS)
    with pytest.raises(NotRepaired, match="item item-Arrived is OPENING_BATCH_CHANGED"):
        await repaired(migrated_url, make=True)
    assert await all_of(migrated_url, COUNTS) == before


async def test_who_writes_between_looking_and_changing_is_not_overwritten(migrated_url: str) -> None:
    """The shop sells one while the repair is about to lock the item: it begins anew, from what is there then."""
    await tamper(migrated_url, f"{UNSEEN} UPDATE items SET \"quantityInStock\" = 8 WHERE id = 'item-Arrived'")
    async with engine_on(migrated_url) as engine:

        async def sell() -> None:
            await tamper(migrated_url, "UPDATE items SET \"quantityInStock\" = 5 WHERE id = 'item-Arrived'")

        with once_before(engine, "FOR NO KEY UPDATE", sell):
            done = await repair(engine, Asked("tester", make=True))
    assert done.made
    assert (await verified(migrated_url)).passed
    (row,) = await all_of(migrated_url, f"SELECT quantity FROM stock_batches WHERE id = {OPENING}")
    assert row["quantity"] == 5


async def test_two_repairs_at_once_make_each_change_once(migrated_url: str) -> None:
    await tamper(migrated_url, "DELETE FROM stock_batches")
    outcomes = await asyncio.gather(*[repaired(migrated_url, make=True) for _ in range(2)])
    assert sorted(outcome.changes.get("BATCH_LOST", 0) for outcome in outcomes) == [0, 7]
    assert (await verified(migrated_url)).passed


async def test_what_is_taken_away_is_kept_whole(migrated_url: str) -> None:
    await tamper(migrated_url, NO_ITEM_KEY + RECEIVED.format("nothing", "'acme-main'"))
    await repaired(migrated_url, make=True)
    (kept,) = await all_of(
        migrated_url,
        'SELECT b.id, b.quantity, b."locationId" FROM stockshift.repair_archive,'
        " jsonb_populate_record(NULL::stock_batches, before) b WHERE act = 'REMOVE'",
    )
    assert kept == {"id": "received", "quantity": 5, "locationId": "acme-main"}
    (moved,) = await all_of(
        migrated_url, "SELECT sum(delta) AS total FROM stockshift.movement WHERE batch_id = 'received'"
    )
    assert moved["total"] == 0


async def drifted_items(url: str) -> int:
    async with engine_on(url) as engine, engine.connect() as connection:
        return (await read_status(connection, None)).drifted


DRIFT = CUT_OVER + RECEIVED.format("item-Arrived", "NULL")
SOLD = """
    UPDATE items SET "quantityInStock" = "quantityInStock" - 3 WHERE id = 'item-Arrived';
    UPDATE items SET "quantityInStock" = "quantityInStock" - 1, notes = 'sold' WHERE id = 'item-Arrived';
"""


async def test_drift_is_for_a_person_to_decide(migrated_url: str) -> None:
    await tamper(migrated_url, DRIFT + SOLD)
    shown = await repaired(migrated_url, make=True)
    assert (shown.made, shown.changes) == (False, {})
    (left,) = shown.left
    assert (left.item_id, left.kind) == ("item-Arrived", "DRIFT")
    assert "--accept-drift item-Arrived" in left.what
    for unknown in ("item-Sold", "nothing"):
        with pytest.raises(NoDrift, match=unknown):
            await repaired(migrated_url, accepted=(unknown,))


async def test_drift_that_is_accepted_comes_into_the_opening_batch_and_counts_no_more(migrated_url: str) -> None:
    await tamper(migrated_url, DRIFT + f"UPDATE stock_batches SET quantity = 20 WHERE id = {OPENING};" + SOLD)
    done = await repaired(migrated_url, make=True, accepted=("item-Arrived",))
    assert done.changes == {"DRIFT": 2}
    assert (await verified(migrated_url)).passed
    (row,) = await all_of(migrated_url, f"SELECT quantity, notes FROM stock_batches WHERE id = {OPENING}")
    assert row == {"quantity": 16, "notes": "sold"}, "by as much as was sold, not to what was left"
    assert await drifted_items(migrated_url) == 0
    settled = await all_of(migrated_url, "SELECT settled FROM stockshift.legacy_write WHERE NOT followed")
    assert [one["settled"] for one in settled] == ["ACCEPTED", "ACCEPTED"]


async def test_drift_may_be_dropped_for_what_the_batches_say(migrated_url: str) -> None:
    await tamper(migrated_url, DRIFT + SOLD)
    before = await all_of(migrated_url, "SELECT * FROM stock_batches ORDER BY id")
    assert (await repaired(migrated_url, make=True, kept=("item-Arrived",))).made
    assert await all_of(migrated_url, "SELECT * FROM stock_batches ORDER BY id") == before
    assert (await verified(migrated_url)).passed
    assert await drifted_items(migrated_url) == 0
    await tamper(migrated_url, SOLD)
    assert not (await verified(migrated_url)).passed, "what is written later is drift again"
    assert await drifted_items(migrated_url) == 1


async def test_a_movement_that_is_made_up_for_says_of_what_place_and_cost(migrated_url: str) -> None:
    """So its item is proven again, to the cent: what is known of no place is judged by nobody."""
    await tamper(migrated_url, f"{CUT_OVER} {UNMOVED} DELETE FROM stock_batches WHERE \"itemId\" = 'item-Sold';")
    unseen = """SET quantity = 4, "costPerUnitUSD" = 5, "freightCostUSD" = 1, "locationId" = NULL"""
    await tamper(migrated_url, f"UPDATE stock_batches {unseen} WHERE id = {OPENING}")
    done = await repaired(migrated_url, make=True)
    assert (done.failed, done.left) == ((), ())
    movements = await all_of(
        migrated_url,
        "SELECT delta, status, location_id, unit_cost, freight FROM stockshift.movement"
        " WHERE item_id = 'item-Arrived' ORDER BY delta",
    )
    assert [tuple(movement.values()) for movement in movements] == [
        (-10, "Arrived", "acme-main", 4.25, -12.5),
        (4, "Arrived", None, 5.0, 1.0),
    ]
    await tamper(migrated_url, f'{UNMOVED} UPDATE stock_batches SET "costPerUnitUSD" = 9 WHERE id = {OPENING}')
    checks = (await verified(migrated_url)).checks
    assert "conservation" in [check.name for check in checks if not check.passed], "it is judged still"


async def test_what_nobody_recorded_is_recorded_now(migrated_url: str) -> None:
    """So who changes the batch next is not taken for the one who wrote the item."""
    await tamper(migrated_url, f"{UNSEEN} UPDATE items SET \"quantityInStock\" = 8 WHERE id = 'item-Arrived'")
    await repaired(migrated_url, make=True)
    (write,) = await all_of(migrated_url, "SELECT before::text, after::text, followed FROM stockshift.legacy_write")
    assert write == {"before": '{"quantityInStock": 10}', "after": '{"quantityInStock": 8}', "followed": True}
    await tamper(migrated_url, f"UPDATE stock_batches SET quantity = 3 WHERE id = {OPENING}")
    shown = await repaired(migrated_url)
    assert shown.changes == {"OPENING_BATCH_CHANGED": 1}


async def test_a_repair_changes_no_legacy_column(migrated_url: str) -> None:
    rows = "SELECT to_jsonb(i) - 'useBatchSystem' AS row FROM items i ORDER BY id"
    await tamper(migrated_url, TAMPERED + ";" + NEW_ITEM + 'UPDATE items SET "useBatchSystem" = true')
    before = await all_of(migrated_url, rows)
    assert (await repaired(migrated_url, make=True)).made
    assert await all_of(migrated_url, rows) == before


async def cut_the_new_item_over(url: str) -> None:
    await cut(url, "item-new")


async def delete_the_new_item(url: str) -> None:
    await tamper(url, "DELETE FROM items WHERE id = 'item-new'")


async def sell_of_the_batch(url: str) -> None:
    await tamper(url, f"UPDATE stock_batches SET quantity = quantity - 1 WHERE id = {OPENING}")


@pytest.mark.parametrize(
    ("statement", "act"),
    [
        ("FOR NO KEY UPDATE", cut_the_new_item_over),
        ("INSERT INTO stockshift.repair_archive", sell_of_the_batch),
        ("FOR NO KEY UPDATE", delete_the_new_item),
    ],
)
async def test_what_others_do_meanwhile_is_neither_undone_nor_done_twice(
    migrated_url: str, statement: str, act: Callable[[str], Awaitable[None]]
) -> None:
    await tamper(migrated_url, f"ALTER TABLE items DISABLE TRIGGER stockshift_follow_insert; {NEW_ITEM}; {TAMPERED}")
    async with engine_on(migrated_url) as engine:
        with once_before(engine, statement, lambda: act(migrated_url)):
            done = await repair(engine, Asked("tester", make=True))
    assert (done.made, done.left) == (True, ())
    assert (await verified(migrated_url)).passed
    (stock,) = await all_of(
        migrated_url,
        "SELECT (SELECT count(*) FROM stock_batches WHERE \"itemId\" = 'item-new') AS of_new,"
        " (SELECT count(*) FROM items WHERE id = 'item-new') AS new,"
        f" (SELECT quantity FROM stock_batches WHERE id = {OPENING}) AS quantity",
    )
    assert (stock["of_new"], stock["quantity"]) == (stock["new"], 10)


@pytest.mark.parametrize(
    "statement", ["FOR NO KEY UPDATE", "DELETE FROM public.stock_batches", "INSERT INTO public.stock"]
)
async def test_killed_in_the_middle_it_has_done_nothing_and_can_be_done_again(
    migrated_url: str, statement: str
) -> None:
    await tamper(migrated_url, f"{TAMPERED}; DELETE FROM stock_batches WHERE \"itemId\" = 'item-Sold'")
    before = await all_of(migrated_url, COUNTS)
    async with killed_before(migrated_url, statement) as engine:
        with pytest.raises(ConnectionLost):
            await repair(engine, Asked("tester", make=True))
    assert await all_of(migrated_url, COUNTS) == before
    assert (await repaired(migrated_url, make=True)).made
    assert (await verified(migrated_url)).passed
