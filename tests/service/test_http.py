"""What the service answers to whom, over HTTP, before GraphQL has anything to say."""

from collections.abc import Iterator

import pytest

from resolvers.viewer import Role
from tests.service.processes import Service, token

INTROSPECTION = "{ __schema { types { name } } }"
BEARER = {"Authorization": f"Bearer {token()}"}


@pytest.mark.parametrize("query", ["{ __typename }", INTROSPECTION, "{ migration { phase } }", "{ nonsense", ""])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nobody_is_answered_without_a_token(service: Service, method: str, query: str) -> None:
    how = {"params": {"query": query}} if method == "GET" else {"json": {"query": query}}
    answer = service.client.request(method, "/graphql", **how)  # type: ignore[arg-type]  # one of the two
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert [error["extensions"]["code"] for error in answer.json()["errors"]] == ["UNAUTHENTICATED"]
    assert set(answer.json()) == {"errors"}


def test_a_head_without_a_token_is_refused_as_well(service: Service) -> None:
    assert service.client.head("/graphql", params={"query": "{ __typename }"}).status_code == 401


def test_staff_may_look_at_the_schema(service: Service) -> None:
    answer = service.ask(INTROSPECTION, bearer=token(Role.STAFF))
    assert "StockBatch" in {each["name"] for each in answer["data"]["__schema"]["types"]}


def test_the_page_for_a_browser_holds_no_token_and_nothing_of_the_shop(service: Service) -> None:
    answer = service.client.get("/graphql", headers={"Accept": "text/html,application/xhtml+xml"})
    assert answer.status_code == 200
    assert "text/html" in answer.headers["content-type"]
    assert "Bearer eyJ" not in answer.text
    assert "acme" not in answer.text


@pytest.mark.parametrize("path", ["/", "/graphql", "/healthz", "/readyz", "/nowhere", "/graphiql-assets/nothing.js"])
def test_no_answer_may_be_guessed_at_framed_or_told_of(service: Service, path: str) -> None:
    for accept in ("application/json", "text/html"):
        headers = service.client.get(path, headers={"Accept": accept}).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/graphql"), ("DELETE", "/graphql"), ("OPTIONS", "/graphql"), ("POST", "/healthz"), ("POST", "/readyz")],
)
def test_a_method_that_a_path_does_not_have_is_refused_with_those_it_has(
    service: Service, method: str, path: str
) -> None:
    answer = service.client.request(method, path, headers=BEARER)
    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_probe_may_ask_for_the_head_alone(service: Service, path: str) -> None:
    answer = service.client.head(path)
    assert (answer.status_code, answer.content) == (200, b"")


def test_a_mutation_is_not_made_by_a_get(service: Service) -> None:
    query = "mutation { runVerification { errors { message } } }"
    answer = service.client.get("/graphql", params={"query": query}, headers=BEARER)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert "data" not in answer.json()


@pytest.mark.parametrize("chunked", [False, True], ids=["with its length told", "in chunks"])
def test_a_body_that_is_too_long_is_refused_unread(service: Service, *, chunked: bool) -> None:
    def parts() -> Iterator[bytes]:
        for _ in range(300):
            yield b"x" * 1000

    body = parts() if chunked else b"".join(parts())
    headers = {**BEARER, "Content-Type": "application/json"}
    answer = service.client.post("/graphql", content=body, headers=headers)
    assert answer.status_code == 413
    assert "262144 bytes" in answer.json()["errors"][0]["message"]
    assert service.ask("{ __typename }") == {"data": {"__typename": "Query"}}


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "shop.example.evil:8000"])
def test_a_host_that_is_not_ours_gets_nothing(service: Service, host: str) -> None:
    for path in ("/", "/graphql"):
        answer = service.client.get(path, headers={**BEARER, "Host": host, "Accept": "text/html"})
        assert answer.status_code == 400
        assert answer.text == "Invalid host header"


def test_probes_are_answered_under_any_name(service: Service) -> None:
    for path in ("/healthz", "/readyz"):
        assert service.client.get(path, headers={"Host": "10.0.0.7:8000"}).status_code == 200


def test_the_host_may_bring_its_port(service: Service) -> None:
    answer = service.client.get(
        "/graphql", params={"query": "{ __typename }"}, headers=BEARER | {"Host": "shop.example:99"}
    )
    assert answer.json() == {"data": {"__typename": "Query"}}


def test_the_log_has_neither_queries_nor_tokens(service: Service) -> None:
    marked = "{ whereIsMySecretQuery }"
    bearer = token(Role.MANAGER)
    service.client.get("/graphql", params={"query": marked}, headers={"Authorization": f"Bearer {bearer}"})
    service.client.get("/graphql", params={"query": marked, "access_token": bearer})
    service.command.says(r"GET /graphql HTTP/1.1\W+ 401")
    assert "whereIsMySecretQuery" not in service.command.output
    assert bearer not in service.command.output


def test_a_request_that_nobody_can_read_is_said_to_be_so(service: Service) -> None:
    for body in (
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"null",
        b"5",
        b'{"query": 5}',
        b'{"query": "{a}", "operationName": 5}',
    ):
        answer = service.client.post("/graphql", content=body, headers={**BEARER, "Content-Type": "application/json"})
        assert answer.status_code == 400, body
        assert answer.json()["errors"][0]["extensions"]["code"] == "BAD_REQUEST"
    assert "Traceback" not in service.command.output


def test_a_document_that_nests_without_end_is_refused(service: Service) -> None:
    answer = service.client.post("/graphql", json={"query": "{a" * 40_000}, headers=BEARER)
    assert answer.status_code in (200, 400)
    assert answer.json()["errors"][0]["extensions"]["code"] == "BAD_REQUEST"
    assert "Traceback" not in service.command.output
