"""Everything that can happen to a shop on its way to batches, in any order, each step checked against the model."""

import asyncio
import re
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import create_engine
from db.url import DatabaseUrl
from migration.atomic import migrate_atomic
from tests.conftest import LEGACY
from tests.mutations.support import Client, serving
from tests.stateful.model import LOCATIONS, OPENING, QUESTION, SHORT_QUESTION, STATUSES, Line, Shop, comparable
from tests.support import Connection, insert_item, psql

Answer = TypeVar("Answer")

CREATE = """
mutation ($input: CreateBatchInput!) {
  createBatch(input: $input) {
    batch { id quantity openingBatch } item { totalQuantity usingBatchSystem } errors { code }
  }
}
"""
VERIFY = """
mutation {
  runVerification {
    verification {
      state itemsChecked itemsMatched itemsMismatched legacyQuantity batchQuantity explainedDifference
      checks { name passed }
      mismatches { edges { node { itemId } } }
    }
    errors { code }
  }
}
"""
SWITCH = "mutation ($to: ReadSource!) { setReadSource(source: $to) { migration { readSource } errors { code } } }"

ITEMS_TABLE = re.search(r'^CREATE TABLE "items" \(.*?^\);', LEGACY, re.DOTALL | re.MULTILINE)
RESET = f"""
DROP SCHEMA IF EXISTS stockshift CASCADE;
DROP TABLE IF EXISTS stock_batches;
DROP TABLE items;
{ITEMS_TABLE and ITEMS_TABLE[0]}
ALTER TABLE items ALTER "quantityInStock" DROP NOT NULL, ALTER status DROP NOT NULL,
    ALTER "costPerUnitUSD" DROP NOT NULL, ALTER "freightCostUSD" DROP NOT NULL;
"""


class World:
    """The service in front of one database, and an event loop: made once, used by every example."""

    def __init__(self, runner: asyncio.Runner, client: Client, legacy: Connection, url: str) -> None:
        self.runner = runner
        self.client = client
        self.legacy = legacy
        self.url = url
        self.engine = create_engine(DatabaseUrl.parse(url), application_name="stockshift test")

    def run(self, work: Coroutine[Any, Any, Answer]) -> Answer:
        return self.runner.run(work)

    @asynccontextmanager
    async def acting(self) -> AsyncIterator[AsyncEngine]:
        """An engine that remembers the statements it compiled, and has no connection yet."""
        try:
            yield self.engine
        finally:
            await self.engine.dispose()


@contextmanager
def world_of(url: str) -> Iterator[World]:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            client = runner.run(stack.enter_async_context(serving(url)))
            legacy = runner.run(stack.enter_async_context(psql(url)))
            yield World(runner, client, legacy, url)
        finally:
            runner.run(stack.aclose())


item_ids = st.sampled_from(["item-1", "item-2", "item-3", "item-4"])
quantities = st.integers(0, 20)
# Sums of quarters are exact in any order.
amounts = st.integers(0, 40).map(lambda quarters: quarters / 4)
statuses = st.sampled_from(STATUSES)
order_numbers = st.sampled_from([None, "PO-1", "PO-2"])
places = st.sampled_from([None, "harbour", "main"])


def mostly(strategy: st.SearchStrategy[Answer]) -> st.SearchStrategy[Answer | None]:
    """Or, once in a while, NULL."""
    return st.integers(0, 7).flatmap(lambda number: strategy if number else st.none())


