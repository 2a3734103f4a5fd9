"""Killed at any point, a migration is gone on with, and nothing is lost or doubled (R14, R15, R27, R28).

A life of a migration has six such points, drawn by its seed; together they are some 200. STOCKSHIFT_TEST_EXAMPLES says
how many lives there are, a little more than four to each of its units: 8 if it is not set. With 800 or more a driver is
killed before every single statement, too.
"""

import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import pytest

from migration.locks import MigrationRunning
from migration.online import Outcome
from tests.conftest import CopyTemplate, database_on
from tests.migration.support import structure
from tests.online import crash
from tests.online.crash import (
    DRIVER,
    NOWHERE,
    STAGES,
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
    driven,
    ignore,
    whole,
)
from tests.online.doomed_server import DoomedServer, KillsServer, StopsServer, doomed_server
from tests.online.support import migrate_live
from tests.support import connect_arguments, psql

EXAMPLES = int(os.environ.get("STOCKSHIFT_TEST_EXAMPLES", "8"))
POINTS = 6
PARTS = 100
KINDS: tuple[type[Hurts], ...] = (Kills, Kills, Terminates, Cuts, CutsBefore, Asks, Cancels)


@dataclass(frozen=True)
class Straight:
    """A migration that nothing happened to: all its points, and what it leaves."""

    points: list[Point]
    structure: list[str]


@pytest.fixture
async def straight(server_url: str, quiet_template: str) -> Straight:
    return await straight_on(server_url, quiet_template)


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


@pytest.mark.parametrize("seed", range(max(1, EXAMPLES * 7 // 2)))
async def test_a_driver_that_is_hurt_at_any_point_loses_nothing(quiet_url: str, straight: Straight, seed: int) -> None:
    life = Life(quiet_url, random.Random(seed), straight.structure)  # noqa: S311 - it is to be the same again
    for point in sorted(life.chance.sample(straight.points, POINTS)):
        await life.hurt(life.chance.choice(KINDS), point)
    await life.finish()


@pytest.mark.parametrize("part", range(min(PARTS, max(1, EXAMPLES // 8))))
async def test_a_driver_that_is_killed_before_any_statement_loses_nothing(
    copy_template: CopyTemplate, quiet_template: str, straight: Straight, part: int
) -> None:
    for number, point in list(enumerate(straight.points))[part::PARTS]:
        url = await asyncio.to_thread(copy_template, quiet_template)
        life = Life(url, random.Random(number), straight.structure)  # noqa: S311
        assert await life.hurt(Kills, point) is None
        await life.finish()


async def test_of_a_driver_that_died_a_moment_ago_the_next_is_told(quiet_url: str) -> None:
    """It may be alive: nobody can tell yet. Then it is known to be dead, and its run is gone on with."""
    async with psql(quiet_url) as shop:
        hurts = Kills(quiet_url, shop)
        assert await driven(hurts, (STAGES.index("copy"), 20)) is None
        dead = await shop.fetchrow(
            """
            SELECT (SELECT max(id) FROM stockshift.migration_run) AS run,
                   to_char(since AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') AS since FROM stockshift.driver
            """
        )
        assert dead is not None
        for place, where in (("command", ""), ("service", " inside the service")):
            await shop.execute("UPDATE stockshift.driver SET place = $1", place)
            with pytest.raises(MigrationRunning) as refused:
                await migrate_live(quiet_url)
            told = f"{DRIVER} drives a migration of this database{where} since {dead['since']} UTC, last heard of "
            assert refused.value.message.startswith(told)
        await shop.execute("UPDATE stockshift.driver SET beat_at = clock_timestamp() - interval '30 s'")
        outcome = await migrate_live(quiet_url)
        assert outcome.run == dead["run"]
        await whole(shop, outcome)


@pytest.fixture(scope="module")
def drivers() -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "tests.online.crash_driver"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.communicate()


def killed_at(drivers: "subprocess.Popen[str]", url: str, point: Point) -> int:
    """A driver is started, and kills itself at `point`: how it ended."""
    assert drivers.stdin is not None
    assert drivers.stdout is not None
    drivers.stdin.write(f"{url} {point[0]} {point[1]}\n")
    drivers.stdin.flush()
    return int(drivers.stdout.readline())


@pytest.mark.parametrize("seed", range(max(1, EXAMPLES // 2)))
async def test_a_driver_that_is_killed_loses_nothing(
    quiet_url: str, straight: Straight, drivers: "subprocess.Popen[str]", seed: int
) -> None:
    """The process itself, by kill -9."""
    life = Life(quiet_url, random.Random(seed), straight.structure)  # noqa: S311
    ends = []
    for point in sorted(life.chance.sample(straight.points, POINTS)):
        ends.append(killed_at(drivers, quiet_url, point))
        await life.follow_up_on_dead()
    assert ends[0] == -signal.SIGKILL
    assert {0, -signal.SIGKILL} >= set(ends)  # one that takes over late has less to do
    await life.finish()


@pytest.fixture(scope="module")
def doomed() -> Iterator[DoomedServer]:
    with tempfile.TemporaryDirectory(prefix="stockshift-doomed-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # root's server runs as another user, who must reach it
        with doomed_server(Path(folder)) as server:
            yield server


@pytest.mark.parametrize("seed", range(max(1, EXAMPLES // 4)))
async def test_a_server_that_is_killed_loses_nothing(doomed: DoomedServer, straight: Straight, seed: int) -> None:
    """PostgreSQL itself, by kill -9 and `-m immediate`."""
    async with psql(doomed.server.url()) as administrator:
        await administrator.execute(f"CREATE DATABASE shop_{seed} TEMPLATE template0")
    url = doomed.server.url(f"shop_{seed}")
    async with psql(url) as shop:
        await crash.fill(shop)
    life = Life(url, random.Random(seed), straight.structure)  # noqa: S311
    for point in sorted(life.chance.sample(straight.points, POINTS)):
        outcome = await doom(doomed, life.chance.choice((KillsServer, StopsServer)), url, point)
        doomed.restart()
        await life.follow_up_on_dead(outcome)
    await life.finish()


async def doom(server: DoomedServer, kind: type[KillsServer], url: str, point: Point) -> Outcome | None:
    """None, unless all that was left to do was to give the lease back."""
    shop = await asyncpg.connect(**connect_arguments(url))
    hurts = kind(url, shop)
    hurts.server = server
    try:
        return await driven(hurts, point)
    finally:
        shop.terminate()
