"""What only the service is asked, beside the operations: both ends of the list, a filter, one company's rights."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import orjson

from bench.client import CHECKED, Client, drawn, listing
from bench.errors import BenchError
from bench.operations import FIELDS, SERVICE, Operation, Place, Request

ORDERS = ("NAME", "CREATED_AT")
COMPANY = "demo-company-2"  # a small one: 1 item in 8 or so
ROWS = Operation.PAGE_50.rows

DOCUMENT = (
    "query Page($first: Int!, $after: String, $orderBy: ItemOrder, $filter: ItemFilter)"
    f" {{ items(first: $first, after: $after, orderBy: $orderBy, filter: $filter) {{ edges {{ node {FIELDS} }} }} }}"
)


def first_page(order: str) -> str:
    return f"first page by {order}"


def last_page(order: str) -> str:
    return f"last page by {order}"


@dataclass(frozen=True)
class Variation:
    """Asked instead of an operation, for the same number of rows. `of_company`: with the token of one company."""

    title: str
    operation: Operation
    requests: Sequence[Request]
    of_company: bool = False


def variations(everything: Client, company: Client, sample: Sequence[Place]) -> Iterator[Variation]:
    """With clients of all companies and of one. BenchError: an answer has fewer rows than it should."""
    for order in ORDERS:
        last = listing(everything, order)[-ROWS - 1]
        yield _checked(everything, Variation(first_page(order), Operation.PAGE_50, [_page(None, order)]))
        yield _checked(everything, Variation(last_page(order), Operation.PAGE_50, [_page(last, order)]))
    arrived = [_page(place, "NAME", {"statuses": ["Arrived"]}) for place in sample]
    yield _checked(everything, Variation("page of 50, statuses: [Arrived]", Operation.PAGE_50, arrived))
    own = drawn(listing(company), ROWS)
    for operation in (Operation.PAGE_50, Operation.ITEM):
        requests = [SERVICE.request(operation, place) for place in own]
        yield _checked(company, Variation(f"{operation.value}, one company's", operation, requests, of_company=True))


def _page(behind: Place | None, order: str, chosen: Mapping[str, object] | None = None) -> Request:
    variables = {
        "first": ROWS,
        "after": behind and behind.cursor,
        "orderBy": {"field": order, "direction": "ASC"},
        "filter": chosen,
    }
    return Request(SERVICE.path, orjson.dumps({"query": DOCUMENT, "variables": variables}))


def _checked(client: Client, variation: Variation) -> Variation:
    for request in variation.requests[:CHECKED]:
        content = orjson.loads(client.post(request.path, request.body))
        try:
            answer = SERVICE.answer(variation.operation, content)
        except (KeyError, TypeError):
            raise BenchError(f"{variation.title}: the answer is {str(content)[:300]}") from None
        if variation.operation is not Operation.ITEM and len(answer) != variation.operation.rows:
            raise BenchError(f"{variation.title}: an answer has {len(answer)} rows")
    return variation
