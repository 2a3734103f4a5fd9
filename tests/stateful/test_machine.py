"""The whole of it against a model (R1-R6, R14, R18, R20), and the machine against defects that it must find.

STOCKSHIFT_TEST_EXAMPLES says how many lives of a shop are tried, of up to 20 steps each: 8 if it is not set, which take
some twenty seconds; 1000 take the better part of an hour.
"""

import os
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import false, text, true
from sqlalchemy.ext.asyncio import AsyncConnection

from migration import atomic, copy
from migration.copy import Copied
from migration.step import Step
from resolvers import create_batch, query
from resolvers.item import ItemRow
from resolvers.scope import Scope
from tests.conftest import administer, database_on
from tests.stateful.machine import Migrating, World, world_of

EXAMPLES = int(os.environ.get("STOCKSHIFT_TEST_EXAMPLES", "8"))

PROFILE = settings(
    max_examples=EXAMPLES,
    stateful_step_count=20,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)


@pytest.fixture(scope="module")
def world(server_url: str, shop_template: str) -> Iterator[World]:
    name = f"{shop_template}_machine"
    administer(server_url, f'CREATE DATABASE "{name}" TEMPLATE "{shop_template}"')
    with world_of(database_on(server_url, name)) as made:
        yield made
    administer(server_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def machine_in(world: World) -> type[Migrating]:
    return type("Here", (Migrating,), {"world": world})


def test_whatever_happens_every_answer_is_the_models(world: World) -> None:
    run_state_machine_as_test(machine_in(world), settings=PROFILE)


def live_a_short_life(world: World) -> None:
    """A few of the machine's steps, its invariant checked after each: every part of Stockshift is met."""
    machine = machine_in(world)()

    def step(act: Callable[..., None], **values: Any) -> None:
        act(**values)
        machine.everybody_answers_as_the_model()

    item = {"company": "acme", "status": "Arrived", "cost": 2.5, "freight": 4.0, "place": "main", "order_number": None}
    batch = {
        "status": "Ordered",
        "cost": None,
        "freight": 1.5,
        "place": "harbour",
        "order_number": "PO-1",
        "key": "key-1",
    }
    step(machine.there_are_two_items, quantities=(10, 7), status="Arrived")
    step(machine.migrated)
    step(machine.legacy_item_is_written, item_id="item-3", quantity=3, **item)
    step(machine.batch_is_created, item_id="item-3", quantity=5, **batch)
    step(machine.read_source_is_switched, to="LEGACY")
    step(machine.read_source_is_switched, to="AUTO")
    step(machine.verified)
    step(machine.batches_are_deleted, item_id="item-1", number=0, all_of_them=True)
    step(machine.legacy_item_is_written, item_id="item-4", quantity=9, **item)
    step(machine.migrated)
    step(machine.legacy_units_are_sold, item_id="item-2", sold=2)
    step(machine.verified)
    step(machine.legacy_item_is_deleted, item_id="item-2")


def test_a_short_life_goes_well(world: World) -> None:
    live_a_short_life(world)


execute = atomic._execute  # noqa: SLF001 - the one place where the steps of a run are carried out


async def copy_nothing(*_: object) -> None: ...


def copying_twice(copy_items: Callable[..., Awaitable[Copied]]) -> Callable[..., Awaitable[Copied]]:
    """The plain recipe: every run copies every item."""

    async def copy_all(connection: AsyncConnection, *arguments: Any, run: int, **options: Any) -> Copied:
        copied = await copy_items(connection, *arguments, run=run, **options)
        again = """
        INSERT INTO stock_batches SELECT (jsonb_populate_record(b, jsonb_build_object('id', gen_random_uuid()))).*
        FROM stock_batches b JOIN stockshift.copy_ledger l ON l.batch_id = b.id WHERE l.run_id <> :run
        """
        await connection.execute(text(again), {"run": run})
        return copied

    return copy_all


async def follow_nothing(connection: AsyncConnection, steps: list[Step]) -> None:
    await execute(connection, [step for step in steps if "stockshift_follow_update" not in step.sql])


DEFECTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "an item whose batches are gone falls back to its legacy columns": lambda patch: patch.setattr(
        Scope, "copied", lambda *_: false()
    ),
    "a second run copies what was copied": lambda patch: patch.setattr(
        atomic, "copy_items", copying_twice(copy.copy_items)
    ),
    "a first batch hides the legacy stock": lambda patch: patch.setattr(create_batch, "_copy_first", copy_nothing),
    "an opening batch does not follow": lambda patch: patch.setattr(atomic, "_execute", follow_nothing),
    "the read source is not heeded": lambda patch: patch.setattr(
        ItemRow, "may_use_batches", property(lambda item: item.scope.shape.batches_known)
    ),
    "a process goes on with what it once knew of the database": lambda patch: patch.setattr(
        query, "guard", lambda _: true()
    ),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_found(world: World, monkeypatch: pytest.MonkeyPatch, defect: str) -> None:
    """That the machine can fail: without the defect the same life goes well."""
    DEFECTS[defect](monkeypatch)
    with pytest.raises(AssertionError):
        live_a_short_life(world)
