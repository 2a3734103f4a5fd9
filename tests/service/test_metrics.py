"""`/metrics`: what this process has answered, refused and compared, and where the migration is, for Prometheus."""

from datetime import timedelta

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse
from pydantic import SecretStr
from starlette.types import Receive, Scope, Send

from resolvers.viewer import Role
from service.app import create_app
from service.settings import Settings
from service.tokens import TokenVerifier, issue_token
from tests.graphql_client import SECRET, Web, web_on
from tests.migration.support import migrate

Samples = dict[tuple[str, ...], float]


def bearer(role: Role, company: str | None = None) -> dict[str, str]:
    token = issue_token(SECRET, role=role, company=company, ttl=timedelta(hours=1), subject="prometheus")
    return {"Authorization": f"Bearer {token}"}


async def scraped(web: Web) -> Samples:
    """Each sample by its name and the values of its labels in their order, but which process it is of."""
    response = await web.http.get("/metrics", headers=bearer(Role.MANAGER))
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    found: Samples = {}
    for family in parse(response.text):
        assert family.documentation
        for sample in family.samples:
            assert sample.labels.pop("process").isdecimal()
            found[sample.name, *(value for _, value in sorted(sample.labels.items()))] = sample.value
    return found


async def test_requests_are_counted_by_how_they_were_answered(batches_url: str) -> None:
    async with web_on(batches_url) as web:
        for _ in range(3):
            await web.post('{ item(id: "mug") { name } }')
        await web.http.post("/graphql", json={"query": "{ __typename }"})
        await web.post("{ no }", accept="application/graphql-response+json")
        found = await scraped(web)
    assert found["stockshift_requests_total", "executed", "200"] == 1
    assert found["stockshift_requests_total", "planned", "200"] == 2
    assert found["stockshift_requests_total", "executed", "401"] == 1
    assert found["stockshift_requests_total", "executed", "400"] == 1
    assert found["stockshift_request_seconds_total", "planned", "200"] > 0


async def test_mutations_are_counted_by_what_came_of_them(batches_url: str) -> None:
    create = 'mutation {{ a: createBatch(input: {{ itemId: "{}", quantity: {} }}) {{ {} }} }}'
    async with web_on(batches_url) as web:
        await web.post(create.format("mug", 1, "batch { id } errors { code }"))
        await web.post(create.format("mug", 1, "errors { code }"))
        await web.post(create.format("no-such-item", 1, "errors { code }"))
        await web.post(create.format("no-such-item", 1, "item { id }"))
        await web.post("mutation { setReadSource(source: AUTO) { errors { code } } }", role=Role.STAFF)
        await web.post("{ locations { id } }")
        found = await scraped(web)
    assert {key[1:]: value for key, value in found.items() if key[0] == "stockshift_mutations_total"} == {
        ("createBatch", "done"): 2,
        ("createBatch", "refused"): 2,
        ("setReadSource", "failed"): 1,
    }


async def test_compared_reads_are_counted_by_outcome_and_whether_that_is_explained(batches_url: str) -> None:
    async with web_on(batches_url, compare_reads=1.0) as web:
        for item in ("mug", "pot", "pot", "vase"):
            await web.post(f'{{ item(id: "{item}") {{ name }} }}')
        found = await scraped(web)
    assert {key[1:]: value for key, value in found.items() if key[0] == "stockshift_compared_reads_total"} == {
        ("true", "AGREED"): 2,
        ("true", "RECEIVED_SINCE"): 1,
        ("false", "OPENING_BATCH_LOST"): 1,
    }


async def test_the_migration_is_told_as_far_as_that_is_cheap(stock_url: str) -> None:
    async with web_on(stock_url) as web:
        before = await scraped(web)
        await migrate(stock_url)
        after = await scraped(web)
    assert before["stockshift_database_up",] == after["stockshift_database_up",] == 1
    assert before["stockshift_migration_phase", "NOT_STARTED"] == after["stockshift_migration_phase", "DUAL_RUN"] == 1
    assert after["stockshift_migration_phase", "NOT_STARTED"] == 0
    assert ("stockshift_run_items_copied",) not in before
    assert (after["stockshift_run_items_copied",], after["stockshift_run_items",]) == (4, 4)


async def test_a_database_that_is_away_leaves_the_rest_to_be_told() -> None:
    async with web_on("postgresql://localhost:1/shop") as web:
        found = await scraped(web)
    assert found["stockshift_database_up",] == 0
    assert not [key for key in found if key[0].startswith("stockshift_migration")]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer nonsense"}, 401),
        (bearer(Role.STAFF), 403),
        (bearer(Role.ADMIN, "acme"), 403),
        (bearer(Role.ADMIN), 200),
    ],
    ids=["nobody", "a stranger", "staff", "one company's admin", "an admin"],
)
async def test_it_is_for_managers_of_all_companies(database_url: str, headers: dict[str, str], status: int) -> None:
    async with web_on(database_url) as web:
        response = await web.http.get("/metrics", headers=headers)
    assert response.status_code == status
    assert ("stockshift_" in response.text) == (status == 200)
    assert ("www-authenticate" in response.headers) == (status == 401)


async def test_the_demo_tells_anybody_who_asks_it_by_its_own_name(database_url: str) -> None:
    verifier = TokenVerifier.from_settings(Settings(jwt_secret=SecretStr(SECRET)))
    settings = Settings(allowed_hosts=("localhost",))
    app = create_app(settings, database_url, verifier, default_headers=bearer(Role.ADMIN))
    async with app.router.lifespan_context(app) as state:

        async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "state": dict(state or {})}, receive, send)

        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=with_state), base_url="http://localhost"
        ) as http:
            assert (await http.get("/metrics")).status_code == 200
            assert (await http.get("/metrics", headers={"Host": "evil.example"})).status_code == 400


async def test_openmetrics_is_spoken_to_who_asks_for_it(database_url: str) -> None:
    async with web_on(database_url) as web:
        headers = {**bearer(Role.ADMIN), "Accept": "application/openmetrics-text; version=1.0.0"}
        response = await web.http.get("/metrics", headers=headers)
    assert response.headers["content-type"].startswith("application/openmetrics-text")
    families = parse_openmetrics(response.text)  # type: ignore[no-untyped-call]  # the library leaves it untyped
    assert "stockshift_database_up" in {family.name for family in families}
