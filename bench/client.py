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

LISTING = (
    "query Listing($first: Int!, $after: String, $orderBy: ItemOrder)"
    " { items(first: $first, after: $after, orderBy: $orderBy) { edges { cursor node { id name } } } }"
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


def listing(service: Client, order: str = "NAME") -> list[Place]:
    """Every item in an order; from the service, as its cursors are opaque."""
    every: list[Place] = []
    while True:
        after = every[-1].cursor if every else None
        order_by = {"field": order, "direction": "ASC"}
        edges = service.graphql(LISTING, first=PAGE, after=after, orderBy=order_by)["items"]["edges"]
        every += [Place(edge["cursor"], edge["node"]["name"], edge["node"]["id"]) for edge in edges]
        if len(edges) < PAGE:
            return every


def drawn(every: Sequence[Place], page: int = PAGE) -> list[Place]:
    """A random sample of places behind which there is a whole page of that size. BenchError: there is none."""
    if len(every) <= page:
        raise BenchError(
            f"there are {len(every):,} items, and none has a page of {page:,} behind it; give more --items"
        )
    return random.Random(SEED).choices(every[:-page], k=SAMPLE)  # noqa: S311 - a sample, the same in every run


def around(every: Sequence[Place], ids: Sequence[str], page: int = PAGE) -> list[Place]:
    """The items with these ids, and the places right before them; those that have a whole page behind them."""
    wanted = set(ids)
    found = [number for number, place in enumerate(every[:-page]) if place.id in wanted]
    return [every[near] for number in found for near in (max(0, number - 1), number)]


@dataclass(frozen=True)
class Answers:
    """What one answer is like: bytes, on average, and seconds when nothing else is asked, at the fastest."""

    bytes: float
    seconds: float


def answer(client: Client, dialect: Dialect, operation: Operation, place: Place) -> tuple[Any, int]:
    """An answer in the shape that all share, and the bytes it came in. BenchError: it is none."""
    request = dialect.request(operation, place)
    body = client.post(request.path, request.body)
    try:
        content = dialect.answer(operation, orjson.loads(body))
    except (KeyError, TypeError):
        raise BenchError(f"{operation.value}: the answer is {body[:300].decode(errors='replace')}") from None
    return content, len(body)


def check_equal(
    clients: Sequence[tuple[Contestant, Client]], sample: Sequence[Place], odd: Sequence[Place] = ()
) -> dict[tuple[str, Operation], Answers]:
    """What answers are like, by contestant, at some places of a sample and at all the odd ones.

    BenchError: a page is short, or somebody answers otherwise than the first.
    """
    checked = [*sample[:CHECKED], *odd]
    answers: dict[tuple[str, Operation], Answers] = {}
    for operation in Operation:
        right: list[Any] = []
        for contestant, client in clients:
            found, seconds = [], math.inf
            for place in checked:
                begin = time.monotonic()
                found.append(answer(client, contestant.dialect, operation, place))
                seconds = min(seconds, time.monotonic() - begin)
            answers[contestant.name, operation] = Answers(sum(size for _, size in found) / len(found), seconds)
            right = right or [content for content, _ in found]
            for place, mine, (theirs, _) in zip(checked, right, found, strict=True):
                if operation is not Operation.ITEM and len(theirs) != operation.rows:
                    raise BenchError(f"{operation.value} at {place.id}: {contestant.title} answers {len(theirs)} rows")
                if mine != theirs:
                    raise BenchError(f"{operation.value} at {place.id}: {contestant.title} answers otherwise")
    return answers
