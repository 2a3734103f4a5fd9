"""What PostgreSQL reads for a page of a shop with 100,000 items: no table whole, nor more to sort than the page."""

from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import orjson
import pytest
from graphql import GraphQLSchema, parse

from db.shape import Shape, load_shape
from resolvers.arrivals import Arrival
from resolvers.operation import Operation
from resolvers.plan import make_plan
from resolvers.reader import COMPANY
from resolvers.scope import Scope
from resolvers.viewer import Role, Viewer
from schema import build_schema
from tests.conftest import MakeTemplate, database_on
from tests.graphql_client import ADMIN, client_of
from tests.migration.support import engine_on
from tests.resolvers.big_shop import CROWD, CROWDED, ITEMS, RARE, fill_big_shop
from tests.resolvers.shop import ids
from tests.support import Connection, psql

FIRST = 50
TABLES = {"items", "stock_batches", "copy_ledger", "movement"}
VIEWERS = {"all companies": ADMIN, "one company": Viewer("a", Role.STAFF, "acme")}


def nodes_of(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes_of(child)


@dataclass(frozen=True)
class Reading:
    """A plan as it ran, of which the scans of items, batches, movements and the copy ledger count."""

    nodes: Sequence[Mapping[str, Any]]

    @property
    def scans(self) -> list[Mapping[str, Any]]:
        return [node for node in self.nodes if node.get("Relation Name") in TABLES]

    @property
    def whole(self) -> list[str]:
        """The tables that are read whole, or would be."""
        return [node["Relation Name"] for node in self.scans if node["Node Type"] == "Seq Scan"]

    @property
    def rows(self) -> float:
        each = [node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in self.scans]
        return float(sum(rows * node["Actual Loops"] for rows, node in zip(each, self.scans, strict=True)))

    @property
    def sorted(self) -> float:
        """The most rows that were sorted."""
        sorts = [node for node in self.nodes if "Sort" in node["Node Type"]]
        return max((child["Actual Rows"] for node in sorts for child in node["Plans"]), default=0)


def literal(value: Any) -> str:
    if isinstance(value, list):
        return f"ARRAY[{', '.join(map(literal, value))}]::text[]"
    return str(value) if isinstance(value, int | float) else "'" + value.replace("'", "''") + "'"


@dataclass(frozen=True)
class Shop:
    """The big shop; plans are made as a server makes them for every argument alike."""

    connection: Connection
    shape: Shape
    schema: GraphQLSchema

    async def read(self, query: str, viewer: Viewer = ADMIN, **variables: Any) -> Reading:
        operation = Operation.of(self.schema, parse(query), None)
        asked = operation and operation.asked(variables)
        assert asked
        scope = Scope(self.shape, Arrival(COMPANY) if viewer.company else None)
        plan = make_plan(scope, viewer, asked.selections())
        arguments = plan.arguments({**asked.variables, COMPANY[0]: {COMPANY[1]: viewer.company}})
        given = f"({', '.join(map(literal, arguments))})" if arguments else ""
        await self.connection.execute(f"PREPARE asked AS {plan.sql}")
        try:
            explained = await self.connection.fetchval(
                f"EXPLAIN (ANALYZE, TIMING OFF, BUFFERS OFF, FORMAT JSON) EXECUTE asked{given}"
            )
        finally:
            await self.connection.execute("DEALLOCATE asked")
        return Reading(list(nodes_of(orjson.loads(explained)[0]["Plan"])))


@pytest.fixture(scope="module")
def big_shop_url(make_template: MakeTemplate, server_url: str) -> str:
    """Tests share it, and only read."""

    async def fill(connection: Connection) -> None:
        name = await connection.fetchval("SELECT current_database()")
        async with engine_on(database_on(server_url, name)) as engine:
            await fill_big_shop(connection, engine)

    return database_on(server_url, make_template(fill))


@pytest.fixture
async def shop(big_shop_url: str) -> AsyncIterator[Shop]:
    async with engine_on(big_shop_url) as engine, engine.connect() as connection:
        shape = await load_shape(connection)
    schema = build_schema(shape.status_labels)._schema  # noqa: SLF001 - graphql-core's own
    async with psql(big_shop_url) as connection:
        await connection.execute("SET plan_cache_mode = force_generic_plan; SET jit = off")
        yield Shop(connection, shape, schema)


PAGE = """
    query($first: Int, $after: String, $filter: ItemFilter, $orderBy: ItemOrder) {
        items(first: $first, after: $after, filter: $filter, orderBy: $orderBy) {
            pageInfo { hasNextPage endCursor }
            edges { cursor node { id name totalQuantity statuses usingBatchSystem locations { name } } }
        }
    }
"""


def cursor(order: str, key: str | int, id_: str | int) -> str:
    return urlsafe_b64encode(orjson.dumps([1, order, key, id_])).decode()


# A place in the middle of each order. Item ids are hashes, and so are anywhere among those of the same key.
MIDDLE = {"NAME": "35000 Thing", "CREATED_AT": "2024-05-01T12:00:00"}
EVERY_PAGE = list(product(["NAME", "CREATED_AT"], ["ASC", "DESC"], ["first", "middle"]))

# What a page reads at most, in rows for each of its own, nodes included.
FILTERS: Mapping[str, tuple[Mapping[str, Any], int]] = {
    "none": ({}, 6),
    "a company": ({"companyId": "acme"}, 6),
    "a small company": ({"companyId": "globex"}, 6),
    "a common status": ({"statuses": ["Ordered", "Sold"]}, 50),
    "a common location": ({"locationIds": ["acme-main", "globex-main"]}, 50),
    "a common status at a common location": ({"statuses": ["Arrived"], "locationIds": ["acme-main"]}, 100),
    "a common status at a rare location": ({"statuses": ["Arrived"], "locationIds": ["acme-harbour"]}, 25),
    "a rare status at a common location": ({"statuses": ["Sold"], "locationIds": ["acme-main"]}, 50),
    "a rare status": ({"statuses": ["Sold"]}, 2),
    "a rare location": ({"locationIds": ["acme-harbour"]}, 2),
    "no status at all": ({"statuses": []}, 0),
    "a location that is none": ({"locationIds": ["nowhere"]}, 0),
    "using batches": ({"usingBatchSystem": True}, 8),
    "a word in one name of seven": ({"search": "display"}, 20),
    "low on stock": ({"lowStock": True}, 50),
    "not low on stock": ({"lowStock": False}, 10),
    "all of that": ({"search": "display", "usingBatchSystem": True, "lowStock": False, "companyId": "acme"}, 40),
}


@pytest.mark.parametrize("viewer", VIEWERS)
@pytest.mark.parametrize("name", FILTERS)
async def test_a_page_is_read_by_index_wherever_it_begins(shop: Shop, name: str, viewer: str) -> None:
    filter_, multiple = FILTERS[name]
    for field, direction, begins in EVERY_PAGE:
        after = cursor(f"{field}_{direction}", MIDDLE[field], "8") if begins == "middle" else None
        order = {"field": field, "direction": direction}
        reading = await shop.read(PAGE, VIEWERS[viewer], filter=filter_, orderBy=order, first=FIRST, after=after)
        page = f"the {begins} page by {field} {direction}"
        assert not reading.whole, page
        assert reading.sorted <= FIRST + 1, page
        assert reading.rows <= multiple * FIRST, page


RARE_FILTERS = [{"statuses": ["Sold"]}, {"locationIds": ["acme-harbour"]}]


@pytest.mark.parametrize("filter_", RARE_FILTERS, ids=["status", "location"])
async def test_rare_items_are_found_on_the_batch_system_and_off_it(big_shop_url: str, filter_: Any) -> None:
    query = "query($filter: ItemFilter) { items(filter: $filter) { totalCount edges { node { id } } } }"
    async with client_of(big_shop_url) as client:
        found = (await client.ask(query, filter=filter_))["items"]
    assert found["totalCount"] == len(ids(found)) == RARE


BATCHES = """
    query($id: ID!, $after: String) { item(id: $id) { batches(first: 50, after: $after%s) {
        pageInfo { hasNextPage } edges { node { id quantity } }
    } } }
"""


@pytest.mark.parametrize("status", ["", "ToOrder"])
async def test_a_page_of_an_items_batches_is_read_by_index_however_many_it_has(shop: Shop, status: str) -> None:
    query = BATCHES % (status and f", status: {status}")
    for after in (None, cursor("OLDEST", "2025-01-03T00:00:00", "8")):
        reading = await shop.read(query, id=CROWDED, after=after)
        assert not reading.whole
        assert reading.sorted <= FIRST + 1
        assert reading.rows <= (2 if status else 1) * FIRST + 10


MOVEMENTS = """
    query($after: String) { item(id: "crowded") { batches(first: 1) { edges { node {
        movements(first: 50, after: $after) { pageInfo { hasNextPage } edges { node { id delta } } }
    } } } } }
"""


@pytest.mark.parametrize("viewer", VIEWERS)
async def test_a_page_of_a_batchs_movements_is_read_by_index_however_many_it_has(shop: Shop, viewer: str) -> None:
    late = await shop.connection.fetchval("SELECT max(id) - $1::int FROM stockshift.movement", CROWD // 2)
    for after in (None, cursor("RECORDED", late, late)):
        reading = await shop.read(MOVEMENTS, VIEWERS[viewer], after=after)
        assert not reading.whole
        assert reading.sorted <= FIRST + 1
        assert FIRST <= reading.rows <= 2 * FIRST + 10


TOTALS = {
    "a page by quantity": """{ items(first: 50, orderBy: { field: TOTAL_QUANTITY, direction: DESC }) {
        pageInfo { endCursor } edges { node { id } } } }""",
    "the summary": "{ stockSummary { items lowStockItems totalQuantity stockValueUSD } }",
    "units by status": "{ stockSummary { quantityByStatus { status quantity } } }",
    "units by location": "{ stockSummary { quantityByLocation { location { id } quantity } } }",
    "the count of a status": "{ items(filter: { statuses: [Ordered] }) { totalCount } }",
    "the count of low stock": "{ items(filter: { lowStock: true }) { totalCount } }",
    "the count of those off the batch system": "{ items(filter: { usingBatchSystem: false }) { totalCount } }",
}


@pytest.mark.parametrize("viewer", VIEWERS)
@pytest.mark.parametrize("name", TOTALS)
async def test_what_concerns_all_items_is_one_pass_and_no_looking_up_of_each(
    shop: Shop, name: str, viewer: str
) -> None:
    """A thousand items have no batch: what is looked up is whether these were copied, for at most three sums."""
    reading = await shop.read(TOTALS[name], VIEWERS[viewer])
    assert sum(scan["Actual Loops"] for scan in reading.scans) < 4 * ITEMS / 100
    assert reading.rows < 5 * ITEMS
