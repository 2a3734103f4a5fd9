"""Asking one server, one request at a time: for places to begin at, and whether all answer the same."""

import math
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from bench.contestants import Contestant
from bench.errors import BenchError
from bench.operations import SAMPLE, Dialect, Operation, Place

CHECKED = 5
PAGE = 1_000
SEED = 20_260_101

PLACES = (
    "query Places($first: Int!, $after: String)"
    " { items(first: $first, after: $after) { edges { cursor node { id name } } } }"
)


@dataclass(frozen=True)
class Client:
    """One server over HTTP. BenchError: it does not answer as it should."""

    http: httpx.Client

    def post(self, path: str, body: bytes) -> bytes:
        response = self.http.post(path, content=body, headers={"Content-Type": "application/json"})
        if response.status_code != httpx.codes.OK:
            raise BenchError(f"{self.http.base_url} answered {response.status_code}: {response.text[:300]}")
        return response.content

    def graphql(self, query: str, **variables: object) -> Any:
        content = orjson.loads(self.post("/graphql", orjson.dumps({"query": query, "variables": variables})))
        if "errors" in content:
            raise BenchError(f"{self.http.base_url} answered: {content['errors'][0]['message']}")
        return content["data"]


def connect(url: str, token: str | None) -> Client:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return Client(httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False))


def places(service: Client) -> list[Place]:
    """A random sample of the rows behind which a whole page follows; from the service, as its cursors are opaque."""
    every: list[Place] = []
    while True:
        after = every[-1].cursor if every else None
        edges = service.graphql(PLACES, first=PAGE, after=after)["items"]["edges"]
        every += [Place(edge["cursor"], edge["node"]["name"], edge["node"]["id"]) for edge in edges]
        if len(edges) < PAGE:
            break
    begins = every[: max(1, len(every) - PAGE)]
    return random.Random(SEED).choices(begins, k=SAMPLE)  # noqa: S311 - a sample, the same in every run


@dataclass(frozen=True)
class Answers:
    """What one answer is: bytes, on average, and seconds when nothing else is asked, at the fastest."""

    bytes: float
    seconds: float


def answer(client: Client, dialect: Dialect, operation: Operation, place: Place) -> tuple[Any, int]:
    """An answer in the shape that all share, and the bytes it came in."""
    request = dialect.request(operation, place)
    body = client.post(request.path, request.body)
    try:
        return dialect.answer(operation, orjson.loads(body)), len(body)
    except (KeyError, TypeError):
        raise BenchError(f"{operation.value}: the answer is {body[:300].decode(errors='replace')}") from None


def check_equal(
    clients: Sequence[tuple[Contestant, Client]], sample: Sequence[Place]
) -> dict[tuple[str, Operation], Answers]:
    """What answers are like, by contestant. BenchError: somebody answers otherwise than the first."""
    answers: dict[tuple[str, Operation], Answers] = {}
    for operation in Operation:
        right: list[Any] = []
        for contestant, client in clients:
            found, seconds = [], math.inf
            for place in sample[:CHECKED]:
                begin = time.monotonic()
                found.append(answer(client, contestant.dialect, operation, place))
                seconds = min(seconds, time.monotonic() - begin)
            answers[contestant.name, operation] = Answers(sum(size for _, size in found) / len(found), seconds)
            right = right or [content for content, _ in found]
            for place, mine, (theirs, _) in zip(sample, right, found, strict=False):
                if mine != theirs:
                    raise BenchError(f"{operation.value} at {place.id}: {contestant.title} answers otherwise")
    return answers
