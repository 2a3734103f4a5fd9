"""`runVerification` and the reports it leaves, and `setReadSource`, as clients see them (R4, R19-R23)."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from resolvers.viewer import Role
from tests.conftest import CopyTemplate, MakeTemplate, url_of
from tests.migration.support import UNFOLLOWED, migrate, until, waits_for_lock
from tests.mutations.conftest import fill_uncopied
from tests.mutations.support import Client, rows, serving
from tests.support import Connection, insert, insert_item, psql

REPORT = """
  id state startedAt finishedAt requestedBy itemsChecked itemsMatched itemsMismatched legacyQuantity batchQuantity
  explainedDifference checks { name passed expected actual detail }
  mismatches {
    totalCount edges { node { itemId itemName legacyQuantity batchQuantity difference fields cause repair } }
  }
"""
RUN = f"""
mutation ($input: RunVerificationInput) {{
  runVerification(input: $input) {{ verification {{ {REPORT} }} errors {{ field message code }} }}
}}
"""
READ = f"query ($id: ID!) {{ verification(id: $id) {{ {REPORT} }} }}"
LIST = "{ verifications { totalCount edges { node { id requestedBy } } } }"
SWITCH = """
mutation ($source: ReadSource!) {
  setReadSource(source: $source) { migration { phase readSource items copied heldBack } errors { field message code } }
}
"""


async def run(client: Client, **values: Any) -> dict[str, Any]:
    payload = (await client.data(RUN, **({"input": values} if values else {})))["runVerification"]
    assert payload["errors"] == []
    report: dict[str, Any] = payload["verification"]
    return report


async def read(client: Client, report_id: str) -> dict[str, Any] | None:
    report: dict[str, Any] | None = (await client.data(READ, id=report_id))["verification"]
    return report


def failed(report: dict[str, Any]) -> set[str]:
    return {check["name"] for check in report["checks"] if not check["passed"]}


def mismatches(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {edge["node"]["itemId"]: edge["node"] for edge in report["mismatches"]["edges"]}


@pytest.fixture(scope="session")
def copied_template(make_template: MakeTemplate, server_url: str) -> str:
    async def fill(connection: Connection) -> None:
        await fill_uncopied(connection, server_url)
        await migrate(await url_of(connection, server_url))

    return make_template(fill)


@pytest.fixture
def migrated_url(copy_template: CopyTemplate, copied_template: str) -> str:
    """Five items, all copied: 47 units, 7 of them of company globex."""
    return copy_template(copied_template)


@pytest.fixture
async def client(migrated_url: str) -> AsyncIterator[Client]:
    async with serving(migrated_url) as admin:
        yield admin


async def test_a_verification_is_finished_when_it_is_answered_and_kept_as_it_was_answered(client: Client) -> None:
    await client.made(itemId="mug", quantity=5)
    report = await run(client)
    assert (report["state"], report["requestedBy"]) == ("PASSED", "admin@test")
    assert (report["itemsChecked"], report["itemsMatched"], report["itemsMismatched"]) == (5, 5, 0)
    assert (report["legacyQuantity"], report["batchQuantity"], report["explainedDifference"]) == (37, 42, 5)
    assert report["startedAt"] <= report["finishedAt"]
    assert failed(report) == set()
    assert len(report["checks"]) >= 8
    assert report["mismatches"] == {"totalCount": 0, "edges": []}
    assert await read(client, report["id"]) == report
    assert await run(client, wait=True) != report


async def test_one_that_is_not_waited_for_runs_and_then_reads_as_finished(client: Client, migrated_url: str) -> None:
    async with psql(migrated_url) as holder, psql(migrated_url) as watcher:
        async with holder.transaction():
            await holder.execute("LOCK TABLE stock_batches IN ACCESS EXCLUSIVE MODE")
            report = await run(client, wait=False)
            assert (report["state"], report["finishedAt"], report["checks"]) == ("RUNNING", None, [])
            await waits_for_lock(watcher)
            again = await read(client, report["id"])
            assert again is not None
            assert again["state"] == "RUNNING"

        async def finished() -> bool:
            found = await read(client, report["id"])
            return found is not None and found["state"] == "PASSED"

        await until(finished, "the report is finished")


async def test_a_third_at_once_is_refused_until_one_has_ended(client: Client, migrated_url: str) -> None:
    async with psql(migrated_url) as holder:
        async with holder.transaction():
            await holder.execute("LOCK TABLE stock_batches IN ACCESS EXCLUSIVE MODE")
            answers = await asyncio.gather(*[client.data(RUN, input={"wait": False}) for _ in range(5)])
            payloads = [answer["runVerification"] for answer in answers]
            refused = [payload for payload in payloads if payload["verification"] is None]
            assert [payload["errors"][0]["code"] for payload in refused] == ["CONFLICT"] * 3
        await until(lambda: idle(client), "both have ended")
        assert (await run(client))["state"] == "PASSED"
    listed = (await client.data(LIST))["verifications"]
    assert listed["totalCount"] == 1 + 1 + 2 + 1, "two migrations', the two that ran, the last"


async def idle(client: Client) -> bool:
    return not client.runtime.tasks


async def test_a_service_that_stops_leaves_a_report_that_reads_as_interrupted(migrated_url: str) -> None:
    async with psql(migrated_url) as holder, psql(migrated_url) as watcher:
        async with holder.transaction():
            await holder.execute("LOCK TABLE stock_batches IN ACCESS EXCLUSIVE MODE")
            async with serving(migrated_url) as client:
                report = await run(client, wait=False)
                await waits_for_lock(watcher)
        await watcher.execute("UPDATE stockshift.verification SET started_at = started_at - interval '1 hour'")
        async with serving(migrated_url) as client:
            found = await read(client, report["id"])
            assert found is not None
            assert (found["state"], found["finishedAt"]) == ("INTERRUPTED", None)
            assert (await run(client))["state"] == "PASSED"


async def test_one_whose_connection_is_lost_is_a_fault_for_who_waits_and_reads_as_interrupted(
    client: Client, migrated_url: str
) -> None:
    async with psql(migrated_url) as holder, psql(migrated_url) as watcher:
        async with holder.transaction():
            await holder.execute("LOCK TABLE stock_batches IN ACCESS EXCLUSIVE MODE")
            waiting = asyncio.create_task(client.ask(RUN))
            await waits_for_lock(watcher)
            await watcher.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name = 'stockshift serve direct'"
            )
            answer = await waiting
        assert answer["errors"][0]["extensions"]["code"] in ("FAULT", "UNAVAILABLE")
        await watcher.execute("UPDATE stockshift.verification SET started_at = started_at - interval '1 hour'")
        newest = (await client.data("{ verifications(first: 1) { edges { node { state } } } }"))["verifications"]
        assert newest["edges"][0]["node"]["state"] == "INTERRUPTED"


async def test_reports_are_listed_newest_first_and_page_by_page(client: Client) -> None:
    ids = [(await run(client))["id"] for _ in range(3)]
    listed = [edge["node"]["id"] for edge in (await client.data(LIST))["verifications"]["edges"]]
    assert listed[:3] == ids[::-1]
    query = """
    query ($after: String) {
      verifications(first: 2, after: $after) { edges { node { id } } pageInfo { hasNextPage endCursor } totalCount }
    }
    """
    seen, after, more = [], None, True
    while more:
        page = (await client.data(query, after=after))["verifications"]
        seen += [edge["node"]["id"] for edge in page["edges"]]
        after, more = page["pageInfo"]["endCursor"], page["pageInfo"]["hasNextPage"]
        assert page["totalCount"] == len(listed)
    assert seen == listed


COPY_AGAIN = """
    INSERT INTO stock_batches
    SELECT (jsonb_populate_record(batch, '{"id": "twice"}')).* FROM stock_batches batch WHERE "itemId" = 'mug'
