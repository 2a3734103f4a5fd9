"""The whole way, there and back, in any order and with crashes: what must hold after every step, whatever came before.

Smaller items than machine.py's, and more that happens to them. What must hold: every answer is the model's; what was
copied and what moved since are what is in the batches, one by one; every column that the shop made is as the shop's
application left it, or as write-back, take-back or a fold made it; and a verification finds nothing but drift.
"""

import asyncio
import copy
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy.ext.asyncio import AsyncEngine

from db import tables
from migration.archive import NotArchived
from migration.atomic import migrate_atomic
from migration.contract import contract
from migration.cut_over import cut_over
from migration.exclusively import Actor
from migration.failures import ConnectionLost
from migration.gates import GateClosed
from migration.in_chunks import Outcome, Selection, all_items
from migration.rollback import AlreadyRolledBack, roll_back
from migration.take_back import take_back
from migration.undo_contract import undo_contract
from migration.undo_rollback import undo_rollback
from migration.verify import verify
from migration.write_back import set_write_back
from tests.migration.support import at_statements
from tests.stateful.machine import RESET, World
from tests.support import insert_item

ITEMS = ["item-1", "item-2", "item-3"]
STATUSES = ["ToOrder", "Ordered", "Arrived", "Sold"]
PLACES = [None, "acme-harbour", "acme-main"]
OPENING = "opening"
ACTOR = "journey"
MOST_STATEMENTS = 40
"""A crash comes at one of so many statements; an act that needs fewer is not hurt."""

CREATE = """
mutation ($input: CreateBatchInput!) { createBatch(input: $input) { batch { id } errors { code message } } }
"""
SWITCH = "mutation ($to: ReadSource!) { setReadSource(source: $to) { migration { readSource } errors { code } } }"
QUESTION = """
{
  items { edges { node { id totalQuantity usingBatchSystem statuses locations { id } } } }
  migration { phase readSource writeBack cutOver }
}
"""
BALANCE = """
SELECT COALESCE(b.id, l.batch_id, m.batch_id) AS batch, COALESCE(b.quantity, 0) AS there,
       COALESCE((l.original ->> 'quantityInStock')::bigint, 0) + COALESCE(m.moved, 0) AS told
FROM stock_batches b
FULL JOIN (SELECT * FROM stockshift.copy_ledger WHERE NOT adopted) AS l ON l.batch_id = b.id
FULL JOIN (SELECT batch_id, sum(delta) AS moved FROM stockshift.movement GROUP BY 1) AS m
    ON m.batch_id = COALESCE(b.id, l.batch_id)
WHERE COALESCE(b.quantity, 0)
    <> COALESCE((l.original ->> 'quantityInStock')::bigint, 0) + COALESCE(m.moved, 0)
"""
KEPT = "SELECT md5((to_jsonb(i) - $1::text[])::text) FROM items i WHERE id = $2"
MODELLED = ["quantityInStock", "status", "locationId", "updatedAt", "useBatchSystem"]
DROPPED = [*MODELLED, *tables.COMPARED_COLUMNS.values()]
A_WEEK_PASSES = """
UPDATE stockshift.verification SET started_at = started_at - interval '8 days', finished_at = now() - interval '8 days';
UPDATE stockshift.legacy_write SET at = at - interval '8 days';
UPDATE stockshift.copy_ledger
SET copied_at = copied_at - interval '8 days', cut_over_at = cut_over_at - interval '8 days';
UPDATE stockshift.movement SET at = at - interval '8 days';
UPDATE stockshift.migration_run
SET started_at = started_at - interval '8 days', finished_at = finished_at - interval '8 days';
INSERT INTO stockshift.audit (action, actor, details) VALUES ('REHEARSED', 'journey', '{"matched": true}');
"""


@dataclass(frozen=True)
class Line:
    quantity: int
    status: str
    location: str | None


@dataclass
class Item:
    """`drift` are the legacy columns that were written last by the shop, past the batches; `drifted`: some was."""

    legacy: Line
    batches: dict[str, Line] = field(default_factory=dict)
    cut_over: bool = False
    drift: set[str] = field(default_factory=set)
    drifted: bool = False


