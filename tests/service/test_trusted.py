"""With a list of trusted documents nothing else is executed, whichever way it comes; a wrong list stops the start."""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from graphql import get_introspection_query

from service.graphql import Endpoint
from service.keys import SharedSecret
from service.settings import Settings, SettingsError
from service.tokens import TokenVerifier
from tests.graphql_client import SECRET, Web, web_on
from tests.service.processes import stockshift
from tests.support import insert_item, psql

NAMES = "query Names($first: Int) { items(first: $first) { edges { node { name } } } }"
TWO = "query One { locations { id } } query Other { __typename }"
CREATE = 'mutation { createBatch(input: { itemId: "no such item", quantity: 1 }) { errors { code } } }'
HASH = hashlib.sha256(NAMES.encode()).hexdigest()
DOCUMENTS = {HASH: NAMES, "two": TWO, "create": CREATE, "": "{ __typename }"}
REFUSED = "This service executes known documents only; send the id of one as documentId, or have yours put on the list."
NO_LIST = "a document is asked for by its id, but none has one here (STOCKSHIFT_TRUSTED_DOCUMENTS is not set); "


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    path = tmp_path / "documents.json"
    path.write_text(json.dumps(DOCUMENTS))
    return path


@pytest.fixture
async def web(shop_url: str, documents: Path) -> AsyncIterator[Web]:
    async with psql(shop_url) as connection:
        await insert_item(connection, "bed")
    async with web_on(shop_url, trusted_documents=documents) as web:
        yield web


async def get(web: Web, **parameters: str) -> httpx.Response:
    token = (await web.raw({})).request.headers["authorization"]
    return await web.http.get("/graphql", params=parameters, headers={"Authorization": token, "Accept": "*/*"})


def error_of(response: httpx.Response) -> tuple[int, str, str]:
    body = response.json()
    assert body.keys() == {"errors"}, "nothing was executed"
    (error,) = body["errors"]
    return response.status_code, error["extensions"]["code"], error["message"]


def apollo(id_: Any) -> dict[str, Any]:
    return {"persistedQuery": {"version": 1, "sha256Hash": id_}}


@pytest.mark.parametrize(
    "request_",
    [
        {"documentId": HASH},
        {"extensions": apollo(HASH)},
        {"query": NAMES},
        {"query": NAMES, "extensions": apollo(HASH)},
    ],
    ids=["its id", "Apollo's hash", "its text", "text and hash"],
)
async def test_a_trusted_document_is_executed_by_any_of_its_names_and_then_out_of_the_database(
    web: Web, request_: Mapping[str, Any]
) -> None:
    for path in (None, "plan"):
        response = await web.raw({**request_, "variables": {"first": 1}})
        assert response.json() == {"data": {"items": {"edges": [{"node": {"name": "bed"}}]}}}
        assert response.headers.get("Stockshift-Path") == path


async def test_it_is_executed_by_a_get_as_well(web: Web) -> None:
    for name in ({"documentId": HASH}, {"extensions": json.dumps(apollo(HASH))}, {"query": NAMES}):
        response = await get(web, **name, variables='{"first": 1}')
        assert response.json() == {"data": {"items": {"edges": [{"node": {"name": "bed"}}]}}}
    assert (await get(web, documentId="create")).status_code == 405


async def test_a_mutation_and_one_of_several_operations_are_named_in_the_same_way(web: Web) -> None:
    created = await web.raw({"documentId": "create"})
    assert created.json() == {"data": {"createBatch": {"errors": [{"code": "MIGRATION_NOT_STARTED"}]}}}
    other = await web.raw({"documentId": "two", "operationName": "Other"})
    assert other.json() == {"data": {"__typename": "Query"}}


@pytest.mark.parametrize(
    "query",
    [NAMES + " ", NAMES.replace("name", "id"), "{ __schema { types { name } } }", get_introspection_query(), "{", ""],
    ids=["a space more", "another field", "the schema", "what GraphiQL asks", "no document", "nothing"],
)
async def test_a_text_that_is_not_on_the_list_is_refused_even_when_it_comes_with_an_id(web: Web, query: str) -> None:
    for request in (
        {"query": query},
        {"query": query, "documentId": HASH},
        {"query": query, "extensions": apollo(HASH)},
    ):
        assert error_of(await web.raw(request)) == (400, "UNTRUSTED_DOCUMENT", REFUSED)
    assert error_of(await get(web, query=query)) == (400, "UNTRUSTED_DOCUMENT", REFUSED)


async def test_an_id_that_is_not_on_the_list_is_refused_with_the_id(web: Web) -> None:
    answer = (400, "UNTRUSTED_DOCUMENT", f"no document has id 'nothing' here; {REFUSED}")
    assert error_of(await web.raw({"documentId": "nothing"})) == answer
    assert error_of(await web.raw({"extensions": apollo("nothing")})) == answer
    assert error_of(await get(web, documentId="nothing")) == answer


