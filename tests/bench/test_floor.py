"""The floor that the service is held against must answer the same: else its speed says nothing."""

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from bench import data
from bench.client import Client, answer, around, check_equal, connect, drawn, listing
from bench.contestants import SERVER, STARLETTE, Assignment, Contestant
from bench.errors import BenchError
from bench.floor import PAGES, create_pool
from bench.load import pgbench_script
from bench.operations import Operation, Place
from bench.processes import Cores, free_port, serving
from resolvers.viewer import Role
from service.tokens import issue_token
from tests.conftest import administer, database_on
from tests.support import psql

SECRET = "0123456789abcdef0123456789abcdef"
ITEMS = 1_500


@dataclass(frozen=True)
class Pair:
    url: str
    service: Client
    floor: Client


@pytest.fixture(scope="module")
def pair(server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """The service and the floor over one small shop, as the benchmark starts them."""
    name = f"stockshift_test_{uuid.uuid4().hex[:12]}"
    administer(server_url, f'CREATE DATABASE "{name}" TEMPLATE template0')
    url = database_on(server_url, name)
    asyncio.run(data.load(url, ITEMS))
    folder = tmp_path_factory.mktemp("bench")
    with started(SERVER, url, folder) as service, started(STARLETTE, url, folder) as floor:
        yield Pair(url, service, floor)
    administer(server_url, f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def started(contestant: Contestant, url: str, folder: Path) -> Iterator[Client]:
    given = Assignment(url, free_port(), SECRET)
    command, environment = contestant.command(given), contestant.environment(given)
    log = folder / contestant.name
    with serving(command, environment, port=given.port, core=Cores.choose().server, log=log) as process:
        token = issue_token(SECRET, role=Role.STAFF, company=None, ttl=timedelta(hours=1), subject="bench")
        client = connect(process.url, token if contestant.wants_token else None)
        with client.http:
            yield client


def test_both_answer_the_same_at_random_places_and_at_odd_ones(pair: Pair) -> None:
    every = listing(pair.service)
    odd = around(every, asyncio.run(data.odd_items(pair.url)))
    answers = check_equal([(SERVER, pair.service), (STARLETTE, pair.floor)], drawn(every), odd)
    assert odd
    assert {name for name, _ in answers} == {"service", "floor"}
    assert all(one.bytes > 100 for one in answers.values())


def test_an_answer_that_differs_is_refused(pair: Pair) -> None:
    dialect = replace(STARLETTE.dialect, page=lambda found: STARLETTE.dialect.page(found)[::-1])
    otherwise = replace(STARLETTE, dialect=dialect)
    with pytest.raises(BenchError, match=r"page of 50 at .*: floor.* answers otherwise"):
        check_equal([(SERVER, pair.service), (otherwise, pair.floor)], drawn(listing(pair.service)))


def test_a_short_page_is_refused(pair: Pair) -> None:
    """Whoever answers fewer rows is fast for no merit."""
    last = listing(pair.service)[-Operation.PAGE_50.rows :]
    with pytest.raises(BenchError, match=r"page of 50 at .*: this service answers 49 rows"):
        check_equal([(SERVER, pair.service)], last[:1])


async def test_items_that_were_never_copied_or_are_sold_out_are_among_the_answers(pair: Pair) -> None:
    """R1 is what makes a page dear: without such items a faster statement would seem right."""
    shown = whole_shop(pair.floor)
    never_copied = await ids(
        pair.url, "SELECT id FROM items WHERE id NOT IN (SELECT item_id FROM stockshift.copy_ledger)"
    )
    sold_out = await ids(
        pair.url,
        'SELECT item_id AS id FROM stockshift.copy_ledger WHERE item_id NOT IN (SELECT "itemId" FROM stock_batches)',
    )
    assert len(shown) == ITEMS
    assert len(never_copied) >= ITEMS // data.LEGACY_SHARE
    assert all(len(shown[id_]["statuses"]) == 1 for id_ in never_copied)
    assert sold_out
    assert all(shown[id_]["totalQuantity"] == 0 and shown[id_]["statuses"] == [] for id_ in sold_out)


def whole_shop(floor: Client) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    place = Place("", "", "")
    while rows := answer(floor, STARLETTE.dialect, Operation.PAGE_1000, place)[0]:
        shown |= {row["id"]: row for row in rows}
        place = Place("", rows[-1]["name"], rows[-1]["id"])
    return shown


async def ids(url: str, query: str) -> list[str]:
    async with psql(url) as connection:
        return [row["id"] for row in await connection.fetch(query)]


async def test_pgbench_runs_the_statement_of_the_floor(pair: Pair) -> None:
    place = listing(pair.service)[7]
    page, _ = answer(pair.floor, STARLETTE.dialect, Operation.PAGE_50, place)
    statement = pgbench_script(Operation.PAGE_50).partition("\n")[2].replace(":number", "1")
    async with psql(pair.url) as connection:
        await connection.execute("CREATE SCHEMA bench CREATE TABLE place (number int, name text, id text)")
        await connection.execute("INSERT INTO bench.place VALUES (1, $1, $2)", place.name, place.id)
        edges = await connection.fetchval(statement)
    assert STARLETTE.dialect.answer(Operation.PAGE_50, {"data": {"items": {"edges": orjson.loads(edges)}}}) == page


async def test_the_floor_plans_its_statement_once(pair: Pair) -> None:
    """A statement that is planned anew each time costs PostgreSQL twice as much: no floor to be held against."""
    async with create_pool(pair.url, pool_size=1) as pool:
        for _ in range(3):
            await pool.fetchval(PAGES[50], "", "")
        async with pool.acquire() as connection:
            plans = await connection.fetchrow(
                "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement = $1", PAGES[50]
            )
    assert dict(plans or {}) == {"generic_plans": 3, "custom_plans": 0}
