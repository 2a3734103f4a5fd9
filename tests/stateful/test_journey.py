"""All operations in any order (tests/stateful/journey.py), and that the invariants can fail.

STOCKSHIFT_TEST_EXAMPLES says how many lives of a shop are tried, of up to 15 steps each.
"""

import os
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conftest import administer, database_on
from tests.stateful.journey import Journey, Line
from tests.stateful.machine import World, world_of

EXAMPLES = int(os.environ.get("STOCKSHIFT_TEST_EXAMPLES", "4"))

PROFILE = settings(
    max_examples=EXAMPLES,
    stateful_step_count=15,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
    phases=[Phase.generate],
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


@pytest.mark.parametrize(
    ("loss", "noticed_by"),
    [
        ("UPDATE stock_batches SET quantity = quantity + 1", Journey.everybody_answers_as_the_model),
        ("UPDATE items SET notes = 'ours'", Journey.what_the_shop_made_is_as_it_was_left),
        ('UPDATE items SET "quantityInStock" = 0', Journey.what_the_shop_made_is_as_it_was_left),
        ("DELETE FROM stockshift.movement", Journey.what_was_copied_and_what_moved_is_what_is_there),
        (
            "ALTER TABLE items DISABLE TRIGGER stockshift_follow_update",
            Journey.a_verification_finds_drift_and_nothing_else,
        ),
    ],
)
def test_a_loss_is_noticed(world: World, loss: str, noticed_by: Callable[[Journey], None]) -> None:
    journey = journey_in(world)()
    line = Line(7, "Arrived", "acme-main")
    journey.there_are_two_items(first=line, second=line, begun=True)
    journey.batch_is_created(item_id="item-1", line=line)
    noticed_by(journey)
    journey.execute(loss)
    with pytest.raises(AssertionError):
        noticed_by(journey)