@pytest.mark.parametrize("id_", [5, [], {}, True])
async def test_what_can_be_no_id_is_said_to_be_none(web: Web, id_: Any) -> None:
    for request in ({"documentId": id_}, {"extensions": apollo(id_)}):
        status, code, message = error_of(await web.raw(request))
        assert (status, code) == (400, "BAD_REQUEST")
        assert message.endswith("a string is expected")


async def test_a_request_without_any_document_is_malformed_as_ever(web: Web) -> None:
    malformed: list[dict[str, Any]] = [{}, {"query": None}, {"query": 5}, {"query": []}, {"extensions": apollo(None)}]
    for request in [*malformed, {"extensions": {"persistedQuery": 5}}]:
        assert error_of(await web.raw(request))[:2] == (400, "BAD_REQUEST")
    assert error_of(await get(web))[:2] == (400, "BAD_REQUEST")


async def test_a_browser_still_gets_its_page_but_not_when_it_names_a_document(web: Web) -> None:
    html = {"Accept": "text/html"}
    assert "text/html" in (await web.http.get("/graphql", headers=html)).headers["content-type"]
    assert (await web.http.get("/graphql", headers=html, params={"documentId": HASH})).status_code == 401


async def test_without_a_list_any_text_is_executed_and_an_id_is_told_that_there_is_none(shop_url: str) -> None:
    async with web_on(shop_url) as web:
        assert (await web.raw({"query": "{ __typename }", "extensions": apollo(HASH)})).json()["data"]
        for request in ({"documentId": HASH}, {"extensions": apollo(HASH)}):
            assert error_of(await web.raw(request)) == (400, "BAD_REQUEST", NO_LIST + "send it as query")
        assert error_of(await get(web, documentId=HASH))[1:] == ("BAD_REQUEST", NO_LIST + "send it as query")


async def test_a_status_that_only_the_database_knows_is_as_good_as_any(shop_url: str, tmp_path: Path) -> None:
    path = tmp_path / "documents.json"
    path.write_text(json.dumps({"lost": "{ items(filter: { statuses: [Lost] }) { totalCount } }"}))
    async with psql(shop_url) as connection:
        await connection.execute("""ALTER TYPE "Status" ADD VALUE 'Lost'""")
    async with web_on(shop_url, trusted_documents=path) as web:
        assert (await web.raw({"documentId": "lost"})).json() == {"data": {"items": {"totalCount": 0}}}


def told(path: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        Endpoint(Settings(trusted_documents=path), TokenVerifier(SharedSecret(SECRET)))
    assert "\n" not in caught.value.message
    assert caught.value.message.startswith(f"STOCKSHIFT_TRUSTED_DOCUMENTS={str(path)!r}")
    return caught.value.message


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert told(tmp_path / "missing.json").endswith(" cannot be read (No such file or directory); name a file that can")
    assert "cannot be read (Is a directory)" in told(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"a": "\\ud800"}', b"[]", b"5", b'{"a": 5}', b'{"a": null}'])
def test_a_file_that_is_no_list_of_documents_is_told_what_one_is_like(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "documents.json"
    path.write_bytes(content)
    assert told(path).endswith('; it should be like {"<id>": "<document>", ...}')


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        ("{", "Syntax Error: Expected Name, found <EOF>."),
        ("", "Syntax Error: Unexpected <EOF>."),
        ("{ nothing }", "Cannot query field 'nothing' on type 'Query'."),
        ("query($a: Int) { __typename }", "Variable '$a' is never used."),
        ("{ items(filter: { statuses: [5] }) { totalCount } }", "Enum 'Status' cannot represent non-enum value: 5."),
        ("{ __typename " + "a " * 2_000 + "}", "Syntax Error: Document contains more than 2000 tokens."),
        ("{" + " ".join(f"a{n}: __typename" for n in range(31)) + "}", "the operation has 31 aliases; at most 30 are"),
        ("{ a" * 5_000, "Syntax Error: Document is nested too deeply."),
    ],
)
def test_a_document_that_could_never_be_executed_is_named_with_what_is_wrong(
    tmp_path: Path, document: str, problem: str
) -> None:
    path = tmp_path / "documents.json"
    path.write_text(json.dumps({"fine": NAMES, "wrong": document}))
    assert f": document 'wrong' cannot be executed: {problem}" in told(path)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_list_that_is_wrong_stops_the_start_with_one_line(shop_url: str, tmp_path: Path, workers: str) -> None:
    path = tmp_path / "documents.json"
    env = {"STOCKSHIFT_TRUSTED_DOCUMENTS": str(path), "STOCKSHIFT_JWT_SECRET": SECRET, "DATABASE_URL": shop_url}
    done = stockshift("serve", "--port", "0", "--workers", workers, env=env)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert f"STOCKSHIFT_TRUSTED_DOCUMENTS={str(path)!r} cannot be read" in done.stderr
