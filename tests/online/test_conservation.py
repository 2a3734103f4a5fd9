"""Conservation under fire: writers of every kind at work, and not one write is lost, doubled or delayed.

Each writer keeps its own account of what it committed; in the end the accounts, the tables, the movements, the records
of legacy writes, the report and the answers agree exactly. STOCKSHIFT_TEST_EXAMPLES says how many seeds are tried:
a quarter of it, two if it is not set; for a night, 4000.
"""

import os

import pytest

from tests.migration.support import migrate
from tests.online.balance import agree
from tests.online.fire import on_fire
from tests.online.support import migrate_live

SEEDS = range(max(1, int(os.environ.get("STOCKSHIFT_TEST_EXAMPLES", "8")) // 4))


async def test_without_a_migration_the_accounts_are_right(busy_url: str) -> None:
    """The harness itself, legacy writers alone."""
    async with on_fire(busy_url, seed=0, batches=False) as fire:
        await fire.rages(60)
    await agree(fire, migrated=False)


async def test_after_a_migration_the_accounts_of_batch_writers_are_right(busy_url: str) -> None:
    """The harness itself, batch writers alone."""
    await migrate(busy_url)
    async with on_fire(busy_url, seed=0, legacy=False) as fire:
        await fire.rages(60)
    await agree(fire)


@pytest.mark.parametrize("seed", SEEDS)
async def test_an_online_migration_loses_nothing(busy_url: str, seed: int) -> None:
    async with on_fire(busy_url, seed) as fire:
        await fire.rages(10)
        assert (await migrate_live(busy_url)).state == "FINISHED"
        await fire.rages(20)
        assert (await migrate_live(busy_url)).state == "FINISHED"
    await migrate_live(busy_url)
    await agree(fire)