@dataclass
class Shop:
    """`ledger` has the ids that were ever copied. `archived` is the shop as it was rolled back, `dropped` the legacy
    columns as they were when they were dropped."""

    items: dict[str, Item] = field(default_factory=dict)
    ledger: set[str] = field(default_factory=set)
    migrated: bool = False
    ever_migrated: bool = False
    write_back: bool = False
    source: str = "AUTO"
    archived: "Shop | None" = None
    contracted: bool = False
    dropped: dict[str, Line] = field(default_factory=dict)
    folds: dict[str, tuple[int, int]] = field(default_factory=dict)

    def write(self, item_id: str, legacy: Line) -> None:
        """The shop's application writes an item that there is."""
        item = self.items[item_id]
        before, item.legacy = item.legacy, legacy
        if before == legacy or not self.migrated or item_id not in self.ledger:
            return
        if item.cut_over:
            item.drifted = True
            item.drift |= {name for name in vars(legacy) if getattr(before, name) != getattr(legacy, name)}
        elif OPENING in item.batches:
            item.batches[OPENING] = legacy

    def copy(self, item_id: str) -> bool:
        if item_id in self.ledger:
            return False
        self.ledger.add(item_id)
        self.items[item_id].batches[OPENING] = self.items[item_id].legacy
        return True

    def uses_batches(self, item_id: str) -> bool:
        has_batches = item_id in self.ledger or bool(self.items[item_id].batches)
        return self.migrated and self.source == "AUTO" and has_batches

    def lines(self, item_id: str) -> list[Line]:
        item = self.items[item_id]
        if self.uses_batches(item_id):
            return list(item.batches.values())
        return [] if self.contracted else [item.legacy]

    def phase(self) -> str:
        if not self.migrated:
            return "ROLLED_BACK" if self.ever_migrated else "NOT_STARTED"
        if self.contracted:
            return "CONTRACTED"
        mine = [item for item_id, item in self.items.items() if item_id in self.ledger]
        if not self.ledger:
            return "EXPANDED"
        return "CUT_OVER" if mine and all(item.cut_over for item in mine) else "DUAL_RUN"

    def answer(self) -> dict[str, Any]:
        return {
            "items": {"edges": [{"node": self.item(item_id)} for item_id in sorted(self.items)]},
            "migration": {
                "phase": self.phase(),
                "readSource": self.source,
                "writeBack": self.write_back,
                "cutOver": sum(item.cut_over for item in self.items.values()) if self.migrated else 0,
            },
        }

    def item(self, item_id: str) -> dict[str, Any]:
        lines = self.lines(item_id)
        return {
            "id": item_id,
            "totalQuantity": sum(line.quantity for line in lines),
            "usingBatchSystem": self.uses_batches(item_id),
            "statuses": [status for status in STATUSES if any(line.status == status for line in lines)],
            "locations": [{"id": place} for place in PLACES if place and any(line.location == place for line in lines)],
        }


item_ids = st.sampled_from(ITEMS)
some_items = st.none() | st.lists(item_ids, min_size=1, max_size=2, unique=True)
quantities = st.integers(0, 20)
lines = st.builds(Line, quantities, st.sampled_from(STATUSES), st.sampled_from(PLACES))
crashes = st.none() | st.none() | st.integers(1, MOST_STATEMENTS)


