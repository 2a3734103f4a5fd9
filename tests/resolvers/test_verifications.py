"""How kept verifications are answered: the report as it was made, in pages, and in which state."""

from migration.report import VerificationReport, load_report
from tests.graphql_client import client_of
from tests.migration.support import engine_on, verified
from tests.resolvers.shop import ids
from tests.support import insert_item, psql

REPORT = """
    query($id: ID!, $after: String) { verification(id: $id) {
        id state startedAt finishedAt requestedBy itemsChecked itemsMatched itemsMismatched
        legacyQuantity batchQuantity explainedDifference
        checks { name passed expected actual detail }
        mismatches(first: 1, after: $after) {
            totalCount pageInfo { hasNextPage endCursor }
            edges { node {
                itemId itemName legacyQuantity batchQuantity difference fields cause repair
                kind evidence { who when application role reason old new }
            } }
        }
    } }
"""


async def test_a_report_is_answered_as_it_was_made(batches_url: str) -> None:
    async with psql(batches_url) as connection:
        await connection.execute("""UPDATE stock_batches SET quantity = 4 WHERE "itemId" = 'pot'""")
    outcome = await verified(batches_url)
    async with client_of(batches_url) as client:
        report = (await client.ask(REPORT, id=str(outcome.id)))["verification"]
        second = await client.ask(REPORT, id=str(outcome.id), after=report["mismatches"]["pageInfo"]["endCursor"])
    assert (report["id"], report["state"], report["requestedBy"]) == (str(outcome.id), "FAILED", "test")
    new = 1  # since the migration: neither
    assert report["itemsMatched"] + report["itemsMismatched"] + new == report["itemsChecked"] == 6
    assert report["checks"] == [vars(check) for check in outcome.checks]
    mismatches = report["mismatches"]
    assert report["itemsMismatched"] == outcome.mismatched > 1
    assert mismatches["totalCount"] == outcome.mismatched + 1, "and what is wrong with one that is not copied"
    assert mismatches["pageInfo"]["hasNextPage"]
    first, next_ = mismatches["edges"][0]["node"], second["verification"]["mismatches"]["edges"][0]["node"]
    assert first["itemId"] < next_["itemId"]
    assert next_ == {
        "itemId": "pot",
        "itemName": "pot",
        "legacyQuantity": 3,
        "batchQuantity": 4,
        "difference": 1,
        "fields": ["quantity"],
        "cause": next_["cause"],
        "repair": next_["repair"],
        "kind": "OPENING_BATCH_CHANGED",
        "evidence": next_["evidence"],
    }
    assert next_["cause"]
    evidence = next_["evidence"]
    assert (evidence["old"], evidence["new"]) == ({"quantity": 3}, {"quantity": 4})
    assert (evidence["who"], evidence["application"], evidence["reason"]) == (evidence["role"], "psql", "DIRECT")
    assert evidence["when"].endswith("Z")


PROOF = """
    query($id: ID!) { verification(id: $id) {
        conservation {
            companyId locationId status conserved
            copied { units valueUSD freightUSD } moved { units valueUSD freightUSD } there { units valueUSD freightUSD }
        }
        explanations { kind items units examples }
        database serverVersion rowCounts fingerprint
    } }
"""


