"""Conservation under fire: writers of every kind at work, and not one write is lost, doubled or delayed.

Each writer keeps its own account of what it committed; in the end the accounts, the tables, the movements, the records
of legacy writes, the report and the answers agree exactly. STOCKSHIFT_TEST_EXAMPLES says how many seeds are tried:
a quarter of it, two if it is not set; for a night, 4000.
"""

import os

import pytest

from migration.capture import TRIGGERS
from tests.online.balance import (
    ANSWERS,
    BATCHES,
    ITEMS,
    MOVEMENTS,
    OPENING,
    REPORT,
    WRITES,
    agree,
    disagreements,
)
from tests.online.fire import on_fire
from tests.online.support import LARGE, migrate_live, migrate_while
from tests.support import psql

SEEDS = range(max(1, int(os.environ.get("STOCKSHIFT_TEST_EXAMPLES", "8")) // 8))
NEXT_CHUNK = "AS chunk"
"""The statement with which a chunk begins: no item is locked yet."""

# Where it shows that a trigger does not fire, by what it does.
SHOWS: dict[str, set[str]] = {
    "follow_item": {OPENING, WRITES, ANSWERS, REPORT},
    "follow_inserted_items": {WRITES},
    "follow_deleted_items": {WRITES},
    "move_batch": {MOVEMENTS},
}


# That the harness is right


async def test_without_a_migration_the_accounts_are_right(busy_url: str) -> None:
    """Legacy writers alone."""
    async with on_fire(busy_url, seed=0, batches=False) as fire:
        await fire.rages(30)
    await agree(fire, migrated=False)


async def test_after_a_migration_the_accounts_of_batch_writers_are_right(captured_url: str) -> None:
    """Batch writers alone."""
    async with on_fire(captured_url, seed=0, legacy=False) as fire:
        await fire.rages(20)
    await agree(fire)


# That nothing is lost


@pytest.mark.parametrize("seed", SEEDS)
async def test_an_online_migration_loses_nothing(busy_url: str, seed: int) -> None:
    """The second one finds what was made behind the first; the third, in peace, that nothing is left."""
    async with on_fire(busy_url, seed) as fire:
        await fire.rages(5)
        assert (await migrate_live(busy_url)).state == "FINISHED"
        await fire.rages(5)
        assert (await migrate_live(busy_url, options=LARGE)).state == "FINISHED"
    await migrate_live(busy_url, options=LARGE)
    await agree(fire)


# That the harness can fail


async def seen(url: str, *, seed: int, trigger: str) -> set[str]:
    """Where it shows that a trigger is off from the middle of the fire on."""
    async with on_fire(url, seed) as fire, psql(url) as shop:
        await fire.rages(3)
        await shop.execute(f"ALTER TABLE {TRIGGERS[trigger].table} DISABLE TRIGGER {trigger}")
        await fire.rages(10)
    return {line.partition(":")[0] for line in await disagreements(fire)}


@pytest.mark.parametrize("trigger", [name for name, trigger in TRIGGERS.items() if "TRUNCATE" not in trigger.when])
async def test_it_shows_when_a_trigger_is_off(captured_url: str, trigger: str) -> None:
    where = await seen(captured_url, seed=0, trigger=trigger)
    assert where >= SHOWS[TRIGGERS[trigger].function]
    assert not where & {ITEMS, BATCHES}, "the writers themselves are right"


async def test_it_shows_when_writes_are_not_followed_during_the_copy(busy_url: str) -> None:
    (trigger,) = (name for name, trigger in TRIGGERS.items() if trigger.function == "follow_item")
    async with on_fire(busy_url, seed=0) as fire, psql(busy_url) as shop:

        async def switch_off() -> None:
            await shop.execute(f"ALTER TABLE items DISABLE TRIGGER {trigger}")

        assert (await migrate_while(busy_url, NEXT_CHUNK, switch_off)).mismatched > 0
        await fire.rages(5)
    where = {line.partition(":")[0] for line in await disagreements(fire)}
    assert where >= {OPENING, WRITES, REPORT}
    assert not where & {ITEMS, BATCHES}, "the writers themselves are right"
