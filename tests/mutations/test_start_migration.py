"""Starting, pausing, resuming and cancelling a copy that the service drives, and that no restart loses it (R28)."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from resolvers.viewer import Role
from tests.conftest import CopyTemplate, MakeTemplate, fill_shop, url_of
from tests.migration.support import migrate, until
from tests.mutations.support import Client, rows, serving
from tests.service import processes
from tests.support import Connection, insert_item, psql

RUN = "run { id kind state driver requestedBy itemsTotal itemsCopied itemsHeldBack waiting stage error }"
START = f"""
mutation ($input: StartMigrationInput) {{
  startMigration(input: $input) {{ migration {{ phase copied {RUN} }} errors {{ field message code }} }}
}}
"""
SEE = f"{{ migration {{ phase copied {RUN} }} }}"


def told(name: str) -> str:
    return f"mutation {{ {name} {{ migration {{ phase {RUN} }} errors {{ field message code }} }} }}"


async def payload(client: Client, document: str, **values: Any) -> dict[str, Any]:
    (found,) = (await client.data(document, **({"input": values} if values else {}))).values()
    result: dict[str, Any] = found
    return result


async def done(client: Client, document: str, **values: Any) -> dict[str, Any]:
    """The run after what must be done."""
    answer = await payload(client, document, **values)
    assert answer["errors"] == [], answer
    run: dict[str, Any] = answer["migration"]["run"]
    return run


async def refused(client: Client, document: str, **values: Any) -> dict[str, Any]:
    """The only error of what must be refused."""
    answer = await payload(client, document, **values)
    assert answer["migration"] is None
    (error,) = answer["errors"]
    result: dict[str, Any] = error
    return result


async def seen(client: Client) -> dict[str, Any]:
    run: dict[str, Any] = (await client.data(SEE))["migration"]["run"]
    return run


async def becomes(client: Client, state: str) -> dict[str, Any]:
    async def reached() -> bool:
        return bool((await seen(client))["state"] == state)

    await until(reached, f"the run is {state}")
    return await seen(client)


async def fill_expanded(connection: Connection, server_url: str) -> None:
    await fill_shop(connection)
    await migrate(await url_of(connection, server_url))
    for item in ("mug", "pot", "vase"):
        await insert_item(connection, item)


@pytest.fixture(scope="module")
def expanded_template(make_template: MakeTemplate, server_url: str) -> str:
    return make_template(lambda connection: fill_expanded(connection, server_url))


@pytest.fixture
def items_url(copy_template: CopyTemplate, expanded_template: str) -> str:
    """Three items that are not copied yet. The database is expanded: a run needs no lock that a sale keeps it from."""
    return copy_template(expanded_template)


@pytest.fixture
async def client(items_url: str) -> AsyncIterator[Client]:
    async with serving(items_url) as admin:
        yield admin


@asynccontextmanager
async def holding(url: str) -> AsyncIterator[Connection]:
    """Somebody sells the pot, and does not commit: no run can end before that."""
    async with psql(url) as connection, connection.transaction():
        await connection.execute("SELECT FROM items WHERE id = 'pot' FOR UPDATE")
        yield connection


async def test_a_run_is_begun_answered_at_once_and_ends_by_itself(client: Client, items_url: str) -> None:
    async with holding(items_url):
        run = await done(client, START)
        assert (run["kind"], run["state"], run["requestedBy"], run["itemsTotal"]) == (
            "ONLINE",
            "RUNNING",
            "admin@test",
            3,
        )
        assert "pid" in run["driver"]
        await until(lambda: waits(client), "the run says what it waits for")
        assert (await client.data(SEE))["migration"]["phase"] == "COPYING"
    run = await becomes(client, "FINISHED")
    assert (run["itemsCopied"], run["itemsHeldBack"], run["error"]) == (3, 0, None)
    shown = (await client.data("{ verifications { edges { node { state itemsChecked } } } }"))["verifications"]
    assert shown["edges"][0] == {"node": {"state": "PASSED", "itemsChecked": 3}}
    async with psql(items_url) as connection:
        assert await connection.fetchval("SELECT count(*) FROM stock_batches") == 3
        assert (
            await connection.fetchval("SELECT place FROM stockshift.migration_run WHERE kind = 'online'") == "service"
        )


async def test_a_database_that_was_never_migrated_is_expanded_first(shop_url: str) -> None:
    async with psql(shop_url) as connection, serving(shop_url) as client:
        await insert_item(connection, "mug")
        assert (await client.data(SEE))["migration"] == {"phase": "NOT_STARTED", "copied": 0, "run": None}
        await done(client, START)
        assert (await becomes(client, "FINISHED"))["itemsCopied"] == 1


async def waits(client: Client) -> bool:
    return "pot" in ((await seen(client))["waiting"] or "")


async def test_while_one_drives_another_is_told_who_it_is(client: Client, items_url: str) -> None:
    async with serving(items_url) as other, holding(items_url):
        driver = (await done(client, START))["driver"]
        for asking in (client, other):
            error = await refused(asking, START)
            assert error["code"] == "MIGRATION_RUNNING"
            assert driver in error["message"]
            assert "inside the service" in error["message"]
        assert (await done(other, told("resumeMigration")))["state"] == "RUNNING", "it is what was wanted"
    await becomes(client, "FINISHED")


async def test_a_run_is_paused_and_goes_on_as_the_same_run(client: Client, items_url: str) -> None:
    async with holding(items_url):
        run = await done(client, START, throttle=["sleep=0.1"])
        await done(client, told("pauseMigration"))
        paused = await becomes(client, "PAUSED")
        assert paused["id"] == run["id"]
        assert (await done(client, told("pauseMigration")))["state"] == "PAUSED"
        assert (await done(client, told("resumeMigration")))["state"] == "RUNNING"
    finished = await becomes(client, "FINISHED")
    assert (finished["id"], finished["itemsCopied"]) == (run["id"], 3)
    async with psql(items_url) as connection:
        options = json.loads(
            await connection.fetchval("SELECT options FROM stockshift.migration_run WHERE kind = 'online'")
        )
        assert options["throttle"] == {"sleep": 0.1}, "as it was begun"


async def test_another_process_pauses_and_resumes_it(client: Client, items_url: str) -> None:
    async with serving(items_url) as other:
        async with holding(items_url):
            await done(client, START)
            await done(other, told("pauseMigration"))
            await becomes(client, "PAUSED")
            assert (await done(other, told("resumeMigration")))["state"] == "RUNNING"
            assert (await refused(client, START))["code"] == "MIGRATION_RUNNING"
        await becomes(client, "FINISHED")


async def test_a_cancelled_run_keeps_what_it_copied_and_the_next_is_another(client: Client, items_url: str) -> None:
    async with holding(items_url):
        run = await done(client, START)
        await until(lambda: waits(client), "the others are copied")
        await done(client, told("cancelMigration"))
        assert (await becomes(client, "CANCELLED"))["itemsCopied"] == 2
        assert (await refused(client, told("resumeMigration")))["code"] == "MIGRATION_NOT_STARTED"
    again = await done(client, START)
    assert again["id"] != run["id"]
    assert (await becomes(client, "FINISHED"))["itemsCopied"] == 1


@pytest.mark.parametrize("name", ["pauseMigration", "resumeMigration", "cancelMigration"])
async def test_without_a_run_there_is_nothing_to_tell(client: Client, items_url: str, name: str) -> None:
    async with psql(items_url) as connection:
        before = await rows(connection)
        error = await refused(client, told(name))
        assert error["code"] == "MIGRATION_NOT_STARTED"
        assert await rows(connection) == before


async def test_what_is_chosen_in_place_of_null_is_copied_and_kept_with_the_copy(client: Client, items_url: str) -> None:
    async with psql(items_url) as connection:
        await connection.execute('ALTER TABLE items ALTER "costPerUnitUSD" DROP NOT NULL')
        await insert_item(connection, "gift", costPerUnitUSD=None, orderDate=None)
        await done(client, START, nullCost=0, nullOrderDate="2026-02-01T00:00:00+01:00", nullStatus="Arrived")
        assert (await becomes(client, "FINISHED"))["itemsHeldBack"] == 0
        kept = await connection.fetchval("SELECT choices FROM stockshift.copy_ledger WHERE item_id = 'gift'")
        assert json.loads(kept) == {"costPerUnitUSD": 0, "orderDate": "2026-01-31T23:00:00.000"}
        batch = await connection.fetchrow(
            """SELECT "costPerUnitUSD", "orderDate"::text FROM stock_batches WHERE "itemId" = 'gift'"""
        )
        assert batch is not None
        assert tuple(batch) == (0, "2026-01-31 23:00:00")


async def test_the_items_that_are_named_are_copied_alone(client: Client, items_url: str) -> None:
    await done(client, START, itemIds=["mug", "vase"])
    assert (await becomes(client, "FINISHED"))["itemsCopied"] == 2
    async with psql(items_url) as connection:
        copied = await connection.fetch("SELECT item_id FROM stockshift.copy_ledger ORDER BY 1")
    assert [row["item_id"] for row in copied] == ["mug", "vase"]


@pytest.mark.parametrize(
    ("given", "field", "code"),
    [
        ({"chunkSize": 0}, "chunkSize", "INVALID"),
        ({"throttle": ["sleep"]}, "throttle", "INVALID"),
        ({"throttle": ["hurry=1"]}, "throttle", "INVALID"),
        ({"nullCost": -1}, "nullCost", "INVALID"),
        ({"itemIds": []}, "itemIds", "INVALID"),
        ({"itemIds": ["mug", "nowhere"]}, "itemIds", "NOT_FOUND"),
    ],
)
async def test_what_cannot_be_meant_is_refused_by_its_field_before_anything_is_done(
    client: Client, items_url: str, given: dict[str, Any], field: str, code: str
) -> None:
    async with psql(items_url) as connection:
        before = await rows(connection)
        error = await refused(client, START, **given)
        assert (error["field"], error["code"]) == (["input", field], code)
        assert await rows(connection) == before


async def test_a_database_that_cannot_be_migrated_is_refused_with_what_is_in_the_way(
    client: Client, items_url: str
) -> None:
    async with psql(items_url) as connection:
        await connection.execute('ALTER TABLE items RENAME "quantityInStock" TO "inStock"')
        error = await refused(client, START)
        assert error["code"] == "CONFLICT"
        assert "quantityInStock" in error["message"]


@pytest.mark.parametrize("document", [START, *map(told, ("pauseMigration", "resumeMigration", "cancelMigration"))])
async def test_only_an_admin_of_all_companies_may(client: Client, items_url: str, document: str) -> None:
    async with psql(items_url) as connection:
        before = await rows(connection)
        for role, company in ((Role.STAFF, None), (Role.MANAGER, None), (Role.ADMIN, "acme")):
            (error,) = (await client.of(role, company).ask(document))["errors"]
            assert error["extensions"] == {"code": "FORBIDDEN"}
        assert await rows(connection) == before


async def test_a_service_that_stops_leaves_a_run_that_the_next_drives_on(items_url: str) -> None:
    async with holding(items_url):
        async with serving(items_url) as client:
            run = await done(client, START)
            await until(lambda: waits(client), "the others are copied")
        async with serving(items_url) as client:
            assert (await becomes(client, "RUNNING"))["id"] == run["id"]
    async with serving(items_url) as client:
        finished = await becomes(client, "FINISHED")
    assert (finished["id"], finished["itemsCopied"], finished["requestedBy"]) == (run["id"], 3, "admin@test")


async def test_a_service_that_is_killed_leaves_a_run_that_the_next_drives_on(items_url: str) -> None:
    async with holding(items_url) as holder:
        with processes.serving(items_url) as service:
            answer = service.ask(START)["data"]["startMigration"]
            assert answer["errors"] == []
            driver = answer["migration"]["run"]["driver"]
            service.command.process.kill()
            service.command.process.wait()
        async with psql(items_url) as connection:
            await connection.execute("UPDATE stockshift.driver SET beat_at = beat_at - interval '30 s'")
        async with serving(items_url) as client:
            await until(lambda: waits(client), "it is driven on")
            run = await seen(client)
            assert (run["id"], run["state"]) == (answer["migration"]["run"]["id"], "RUNNING")
            assert run["driver"] != driver
            await holder.execute("ROLLBACK")
            assert (await becomes(client, "FINISHED"))["itemsCopied"] == 3
            await holder.execute("BEGIN")


INTERRUPTED = """
    INSERT INTO stockshift.migration_run (kind, driver, started_at, place, wanted, options, requested_by)
    VALUES ('online', 'gone', now(), $1, $2,
            '{"chunk_size": null, "throttle": {}, "choices": {}, "items": []}', 'somebody')
"""


async def test_a_run_of_the_command_line_is_left_to_who_began_it(items_url: str) -> None:
    async with psql(items_url) as connection, serving(items_url) as client:
        await done(client, START)
        await becomes(client, "FINISHED")
        await connection.execute(INTERRUPTED, "command", "RUN")
        async with serving(items_url) as other:
            await other.runtime.driving.drive_on(other.runtime.reader.engine)
            run = await seen(other)
            assert (run["state"], run["driver"]) == ("INTERRUPTED", "gone")
            resumed = await done(other, told("resumeMigration"))
            assert (resumed["id"], resumed["state"] in ("RUNNING", "FINISHED")) == (run["id"], True)
            await becomes(other, "FINISHED")


async def test_a_pause_that_a_dead_driver_did_not_see_is_still_meant(items_url: str) -> None:
    async with psql(items_url) as connection, serving(items_url) as client:
        await done(client, START)
        await becomes(client, "FINISHED")
        await connection.execute(INTERRUPTED, "service", "PAUSE")
        await client.runtime.driving.drive_on(client.runtime.reader.engine)
        run = await seen(client)
        assert (run["state"], run["requestedBy"]) == ("PAUSED", "somebody")