class Journey(RuleBasedStateMachine):
    """A subclass says in which `world`."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.shop = Shop()
        self.told: dict[str, list[str]] = {}
        self.world.run(self.world.legacy.execute(RESET_ARCHIVES + RESET))
        self.living = self.world.client.afresh()
        self.database: str = self.fetchval("SELECT current_database()")

    def execute(self, statement: str, *values: object) -> None:
        self.world.run(self.world.legacy.execute(statement, *values))

    def fetchval(self, statement: str, *values: object) -> Any:
        return self.world.run(self.world.legacy.fetchval(statement, *values))

    def data(self, query: str, **variables: Any) -> dict[str, Any]:
        return self.world.run(self.living.data(query, **variables))

    def carried_out(
        self,
        act: Callable[[AsyncEngine], Awaitable[Any]],
        crash: int | None,
        done_before: tuple[type[Exception], ...] = (),
    ) -> Any:
        """What an act of ours answers. After a crash, at the statement of that number, it is asked for once more:
        `done_before` is what says then that it was done."""
        return self.world.run(carried_out(self.world, act, crash, done_before))

    @initialize(first=lines, second=lines, begun=st.sampled_from([True, True, True, False]))
    def there_are_two_items(self, first: Line, second: Line, begun: bool) -> None:
        self.legacy_item_is_written("item-1", first)
        self.legacy_item_is_written("item-2", second)
        if begun:
            self.migrated(crash=None)

    # The shop's application.

    @rule(item_id=item_ids, line=lines)
    def legacy_item_is_written(self, item_id: str, line: Line) -> None:
        columns = {"quantityInStock": line.quantity, "status": line.status, "locationId": line.location}
        if self.shop.contracted:
            self.item_is_made_without_stock(item_id)
            return
        if item_id in self.shop.items:
            self.shop.write(item_id, line)
            marks = ", ".join(f'"{name}" = ${number}' for number, name in enumerate(columns, 2))
            self.execute(f"UPDATE items SET {marks} WHERE id = $1", item_id, *columns.values())
            return
        item = self.shop.items[item_id] = Item(line)
        if self.shop.migrated and item_id in self.shop.ledger:
            item.batches[OPENING] = line
        self.world.run(insert_item(self.world.legacy, item_id, **columns))
        self.tell(item_id)

    def item_is_made_without_stock(self, item_id: str) -> None:
        """By the shop's application that knows no legacy columns any more. Ids are not used twice."""
        if item_id in self.shop.items or item_id in self.shop.ledger:
            return
        self.shop.items[item_id] = Item(Line(0, "ToOrder", None))
        made = 'INSERT INTO items (id, name, "sellingPriceSRD", "updatedAt", "companyId") VALUES ($1, $1, 1, now(), $2)'
        self.execute(made, item_id, "acme")
        self.tell(item_id)

    def tell(self, item_id: str) -> None:
        """Keeps what no act of ours may change."""
        self.told[item_id] = [self.fetchval(KEPT, names, item_id) for names in (MODELLED, DROPPED)]

    @rule(item_id=item_ids, sold=st.integers(1, 5))
    def legacy_units_are_sold(self, item_id: str, sold: int) -> None:
        if (item := self.shop.items.get(item_id)) and not self.shop.contracted:
            self.shop.write(item_id, replace(item.legacy, quantity=item.legacy.quantity - sold))
            self.execute('UPDATE items SET "quantityInStock" = "quantityInStock" - $2 WHERE id = $1', item_id, sold)

    @rule(item_id=item_ids)
    def legacy_item_is_deleted(self, item_id: str) -> None:
        self.shop.items.pop(item_id, None)
        self.execute("DELETE FROM items WHERE id = $1", item_id)

    # Batches: through the service, and by somebody with psql.

    @rule(item_id=item_ids, line=lines)
    def batch_is_created(self, item_id: str, line: Line) -> None:
        asked = {"itemId": item_id, "quantity": line.quantity, "status": line.status, "locationId": line.location}
        if self.shop.contracted:
            asked["costPerUnitUSD"] = 1.5
        payload = self.data(CREATE, input=asked)["createBatch"]
        if not self.shop.migrated or item_id not in self.shop.items:
            code = "NOT_FOUND" if self.shop.migrated else "MIGRATION_NOT_STARTED"
            assert (payload["batch"], [error["code"] for error in payload["errors"]]) == (None, [code])
            return
        assert payload["errors"] == [], payload
        if not self.shop.contracted:
            self.shop.copy(item_id)
        self.shop.items[item_id].batches[payload["batch"]["id"]] = line
        self.written_back(item_id)

    @rule(item_id=item_ids, number=st.integers(0, 3), line=st.none() | lines)
    def batch_is_written_by_hand(self, item_id: str, number: int, line: Line | None) -> None:
        """Or deleted. Not the opening batch of an item that is not cut over, which is its legacy columns."""
        item = self.shop.items.get(item_id)
        if item is None or not self.shop.migrated:
            return
        ids = [id_ for id_ in item.batches if id_ != OPENING or item.cut_over]
        if not ids:
            return
        chosen = ids[number % len(ids)]
        which = (
            "id = (SELECT batch_id FROM stockshift.copy_ledger WHERE item_id = $1)" if chosen == OPENING else "id = $1"
        )
        key = item_id if chosen == OPENING else chosen
        if line is None:
            del item.batches[chosen]
            self.execute(f"DELETE FROM stock_batches WHERE {which}", key)
        else:
            changed = item.batches[chosen] != line
            item.batches[chosen] = line
            marks = 'quantity = $2, status = $3, "locationId" = $4'
            self.execute(f"UPDATE stock_batches SET {marks} WHERE {which}", key, *vars(line).values())
            if not changed:
                return
        self.written_back(item_id)

    def written_back(self, item_id: str) -> None:
        item = self.shop.items[item_id]
        if not (self.shop.write_back and item.cut_over):
            return
        first = self.world.run(
            self.world.legacy.fetchrow(
                """
                SELECT b.status::text, b."locationId" FROM stock_batches b WHERE b."itemId" = $1
                ORDER BY b.quantity DESC, b."createdAt", b.id LIMIT 1
                """,
                item_id,
            )
        )
        before = item.legacy
        units = sum(line.quantity for line in item.batches.values())
        item.legacy = Line(units, *first) if first else replace(before, quantity=0)
        item.drift -= {name for name in vars(before) if getattr(before, name) != getattr(item.legacy, name)}

    # Stockshift.

    @rule(crash=crashes)
    @precondition(lambda self: not self.shop.contracted)
    def migrated(self, crash: int | None) -> None:
        async def act(engine: AsyncEngine) -> Any:
            return await migrate_atomic(engine, driver=ACTOR)

        self.carried_out(act, crash)
        if not self.shop.migrated:
            self.shop.ledger.clear()
            self.shop.archived, self.shop.folds = None, {}
            for item in self.shop.items.values():
                item.batches, item.cut_over, item.drifted, item.drift = {}, False, False, set()
        self.shop.migrated = self.shop.ever_migrated = True
        for item_id in self.shop.items:
            self.shop.copy(item_id)

    @rule(to=st.sampled_from(["AUTO", "LEGACY"]))
    @precondition(lambda self: self.shop.migrated and not self.shop.contracted)
    def read_source_is_switched(self, to: str) -> None:
        self.shop.source = to
        assert self.data(SWITCH, to=to)["setReadSource"] == {"migration": {"readSource": to}, "errors": []}

    @rule(ids=some_items, crash=crashes)
    @precondition(lambda self: self.shop.migrated and not self.shop.contracted)
    def items_are_cut_over(self, ids: list[str] | None, crash: int | None) -> None:
        outcome: Outcome = self.carried_out(lambda engine: cut_over(engine, selected(ids), actor=ACTOR), crash)
        unknown = {id_ for id_ in ids or [] if id_ not in self.shop.items}
        assert {id_: refusal.kind for id_, refusal in outcome.refused.items()} == dict.fromkeys(unknown, "NOT_FOUND")
        for item_id in ids or list(self.shop.items):
            item = self.shop.items.get(item_id)
            if item and not item.cut_over:
                self.shop.copy(item_id)
                item.cut_over = True
                self.written_back(item_id)

    @rule(ids=some_items, crash=crashes)
    @precondition(lambda self: self.shop.migrated and not self.shop.contracted)
    def items_are_taken_back(self, ids: list[str] | None, crash: int | None) -> None:
        outcome: Outcome = self.carried_out(lambda engine: take_back(engine, selected(ids), actor=ACTOR), crash)
        refused = {id_: "NOT_FOUND" for id_ in ids or [] if id_ not in self.shop.items}
        for item_id in ids or list(self.shop.items):
            item = self.shop.items.get(item_id)
            if item is None or not item.cut_over:
                continue
            opening = item.batches.get(OPENING)
            if any(opening is None or getattr(opening, name) != getattr(item.legacy, name) for name in item.drift):
                refused[item_id] = "DRIFT"
                continue
            if opening is None:  # it comes back with nothing, and what nothing cost to bring here
                assert self.fetchval('SELECT "freightCostUSD" FROM items WHERE id = $1', item_id) == 0
                self.tell(item_id)
            item.legacy = opening or replace(item.legacy, quantity=0)
            item.batches[OPENING] = item.legacy
            item.cut_over, item.drifted, item.drift = False, False, set()
        assert {id_: refusal.kind for id_, refusal in outcome.refused.items()} == refused

    @rule(on=st.booleans(), crash=crashes)
    @precondition(lambda self: self.shop.migrated and not self.shop.contracted)
    def write_back_is_switched(self, on: bool, crash: int | None) -> None:
        self.carried_out(lambda engine: set_write_back(engine, on=on, actor=ACTOR), crash)
        self.shop.write_back = on
        for item_id in self.shop.items:
            self.written_back(item_id)

    # There and back is one rule, so that no life of a shop stays where it cannot go on.

    @rule(fold=st.booleans(), crash=crashes)
    @precondition(lambda self: self.shop.ever_migrated and not self.shop.contracted)
    def migration_is_rolled_back_or_that_is_undone(self, fold: bool, crash: int | None) -> None:
        if self.shop.migrated:
            self.migration_is_rolled_back(fold, crash)
        else:
            self.rollback_is_undone(crash)

    @rule(crash=crashes)
    @precondition(lambda self: self.shop.migrated)
    def legacy_columns_are_dropped_or_put_back(self, crash: int | None) -> None:
        if self.shop.contracted:
            self.legacy_columns_are_put_back(crash)
        else:
            self.legacy_columns_are_dropped(crash)

    def migration_is_rolled_back(self, fold: bool, crash: int | None) -> None:
        async def act(engine: AsyncEngine) -> Any:
            return await roll_back(engine, Actor(ACTOR), confirm=self.database, fold=fold)

        self.carried_out(act, crash, (AlreadyRolledBack,))
        shop = self.shop
        shop.archived = copy.deepcopy(shop)
        shop.folds = {}
        if fold:
            for item_id, item in shop.items.items():
                units = sum(line.quantity for line in item.batches.values())
                if item_id in shop.ledger and units != item.legacy.quantity:
                    shop.folds[item_id] = (item.legacy.quantity, units)
                    item.legacy = replace(item.legacy, quantity=units)
        shop.migrated, shop.write_back = False, False

    def rollback_is_undone(self, crash: int | None) -> None:
        async def act(engine: AsyncEngine) -> Any:
            return await undo_rollback(engine, Actor(ACTOR), confirm=self.database)

        self.carried_out(act, crash, (NotArchived,))
        was, now = self.shop.archived, self.shop
        assert was is not None
        self.shop = copy.deepcopy(was)
        self.shop.source = now.source
        for item_id in set(was.items) - set(now.items):
            del self.shop.items[item_id]
        for item_id, item in now.items.items():
            if item_id not in was.items:  # inserted meanwhile: not the one that was copied under this id
                self.shop.items[item_id] = Item(item.legacy)
                self.shop.ledger.discard(item_id)
                continue
            before, after = now.folds.get(item_id, (0, 0))
            self.shop.write(item_id, replace(item.legacy, quantity=item.legacy.quantity - (after - before)))

    def legacy_columns_are_dropped(self, crash: int | None) -> None:
        """After a week in which nobody wrote them. While anything has drifted they are not."""
        self.read_source_is_switched("AUTO")
        self.write_back_is_switched(on=False, crash=None)
        self.items_are_cut_over(None, crash=None)
        self.a_verification_finds_drift_and_nothing_else()
        self.execute(A_WEEK_PASSES)
        self.a_verification_finds_drift_and_nothing_else()

        async def act(engine: AsyncEngine) -> Any:
            return await contract(engine, Actor(ACTOR), confirm=self.database)

        if any(item.drifted for item in self.shop.items.values()):
            with pytest.raises(GateClosed, match="verified for a week"):
                self.carried_out(act, None)
            return
        self.carried_out(act, crash, (GateClosed,))
        self.shop.contracted = True
        self.shop.dropped = {item_id: item.legacy for item_id, item in self.shop.items.items()}

    def legacy_columns_are_put_back(self, crash: int | None) -> None:
        async def act(engine: AsyncEngine) -> Any:
            return await undo_contract(engine, Actor(ACTOR), confirm=self.database)

        self.carried_out(act, crash, (NotArchived,))
        shop = self.shop
        shop.contracted = False
        for item_id in set(shop.items) - set(shop.dropped):
            item = shop.items[item_id]
            first = self.fetchval("SELECT batch_id FROM stockshift.copy_ledger WHERE item_id = $1", item_id)
            if item.batches:
                opening = item.batches.pop(first)
                units = sum(line.quantity for line in item.batches.values()) + opening.quantity
                item.batches[OPENING], item.cut_over = opening, True
                item.legacy = replace(opening, quantity=units)
                shop.ledger.add(item_id)
            else:  # without a cost it could not be copied
                self.execute('UPDATE items SET "costPerUnitUSD" = 1 WHERE id = $1', item_id)
            self.tell(item_id)
        shop.dropped = {}

    # What must hold.

    @invariant()
    def everybody_answers_as_the_model(self) -> None:
        assert self.data(QUESTION) == self.shop.answer()

    @invariant()
    def what_the_shop_made_is_as_it_was_left(self) -> None:
        for item_id in self.shop.items:
            names = DROPPED if self.shop.contracted else MODELLED
            assert self.fetchval(KEPT, names, item_id) in self.told[item_id]
        if self.shop.contracted:
            return
        rows = self.world.run(
            self.world.legacy.fetch('SELECT id, "quantityInStock", status::text, "locationId" FROM items')
        )
        assert {row[0]: Line(*row[1:]) for row in rows} == {
            item_id: item.legacy for item_id, item in self.shop.items.items()
        }

    @invariant()
    def what_was_copied_and_what_moved_is_what_is_there(self) -> None:
        if self.shop.migrated:
            assert self.world.run(self.world.legacy.fetch(BALANCE)) == []

    @invariant()
    def a_verification_finds_drift_and_nothing_else(self) -> None:
        if not self.shop.migrated:
            return

        async def run() -> tuple[bool, set[str]]:
            async with self.world.acting() as engine:
                report = await verify(engine, requested_by=ACTOR)
            rows = await self.world.legacy.fetch(
                "SELECT item_id, kind FROM stockshift.verification_mismatch WHERE verification_id = $1", report.id
            )
            assert {row["kind"] for row in rows} <= {"DRIFT"}, [check for check in report.checks if not check.passed]
            return report.passed, {row["item_id"] for row in rows}

        passed, found = self.world.run(run())
        drifted = {item_id for item_id, item in self.shop.items.items() if item.drifted}
        assert (passed, found) == (not drifted, drifted)


RESET_ARCHIVES = """
DO $$ DECLARE place text; BEGIN
    FOR place IN SELECT nspname FROM pg_namespace WHERE nspname LIKE 'stockshift\\_archive%' LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', place);
    END LOOP;
END $$;
"""


def selected(ids: Iterable[str] | None) -> Selection:
    return Selection(all_items(), None if ids is None else tuple(ids))


async def carried_out(
    world: World,
    act: Callable[[AsyncEngine], Awaitable[Any]],
    crash: int | None,
    done_before: tuple[type[Exception], ...],
) -> Any:
    """Who takes a lease that a dead session held waits until it is over; here nobody waits."""
    seen = 0

    def die(_statement: str, cursor: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == crash:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    async with world.acting() as engine:
        try:
            with at_statements(engine, die):
                return await act(engine)
        except ConnectionLost:
            assert crash is not None
        await asyncio.sleep(0)
    async with world.acting() as engine:
        try:
            return await act(engine)
        except done_before:
            return None