async def test_what_was_proven_explained_and_seen_is_answered_as_it_was_kept(batches_url: str) -> None:
    async with psql(batches_url) as connection:
        await connection.execute("""UPDATE stock_batches SET "costPerUnitUSD" = 0.1 WHERE "itemId" = 'pot'""")
    outcome = await verified(batches_url)
    async with client_of(batches_url) as client, psql(batches_url) as connection:
        answered = (await client.ask(PROOF, id=str(outcome.id)))["verification"]
        kept = await load(batches_url, outcome.id)
    assert [row.conserved for row in kept.conservation] == [row["conserved"] for row in answered["conservation"]]
    assert answered["conservation"] == [
        {
            "companyId": row.company_id,
            "locationId": row.location_id,
            "status": row.status,
            "conserved": row.conserved,
            **{
                name: {
                    "units": getattr(row, f"{side}_units"),
                    "valueUSD": getattr(row, f"{side}_value"),
                    "freightUSD": getattr(row, f"{side}_freight"),
                }
                for name, side in {"copied": "copied", "moved": "moved", "there": "batch"}.items()
            },
        }
        for row in kept.conservation
    ]
    assert answered["explanations"] == [vars(one) for one in kept.explanations] != []
    assert (answered["database"], answered["serverVersion"]) == (kept.database, kept.server_version)
    assert (answered["rowCounts"], answered["fingerprint"]) == (kept.row_counts, kept.fingerprint)
    assert answered["fingerprint"]


async def test_a_report_of_an_earlier_version_has_no_such_facts(batches_url: str) -> None:
    async with psql(batches_url) as connection:
        old = await connection.fetchval(
            "INSERT INTO stockshift.verification (state, finished_at) VALUES ('PASSED', now()) RETURNING id"
        )
    async with client_of(batches_url) as client:
        answered = (await client.ask(PROOF, id=str(old)))["verification"]
    assert answered == {
        "conservation": [], "explanations": [], "database": None, "serverVersion": None, "rowCounts": None,
        "fingerprint": None,
    }  # fmt: skip


async def load(url: str, verification_id: int) -> VerificationReport:
    async with engine_on(url) as engine, engine.connect() as connection:
        report = await load_report(connection, verification_id, None)
    assert report is not None
    return report


async def test_verifications_come_latest_first_in_pages(batches_url: str) -> None:
    query = """query($after: String) { verifications(first: 2, after: $after) {
        totalCount pageInfo { hasNextPage endCursor } edges { node { id } } } }"""
    made = [str((await verified(batches_url)).id) for _ in range(2)]
    async with client_of(batches_url) as client:
        first = (await client.ask(query))["verifications"]
        rest = (await client.ask(query, after=first["pageInfo"]["endCursor"]))["verifications"]
    assert ids(first) == made[::-1]
    assert first["totalCount"] == 3  # the migration made one
    assert (len(ids(rest)), rest["pageInfo"]["hasNextPage"]) == (1, False)


async def test_sums_past_int4_are_answered_whole(expanded_url: str) -> None:
    async with psql(expanded_url) as connection:
        await connection.execute("ALTER TABLE items DISABLE TRIGGER stockshift_follow_insert")  # nothing explains them
        for number in range(3):
            await insert_item(connection, f"item-{number}", quantityInStock=2**31 - 1)
    outcome = await verified(expanded_url)
    async with client_of(expanded_url) as client:
        report = (await client.ask(REPORT, id=str(outcome.id)))["verification"]
    assert report["legacyQuantity"] == 3 * (2**31 - 1)
    assert report["mismatches"]["edges"][0]["node"]["difference"] == -(2**31 - 1)


async def test_a_report_whose_maker_is_gone_is_interrupted_and_one_at_work_is_running(batches_url: str) -> None:
    query = "{ verifications(first: 3) { edges { node { state finishedAt } } } }"
    async with client_of(batches_url) as client, psql(batches_url) as connection:
        await connection.execute(
            """
            INSERT INTO stockshift.verification (started_at) VALUES (now() - interval '1 hour'), (now());
            """
        )
        states = [edge["node"] for edge in (await client.ask(query))["verifications"]["edges"]]
    assert [state["state"] for state in states] == ["RUNNING", "INTERRUPTED", "PASSED"]
    assert [state["finishedAt"] is None for state in states] == [True, True, False]


async def test_before_the_migration_there_is_none(stock_url: str) -> None:
    async with client_of(stock_url) as client:
        answer = await client.ask('{ verification(id: "1") { id } verifications { totalCount edges { cursor } } }')
    assert answer == {"verification": None, "verifications": {"totalCount": 0, "edges": []}}