class Migrating(RuleBasedStateMachine):
    """A subclass says in which `world`."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.shop = Shop()
        self.world.run(self.world.legacy.execute(RESET))
        # One reader lives through the whole example; before the first step it has seen the shop as it was.
        self.living = self.world.client.afresh()

    def execute(self, statement: str, *values: object) -> None:
        self.world.run(self.world.legacy.execute(statement, *values))

    def data(self, query: str, **variables: Any) -> dict[str, Any]:
        return self.world.run(self.living.data(query, **variables))

    @initialize(quantities=st.tuples(quantities, quantities), status=statuses)
    def there_are_two_items(self, quantities: tuple[int, int], status: str) -> None:
        for number, quantity in enumerate(quantities, 1):
            self.legacy_item_is_saved(f"item-{number}", "acme", quantity, status, 2.5, 4.0, "main", None)

    # The legacy application.

    @rule(
        item_id=item_ids,
        company=st.sampled_from(["acme", "acme", "globex"]),
        quantity=mostly(st.integers(-3, 20)),
        status=mostly(statuses),
        cost=mostly(amounts),
        freight=mostly(amounts),
        place=places,
        order_number=order_numbers,
    )
    def legacy_item_is_written(self, **values: Any) -> None:
        self.legacy_item_is_saved(**values)

    def legacy_item_is_saved(
        self,
        item_id: str,
        company: str,
        quantity: int | None,
        status: str | None,
        cost: float | None,
        freight: float | None,
        place: str | None,
        order_number: str | None,
    ) -> None:
        """Made, or all its legacy columns written."""
        known = self.shop.items.get(item_id)
        company = known.company if known else company
        legacy = Line(quantity, status, cost, freight, place and f"{company}-{place}", order_number)
        columns = {
            "quantityInStock": quantity,
            "status": status,
            "costPerUnitUSD": cost,
            "freightCostUSD": freight,
            "locationId": legacy.location,
            "orderNumber": order_number,
        }
        self.shop.write(item_id, company, legacy)
        if known is None:
            self.world.run(insert_item(self.world.legacy, item_id, companyId=company, **columns))
        else:
            marks = ", ".join(f'"{name}" = ${number}' for number, name in enumerate(columns, 2))
            self.execute(f"UPDATE items SET {marks} WHERE id = $1", item_id, *columns.values())

    @rule(item_id=item_ids, sold=st.integers(1, 5))
    def legacy_units_are_sold(self, item_id: str, sold: int) -> None:
        item = self.shop.items.get(item_id)
        if item is not None and item.legacy.quantity is not None:
            self.shop.write(item_id, item.company, replace(item.legacy, quantity=item.legacy.quantity - sold))
            statement = 'UPDATE items SET "quantityInStock" = "quantityInStock" - $2 WHERE id = $1'
            self.execute(statement, item_id, sold)

    @rule(item_id=item_ids)
    def legacy_item_is_deleted(self, item_id: str) -> None:
        self.shop.items.pop(item_id, None)
        self.execute("DELETE FROM items WHERE id = $1", item_id)

    # Somebody with psql.

    @rule(item_id=item_ids, number=st.integers(0, 3), all_of_them=st.booleans())
    def batches_are_deleted(self, item_id: str, number: int, all_of_them: bool) -> None:
        item = self.shop.items.get(item_id)
        if item is None or not item.batches:
            return
        ids = list(item.batches) if all_of_them else [list(item.batches)[number % len(item.batches)]]
        for batch_id in ids:
            del item.batches[batch_id]
            if batch_id == OPENING:
                which = "id = (SELECT batch_id FROM stockshift.copy_ledger WHERE item_id = $1)"
                self.execute(f"DELETE FROM stock_batches WHERE {which}", item_id)
            else:
                self.execute("DELETE FROM stock_batches WHERE id = $1", batch_id)

    @rule(item_id=item_ids, quantity=quantities)
    def batch_is_made_by_hand(self, item_id: str, quantity: int) -> None:
        """At a cost that no item has, so it is nobody's opening batch."""
        item = self.shop.items.get(item_id)
        if item is None or not self.shop.expanded:
            return
        batch_id = self.world.run(
            self.world.legacy.fetchval(
                """
                INSERT INTO stock_batches (id, quantity, status, "costPerUnitUSD", "updatedAt", "itemId")
                VALUES (gen_random_uuid()::text, $2, 'Sold', 99.5, '2026-01-01', $1) RETURNING id
                """,
                item_id,
                quantity,
            )
        )
        item.batches[batch_id] = Line(quantity, "Sold", 99.5, 0.0, None, None)

    # Stockshift.

    @rule()
    def migrated(self) -> None:
        async def migrate() -> tuple[int, int]:
            async with self.world.acting() as engine:
                outcome = await migrate_atomic(engine, driver="machine")
                return outcome.copied, outcome.held_back

        assert self.world.run(migrate()) == self.shop.migrate()

    @rule(
        item_id=item_ids,
        quantity=quantities,
        status=statuses,
        cost=st.none() | amounts,
        freight=amounts,
        place=places,
        order_number=order_numbers,
        key=st.sampled_from([None, None, "key-1", "key-2"]),
    )
    def batch_is_created(
        self,
        item_id: str,
        quantity: int,
        status: str,
        cost: float | None,
        freight: float,
        place: str | None,
        order_number: str | None,
        key: str | None,
    ) -> None:
        item = self.shop.items.get(item_id)
        location = place and f"{item.company if item else 'acme'}-{place}"
        request = {
            "itemId": item_id,
            "quantity": quantity,
            "status": status,
            "costPerUnitUSD": cost,
            "freightCostUSD": freight,
            "locationId": location,
            "orderNumber": order_number,
        }
        payload = self.data(CREATE, input={**request, "idempotencyKey": key})["createBatch"]
        expected = self._outcome(item_id, request, key)
        if expected is not None:
            assert payload == {"batch": None, "item": None, "errors": [{"code": expected}]}
            return
        assert item is not None
        assert payload["errors"] == []
        batch_id = payload["batch"]["id"]
        made_before = self.shop.keys.get((item.company, key)) if key else None
        if made_before:
            assert batch_id == made_before[1]
        else:
            own = item.legacy.cost if cost is None else cost
            if not item.batches:
                self.shop.copy(item_id)
            item.batches[batch_id] = Line(quantity, status, own, freight, location, order_number)
            if key:
                self.shop.keys[item.company, key] = (request, batch_id)
        answer = self.shop.item(item_id)
        assert payload["item"] == {name: answer[name] for name in ("totalQuantity", "usingBatchSystem")}

    def _outcome(self, item_id: str, request: dict[str, Any], key: str | None) -> str | None:
        """The error that a batch must be refused with."""
        item = self.shop.items.get(item_id)
        if not self.shop.expanded:
            return "MIGRATION_NOT_STARTED"
        if item is None:
            return "NOT_FOUND"
        if key and (item.company, key) in self.shop.keys:
            first, batch_id = self.shop.keys[item.company, key]
            return None if first == request and batch_id in item.batches else "CONFLICT"
        if not (item_id in self.shop.ledger or item.batches or item.copyable):
            return "CONFLICT"
        return "INVALID" if request["costPerUnitUSD"] is None and item.legacy.cost is None else None

    @rule(to=st.sampled_from(["AUTO", "LEGACY"]))
    def read_source_is_switched(self, to: str) -> None:
        payload = self.data(SWITCH, to=to)["setReadSource"]
        if self.shop.expanded:
            self.shop.source = to
            assert payload == {"migration": {"readSource": to}, "errors": []}
        else:
            assert payload == {"migration": None, "errors": [{"code": "MIGRATION_NOT_STARTED"}]}

    @rule()
    def verified(self) -> None:
        payload = self.data(VERIFY)["runVerification"]
        if not self.shop.expanded:
            assert payload == {"verification": None, "errors": [{"code": "MIGRATION_NOT_STARTED"}]}
            return
        report = payload["verification"]
        found = {edge["node"]["itemId"] for edge in report.pop("mismatches")["edges"]}
        checks = {check["name"]: check["passed"] for check in report.pop("checks")}
        wrong, apart = self.shop.mismatches(), self.shop.apart()
        assert found == wrong
        assert checks["baseline plus movements"], "every change of a batch left its movement"
        legacy = sum(item.legacy.quantity or 0 for item in self.shop.items.values())
        batches = sum(line.quantity or 0 for item in self.shop.items.values() for line in item.batches.values())
        assert {name: report[name] for name in ("state", "legacyQuantity", "batchQuantity")} == {
            "state": "FAILED" if wrong else "PASSED",
            "legacyQuantity": legacy,
            "batchQuantity": batches,
        }
        assert report["itemsChecked"] == len(self.shop.items)
        assert report["itemsMismatched"] == len(wrong)
        assert report["itemsMatched"] == len(self.shop.items) - len(wrong) - len(apart)
        if not wrong:
            assert report["explainedDifference"] == batches - legacy

    @invariant()
    def everybody_answers_as_the_model(self) -> None:
        assert comparable(self.data(QUESTION)) == self.shop.answer()
        assert self.world.run(self.world.client.afresh().data(SHORT_QUESTION)) == self.shop.short_answer()


assert set(LOCATIONS) == {f"{company}-{place}" for company in ("acme", "globex") for place in ("harbour", "main")}
