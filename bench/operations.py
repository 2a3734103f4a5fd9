"""The three operations, and how each kind of server is asked for them and answers.

Servers differ in names and in wrapping, never in what is answered: an answer is brought to one shape and compared.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import orjson

SAMPLE = 2_000  # the places that requests are drawn from


class Operation(Enum):
    """What is asked for; the value is its name in reports."""

    PAGE_50 = "page of 50"
    ITEM = "one item + batches"
    PAGE_1000 = "page of 1000"

    @property
    def rows(self) -> int:
        return {Operation.PAGE_50: 50, Operation.ITEM: 1, Operation.PAGE_1000: 1000}[self]


@dataclass(frozen=True)
class Place:
    """A row in the order of names: a page begins behind it, or it is the one item. `cursor` is the service's."""

    cursor: str
    name: str
    id: str


@dataclass(frozen=True)
class Request:
    path: str
    body: bytes


@dataclass(frozen=True)
class Dialect:
    """How one kind of server is asked. `ask` makes a body's content, `nodes` finds the rows of a page or of an item."""

    path: str
    ask: Callable[[Operation, Place], Mapping[str, object]]
    page: Callable[[Any], list[Any]]
    item: Callable[[Any], Any]
    batches: Callable[[Any], list[Any]]

    def request(self, operation: Operation, place: Place) -> Request:
        path = self.path or ("/item" if operation is Operation.ITEM else "/items")
        return Request(path, orjson.dumps(self.ask(operation, place)))

    def answer(self, operation: Operation, content: Any) -> Any:
        """An answer in the one shape. KeyError or TypeError when it is none, such as a list of errors."""
        if operation is Operation.ITEM:
            item = self.item(content["data"])
            return {"id": item["id"], "name": item["name"], "batches": [_batch(row) for row in self.batches(item)]}
        return [_item(row) for row in self.page(content["data"])]


def _item(row: Any) -> dict[str, Any]:
    return {
        "id": row["id"],
        "name": row["name"],
        "totalQuantity": int(row["totalQuantity"]),  # PostGraphile answers big numbers as text
        "statuses": row["statuses"],
        "locations": [{"id": location["id"], "name": location["name"]} for location in row["locations"]],
    }


def _batch(row: Any) -> dict[str, Any]:
    location = row["location"] and {"name": row["location"]["name"]}
    return {"id": row["id"], "quantity": row["quantity"], "status": row["status"], "location": location}


def _nodes(connection: Any) -> list[Any]:
    return [edge["node"] for edge in connection["edges"]]


def _by_cursor(operation: Operation, place: Place) -> dict[str, object]:
    return {"id": place.id} if operation is Operation.ITEM else {"first": operation.rows, "after": place.cursor}


def _by_key(operation: Operation, place: Place) -> dict[str, object]:
    if operation is Operation.ITEM:
        return {"id": place.id}
    return {"first": operation.rows, "afterName": place.name, "afterId": place.id}


def _documents(
    page: str, item: str, variables: Callable[[Operation, Place], dict[str, object]]
) -> Callable[[Operation, Place], Mapping[str, object]]:
    return lambda operation, place: {
        "query": item if operation is Operation.ITEM else page,
        "variables": variables(operation, place),
    }


ITEM = (
    "query Item($id: ID!) { item(id: $id) { id name"
    " batches { edges { node { id quantity status location { name } } } } } }"
)
FIELDS = "{ id name totalQuantity statuses locations { id name } }"

SERVICE = Dialect(
    "/graphql",
    _documents(
        "query Page($first: Int!, $after: String)"
        f" {{ items(first: $first, after: $after) {{ edges {{ node {FIELDS} }} }} }}",
        ITEM,
        _by_cursor,
    ),
    lambda data: _nodes(data["items"]),
    lambda data: data["item"],
    lambda item: _nodes(item["batches"]),
)

BY_KEY = "first: $first, afterName: $afterName, afterId: $afterId"

PLAIN = Dialect(
    "/graphql",
    _documents(
        "query Page($first: Int!, $afterName: String!, $afterId: ID!)"
        f" {{ items({BY_KEY}) {{ edges {{ node {FIELDS} }} }} }}",
        ITEM,
        _by_key,
    ),
    SERVICE.page,
    SERVICE.item,
    SERVICE.batches,
)
"""A GraphQL server of our own making: the contract's shape, but a page begins behind a name and an id."""

FLOOR = Dialect("", _by_key, SERVICE.page, SERVICE.item, SERVICE.batches)

POSTGRAPHILE = Dialect(
    "/graphql",
    _documents(
        "query Page($first: Int!, $afterName: String!, $afterId: String!)"
        f" {{ itemsBehind({BY_KEY}) {{ edges {{ node {{ id: rowId name totalQuantity statuses"
        " locations: locationsList { id: rowId name } } } } }",
        "query Item($id: String!) { itemByRowId(rowId: $id) { id: rowId name batches(first: 50) { edges { node {"
        " id: rowId quantity status location: locationByLocationId { name } } } } } }",
        _by_key,
    ),
    lambda data: _nodes(data["itemsBehind"]),
    lambda data: data["itemByRowId"],
    SERVICE.batches,
)

POSTGRAPHILE_TUNED = Dialect(
    "/graphql",
    _documents(
        "query Page($first: Int!, $afterName: String!, $afterId: String!)"
        " { tunedItemsBehindList(size: $first, afterName: $afterName, afterId: $afterId)"
        " { id: rowId name totalQuantity statuses locations { id: rowId name } } }",
        "query Item($id: String!) { tunedItemWithBatches(itemId: $id) { id: rowId name"
        " batches { id: rowId quantity status location { name } } } }",
        _by_key,
    ),
    lambda data: data["tunedItemsBehindList"],
    lambda data: data["tunedItemWithBatches"],
    lambda item: item["batches"],
)
