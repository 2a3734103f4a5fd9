"""Killed at any point, a migration is gone on with, and nothing is lost or doubled (R14, R15, R27, R28).

A life of a migration has five such points, drawn by its seed. STOCKSHIFT_TEST_EXAMPLES says how many lives there are.
"""

import os
import random
from dataclasses import dataclass

import pytest

from tests.conftest import CopyTemplate, MakeTemplate, administer, database_on
from tests.migration.support import structure
from tests.online import crash
from tests.online.crash import (
    NOWHERE,
    Asks,
    Cancels,
    Course,
    Cuts,
    CutsBefore,
    Hurts,
    Kills,
    Life,
    Point,
    Terminates,
    drive,
    ignore,
    whole,
)
from tests.support import psql

EXAMPLES = int(os.environ.get("STOCKSHIFT_TEST_EXAMPLES", "8"))
POINTS = 5
KINDS: tuple[type[Hurts], ...] = (Kills, Kills, Terminates, Cuts, CutsBefore, Asks, Cancels)


@dataclass(frozen=True)
class Straight:
    """A migration that nothing happened to: all its points, and what it leaves."""

    points: list[Point]
    structure: list[str]


@pytest.fixture(scope="session")
def crash_template(make_template: MakeTemplate) -> str:
    return make_template(crash.fill)


@pytest.fixture
def crash_url(copy_template: CopyTemplate, crash_template: str) -> str:
    """A fresh database with thirty items, before any migration."""
    return copy_template(crash_template)


@pytest.fixture
async def straight(server_url: str, crash_template: str) -> Straight:
    return await straight_on(server_url, crash_template)


KNOWN: dict[str, Straight] = {}


async def straight_on(server: str, template: str) -> Straight:
    if template not in KNOWN:
        url = database_on(server, f"{template}_straight")
        async with psql(server) as administrator:
            await administrator.execute(f'CREATE DATABASE "{template}_straight" TEMPLATE "{template}"')
        course = Course(NOWHERE, ignore)
        outcome = await drive(url, course)
        async with psql(url) as shop:
            await whole(shop, outcome)
            KNOWN[template] = Straight(course.passed, await structure(shop))
        async with psql(server) as administrator:
            await administrator.execute(f'DROP DATABASE "{template}_straight" WITH (FORCE)')
    return KNOWN[template]


@pytest.mark.parametrize("seed", range(EXAMPLES * 9 // 2))
async def test_a_driver_that_is_hurt_at_any_point_loses_nothing(crash_url: str, straight: Straight, seed: int) -> None:
    chance = random.Random(seed)
    life = Life(crash_url, chance, straight.structure)
    for point in sorted(chance.sample(straight.points, POINTS)):
        await life.hurt(chance.choice(KINDS), point)
    await life.finish()