"""

TAMPERINGS = [
    (
        "UPDATE stock_batches SET quantity = quantity + 1 WHERE \"itemId\" = 'mug'",
        {"quantities", "items match"},
        ("mug", ["quantity"], 1, "the opening batch was changed after the copy", "quantity 11 -> 10"),
    ),
    (
        f"{UNFOLLOWED}; UPDATE items SET \"quantityInStock\" = 4, \"notes\" = 'sold six' WHERE id = 'mug'",
        {"quantities", "items match"},
        ("mug", ["notes", "quantity"], 6, "the legacy columns were written after the copy", "quantity 10 -> 4"),
    ),
    (
        "DELETE FROM stock_batches WHERE \"itemId\" = 'mug'",
        {"opening batches", "quantities", "items match"},
        ("mug", [], -10, "the opening batch was deleted", "from the copy ledger"),
    ),
    (
        COPY_AGAIN,
        {"copied twice", "items match"},
        ("mug", [], 10, "copied twice", "delete batch twice"),
    ),
    (
        "DELETE FROM stockshift.copy_ledger WHERE item_id = 'mug'",
        {"hidden legacy stock", "items match"},
        ("mug", [], 0, "never copied", "`stockshift migrate`"),
    ),
]


@pytest.mark.parametrize(("statement", "checks", "expected"), TAMPERINGS)
async def test_what_was_tampered_with_is_found_named_and_explained(
    client: Client, migrated_url: str, statement: str, checks: set[str], expected: tuple[str, list[str], int, str, str]
) -> None:
    async with psql(migrated_url) as connection:
        await connection.execute(statement)
    report = await run(client)
    assert (report["state"], report["itemsMismatched"]) == ("FAILED", 1)
    assert checks <= failed(report), failed(report)
    item, fields, difference, cause, repair = expected
    found = mismatches(report)
    assert list(found) == [item]
    assert found[item]["itemName"] == item
    assert sorted(found[item]["fields"]) == fields
    assert found[item]["difference"] == difference
    assert (found[item]["batchQuantity"] or 0) - found[item]["legacyQuantity"] == difference
    assert cause in found[item]["cause"]
    assert repair in found[item]["repair"]
    assert await read(client, report["id"]) == report


async def test_an_orphan_and_a_batch_at_no_known_location_are_found_and_named(
    client: Client, migrated_url: str
) -> None:
    async with psql(migrated_url) as connection:
        for column in ("itemId", "locationId"):
            await connection.execute(f'ALTER TABLE stock_batches DROP CONSTRAINT "stock_batches_{column}_fkey"')
        for name, item, location in (("orphan", "gone", None), ("astray", "mug", "nowhere")):
            await insert(
                connection, "stock_batches", id=name, itemId=item, locationId=location, costPerUnitUSD=1.0, quantity=4
            )
    report = await run(client)
    assert report["state"] == "FAILED"
    details = {check["name"]: check["detail"] for check in report["checks"] if not check["passed"]}
    assert "item gone: batch orphan (4 units)" in details["batches with an unknown itemId"]
    assert "item mug: batch astray (4 units)" in details["batches with an unknown locationId"]
    (keys,) = [detail for name, detail in details.items() if "keys" in name]
    assert "itemId" in keys


async def test_an_item_that_is_new_since_the_migration_is_explained_if_it_was_recorded(
    client: Client, migrated_url: str
) -> None:
    async with psql(migrated_url) as connection:
        await insert_item(connection, "recorded", quantityInStock=3)
        report = await run(client)
        assert (report["state"], report["explainedDifference"]) == ("PASSED", -3)
        await connection.execute("ALTER TABLE items DISABLE TRIGGER stockshift_follow_insert")
        await insert_item(connection, "new", quantityInStock=2)
    report = await run(client)
    assert report["state"] == "FAILED"
    assert list(mismatches(report)) == ["new"]
    assert "was not copied" in mismatches(report)["new"]["cause"]


async def test_an_admin_of_one_company_verifies_and_sees_only_that_company(client: Client, migrated_url: str) -> None:
    acme, globex = client.of(Role.ADMIN, "acme"), client.of(Role.ADMIN, "globex")
    async with psql(migrated_url) as connection:
        await connection.execute("UPDATE stock_batches SET quantity = 1 WHERE \"itemId\" = 'mug'")
    of_all, of_acme, of_globex = await run(client), await run(acme), await run(globex)
    assert (of_all["state"], of_acme["state"], of_globex["state"]) == ("FAILED", "FAILED", "PASSED")
    assert (of_all["itemsChecked"], of_acme["itemsChecked"], of_globex["itemsChecked"]) == (5, 4, 1)
    assert (of_globex["legacyQuantity"], of_globex["batchQuantity"]) == (7, 7)
    assert "mug" not in str(of_globex)
    for admin, own in ((acme, of_acme), (globex, of_globex)):
        assert (await client.data(LIST))["verifications"]["totalCount"] >= 3
        assert [edge["node"]["id"] for edge in (await admin.data(LIST))["verifications"]["edges"]] == [own["id"]]
        for report in (of_all, of_acme, of_globex):
            assert await read(admin, report["id"]) == (own if report is own else None)


async def test_an_admin_of_one_company_sees_nothing_of_another_that_runs_with_it(
    client: Client, migrated_url: str
) -> None:
    reports = await asyncio.gather(run(client.of(Role.ADMIN, "acme")), run(client.of(Role.ADMIN, "globex")))
    assert [report["itemsChecked"] for report in reports] == [4, 1]


@pytest.mark.parametrize("role", [Role.STAFF, Role.MANAGER])
async def test_only_an_admin_verifies_or_switches(client: Client, migrated_url: str, role: Role) -> None:
    async with psql(migrated_url) as connection:
        before = await rows(connection)
        for document, variables in ((RUN, {}), (SWITCH, {"source": "LEGACY"})):
            for company in (None, "acme"):
                (error,) = (await client.of(role, company).ask(document, **variables))["errors"]
                assert error["extensions"]["code"] == "FORBIDDEN"
                assert role.name in error["message"] or "all companies" in error["message"]
        assert await rows(connection) == before


async def test_a_manager_reads_reports_and_staff_do_not(client: Client) -> None:
    report = await run(client)
    assert await read(client.of(Role.MANAGER), report["id"]) == report
    staff = client.of(Role.STAFF)
    for document in (LIST, "{ migration { phase } }", f'{{ verification(id: "{report["id"]}") {{ id }} }}'):
        (error,) = (await staff.ask(document))["errors"]
        assert error["extensions"]["code"] == "FORBIDDEN"


@pytest.mark.parametrize("report_id", ["0", "999999", "", "abc", "1 OR 1=1", "9" * 40, "-1", "01"])
async def test_a_report_that_is_not_there_is_null(client: Client, report_id: str) -> None:
    await run(client)
    assert await read(client, report_id) is None


async def test_before_the_migration_there_is_nothing_to_verify_or_to_switch(shop_url: str) -> None:
    async with psql(shop_url) as connection, serving(shop_url) as client:
        await insert_item(connection, "mug")
        before = await rows(connection)
        for name, answer in (
            ("runVerification", await client.data(RUN)),
            ("runVerification", await client.data(RUN, input={"wait": False})),
            ("setReadSource", await client.data(SWITCH, source="LEGACY")),
        ):
            (error,) = answer[name]["errors"]
            assert error["code"] == "MIGRATION_NOT_STARTED"
            assert "stockshift migrate" in error["message"]
        assert (await client.data(LIST))["verifications"] == {"totalCount": 0, "edges": []}
        assert await rows(connection) == before
        assert (await client.data("{ migration { phase readSource } }"))["migration"] == {
            "phase": "NOT_STARTED",
            "readSource": "AUTO",
        }


async def test_the_read_source_changes_for_every_process_with_the_next_question(
    client: Client, migrated_url: str
) -> None:
    question = '{ item(id: "mug") { totalQuantity usingBatchSystem } stockSummary { totalQuantity } }'
    async with serving(migrated_url) as other:
        await other.made(itemId="mug", quantity=5)
        for source, quantity, using in (("LEGACY", 10, False), ("AUTO", 15, True), ("AUTO", 15, True)):
            payload = (await client.data(SWITCH, source=source))["setReadSource"]
            expected = {"phase": "DUAL_RUN", "readSource": source, "items": 5, "copied": 5, "heldBack": 0}
            assert payload == {"migration": expected, "errors": []}
            for process in (client, other):
                answer = await process.data(question)
                assert answer["item"] == {"totalQuantity": quantity, "usingBatchSystem": using}
                assert answer["stockSummary"]["totalQuantity"] == quantity + 27


async def test_an_admin_of_one_company_does_not_switch_what_all_read(client: Client, migrated_url: str) -> None:
    (error,) = (await client.of(Role.ADMIN, "acme").ask(SWITCH, source="LEGACY"))["errors"]
    assert error["extensions"]["code"] == "FORBIDDEN"
    assert "all companies" in error["message"]
    assert (await client.data("{ migration { readSource } }"))["migration"]["readSource"] == "AUTO"
