"""All operations in any order (tests/stateful/journey.py), and that the invariants can fail.

STOCKSHIFT_TEST_EXAMPLES says how many lives of a shop are tried, of up to 15 steps each.
"""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conftest import administer, database_on
from tests.stateful.journey import Journey
from tests.stateful.machine import World, world_of

EXAMPLES = int(os.environ.get("STOCKSHIFT_TEST_EXAMPLES", "8"))

PROFILE = settings(
    max_examples=EXAMPLES,
    stateful_step_count=15,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)


@pytest.fixture(scope="module")
def world(server_url: str, shop_template: str) -> Iterator[World]:
    name = f"{shop_template}_journey"
    administer(server_url, f'CREATE DATABASE "{name}" TEMPLATE "{shop_template}"')
    with world_of(database_on(server_url, name)) as made:
        yield made
    administer(server_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def journey_in(world: World) -> type[Journey]:
    return type("Here", (Journey,), {"world": world})


def test_whatever_happens_nothing_is_lost(world: World) -> None:
    run_state_machine_as_test(journey_in(world), settings=PROFILE)
