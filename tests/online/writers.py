"""Writers of every kind, each with a connection and an account of its own.

Each draws what it does from its own random.Random. One that loses against another (a serialization failure) does the
same again; a deadlock, or a wait longer than PATIENCE, is an error: nobody may be made to fail by the migration.
"""

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any

import asyncpg

from migration.capture import TRIGGERS
from tests.graphql_client import Client
from tests.online import accounts
from tests.online.accounts import LEGACY_COLUMNS, Account, Entry, Row, Written
from tests.online.shop import LONG_AGO, PLACES, SHARED, STATUSES, Watch, assignments
from tests.support import Connection, insert

PATIENCE = "20s"
ROLLED_BACK = 0.08
ISOLATIONS = ("READ COMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
RECORDS = {"INSERT": "follow_inserted_items", "UPDATE": "follow_item", "DELETE": "follow_deleted_items"}
TRIGGER_OF = {
    operation: next(name for name, trigger in TRIGGERS.items() if trigger.function == function)
    for operation, function in RECORDS.items()
}

Operation = Callable[[], Awaitable[None]]


class Outcome:
    """Of a transaction that is not committed yet."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.written: list[Written] = []


class Writer:
    """Somebody with a connection. `done` counts the operations, whatever came of them."""

    operations: Sequence[tuple[int, str]]
    """What it does, by the method's name, and how often beside the others."""

    def __init__(self, connection: Connection, watch: Watch, account: Account, chance: random.Random) -> None:
        self.connection = connection
        self.watch = watch
        self.account = account
        self.chance = chance
        self.done = 0

    async def step(self) -> None:
        (name,) = self.chance.choices([name for _, name in self.operations], [weight for weight, _ in self.operations])
        await getattr(self, name)()
        self.done += 1

    async def commit(self, work: Callable[[Outcome], Awaitable[None]], isolations: Sequence[str] = ISOLATIONS) -> bool:
        """Does the work in a transaction; accounts for it if it commits, which it may be drawn not to."""
        isolation, rolled_back = self.chance.choice(isolations), self.chance.random() < ROLLED_BACK
        while True:
            await self.connection.execute(f"BEGIN ISOLATION LEVEL {isolation}")
            outcome = Outcome()
            try:
                await work(outcome)
                await self.watch.look()
                captured = set(self.watch.triggers)
                await self.connection.execute("ROLLBACK" if rolled_back else "COMMIT")
            except (asyncpg.SerializationError, asyncpg.ForeignKeyViolationError) as error:
                if self.connection.is_in_transaction():
                    await self.connection.execute("ROLLBACK")
                if not isinstance(error, asyncpg.SerializationError):
                    raise
                continue
            if not rolled_back:
                written = [one for one in outcome.written if TRIGGER_OF[one.operation] in captured]
                self.account.commit(outcome.entries, written)
            return not rolled_back

    def some_shared(self, most: int) -> list[str]:
        """In the order in which everybody locks."""
        return sorted(self.chance.sample(SHARED, self.chance.randint(1, most)))

    def some_values(self) -> Row:
        """Of a few legacy columns, quantity aside."""
        when = LONG_AGO + timedelta(milliseconds=self.chance.randrange(10**11))
        values: Row = {
            "status": self.chance.choice(STATUSES),
            "costPerUnitUSD": self.chance.randrange(400) / 4 + 0.1,
            "freightCostUSD": self.chance.choice([0.0, 0.1, 12.5, 1e-7]),
            "orderDate": self.chance.choice([None, when]),
            "expectedArrival": self.chance.choice([None, when]),
            "orderNumber": self.chance.choice([None, "", f"PO-{self.chance.randrange(100)}"]),
            "notes": self.chance.choice([None, "", 'it\'s \\ "noted"\n', f"note {self.done}"]),
            "locationId": self.chance.choice([None, *PLACES]),
            "assignedUserId": self.chance.choice([None, "acme-user"]),
        }
        return {name: values[name] for name in self.chance.sample(list(values), self.chance.randint(1, len(values)))}

    async def write(self, outcome: Outcome, item_id: str, values: Row) -> None:
        """Sets columns of an item that is there, and that nobody else sets these columns of."""
        columns = ", ".join(f'"{name}"' for name in values)
        row = await self.connection.fetchrow(f"SELECT {columns} FROM items WHERE id = $1 FOR NO KEY UPDATE", item_id)
        assert row is not None, f"item {item_id} went"
        await self.connection.execute(
            f"UPDATE items SET {assignments(values)} WHERE id = $1", item_id, *values.values()
        )
        outcome.entries.append(accounts.ItemSet(item_id, values))
        changed = [name for name in values if row[name] != values[name]]
        if changed:
            before, after = {name: row[name] for name in changed}, {name: values[name] for name in changed}
            outcome.written.append(Written(item_id, "UPDATE", before, after))

    def units_added(self, outcome: Outcome, item_id: str, units: int, then: int) -> None:
        outcome.entries.append(accounts.UnitsAdded(item_id, units))
        if units:
            before, after = {"quantityInStock": then - units}, {"quantityInStock": then}
            outcome.written.append(Written(item_id, "UPDATE", before, after))

    async def batches_of(self, item_id: str) -> tuple[str, ...]:
        """Of an item whose row this transaction has locked, so that none comes and none goes."""
        if not self.watch.batches:
            await self.watch.look()
        if not self.watch.batches:
            return ()
        rows = await self.connection.fetch('SELECT id FROM stock_batches WHERE "itemId" = $1', item_id)
        return tuple(row[0] for row in rows)


class Seller(Writer):
    """Adds and takes units of shared items, in every way an application does it."""

    operations = (
        (4, "one"),
        (2, "several"),
        (2, "several_in_one_statement"),
        (2, "read_then_write"),
        (2, "upsert"),
        (1, "partly"),
    )

    def some_units(self) -> int:
        return self.chance.choice([-3, -2, -1, -1, -1, 0, 1, 5, 40])

    async def add(self, outcome: Outcome, item_id: str, units: int) -> None:
        then = await self.connection.fetchval(
            'UPDATE items SET "quantityInStock" = "quantityInStock" + $2, "updatedAt" = CURRENT_TIMESTAMP'
            ' WHERE id = $1 RETURNING "quantityInStock"',
            item_id,
            units,
        )
        self.units_added(outcome, item_id, units, then)

    async def one(self) -> None:
        item_id, units = self.chance.choice(SHARED), self.some_units()
        await self.commit(lambda outcome: self.add(outcome, item_id, units))

    async def several(self) -> None:
        sold = [(item_id, self.some_units()) for item_id in self.some_shared(4)]
        sold += self.chance.sample(sold, 1)  # one of them twice

        async def work(outcome: Outcome) -> None:
            for item_id, units in sold:
                await self.add(outcome, item_id, units)

        await self.commit(work)

    async def several_in_one_statement(self) -> None:
        item_ids, units = self.some_shared(5), self.some_units()

        async def work(outcome: Outcome) -> None:
            await self.connection.execute(
                "SELECT FROM items WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE", item_ids
            )
            rows = await self.connection.fetch(
                'UPDATE items SET "quantityInStock" = "quantityInStock" + $2 WHERE id = ANY($1)'
                ' RETURNING id, "quantityInStock"',
                item_ids,
                units,
            )
            for item_id, then in rows:
                self.units_added(outcome, item_id, units, then)

        await self.commit(work)

    async def read_then_write(self) -> None:
        """Without a lock: only a stricter isolation makes that right."""
        item_id, units = self.chance.choice(SHARED), self.some_units()

        async def work(outcome: Outcome) -> None:
            had = await self.connection.fetchval('SELECT "quantityInStock" FROM items WHERE id = $1', item_id)
            await self.connection.execute('UPDATE items SET "quantityInStock" = $2 WHERE id = $1', item_id, had + units)
            self.units_added(outcome, item_id, units, had + units)

        await self.commit(work, ["REPEATABLE READ", "SERIALIZABLE"])

    async def upsert(self) -> None:
        item_id, units = self.chance.choice(SHARED), self.some_units()

        async def work(outcome: Outcome) -> None:
            then = await self.connection.fetchval(
                """
                INSERT INTO items (id, name, "quantityInStock", "costPerUnitUSD", "sellingPriceSRD", "updatedAt",
                                   "companyId")
                VALUES ($1, $1, $2, 1, 1, CURRENT_TIMESTAMP, 'acme')
                ON CONFLICT (id) DO UPDATE SET "quantityInStock" = items."quantityInStock" + excluded."quantityInStock"
                RETURNING "quantityInStock"
                """,
                item_id,
                units,
            )
            self.units_added(outcome, item_id, units, then)

        await self.commit(work)

    async def partly(self) -> None:
        """A savepoint is rolled back, the rest is kept."""
        (first, *others), units = self.some_shared(3), self.some_units()

        async def work(outcome: Outcome) -> None:
            await self.add(outcome, first, units)
            await self.connection.execute("SAVEPOINT before_the_others")
            for item_id in others:
                await self.add(Outcome(), item_id, 1_000)
            await self.connection.execute("ROLLBACK TO before_the_others")

        await self.commit(work)


class Clerk(Writer):
    """Sets columns: all of its own items', and those of its share of the shared items that are no quantity.

    Its own items must be answered as its account says, at any time.
    """

    operations = ((4, "set_own"), (3, "set_shared"), (1, "close_a_place"), (1, "set_nothing"), (3, "ask"))

    def __init__(
        self, *who: Any, items: dict[str, Row], share: Sequence[str], client: Client, wrong: list[str]
    ) -> None:
        super().__init__(*who)
        self.items = items
        self.share = share
        self.client = client
        self.wrong = wrong

    async def set_own(self) -> None:
        chosen = self.chance.sample(list(self.items), self.chance.randint(1, 3))
        writes = [
            (item_id, self.some_values() | {"quantityInStock": self.chance.randint(-5, 50)}) for item_id in chosen
        ]

        async def work(outcome: Outcome) -> None:
            for item_id, values in sorted(writes, key=lambda write: write[0]):
                await self.write(outcome, item_id, values)

        if await self.commit(work):
            for item_id, values in writes:
                self.items[item_id].update(values)

    async def set_shared(self) -> None:
        item_id, values = self.chance.choice(self.share), self.some_values()
        await self.commit(lambda outcome: self.write(outcome, item_id, values))

    async def set_nothing(self) -> None:
        """The same values once more: no write of legacy columns, and nothing to record."""
        item_id = self.chance.choice(list(self.items))
        await self.commit(lambda outcome: self.write(outcome, item_id, dict(self.items[item_id])))

    async def close_a_place(self) -> None:
        """A location is deleted, so the foreign key takes it from the items that were there."""
        place, item_id = f"place-{uuid.uuid4()}", self.chance.choice(list(self.items))
        await insert(self.connection, "locations", id=place, name=place, companyId="acme")
        moved = await self.commit(lambda outcome: self.write(outcome, item_id, {"locationId": place}))
        if moved:
            self.items[item_id]["locationId"] = place

        async def work(outcome: Outcome) -> None:
            await self.connection.execute("DELETE FROM locations WHERE id = $1", place)
            if moved:
                outcome.entries.append(accounts.ItemSet(item_id, {"locationId": None}))
                outcome.written.append(Written(item_id, "UPDATE", {"locationId": place}, {"locationId": None}))

        if await self.commit(work) and moved:
            self.items[item_id]["locationId"] = None

    async def ask(self) -> None:
        item_id = self.chance.choice(list(self.items))
        query = "query ($id: ID!) { item(id: $id) { totalQuantity statuses locations { id } } }"
        known = self.items[item_id]
        answer = (await self.client.ask(query, id=item_id))["item"]
        place = known["locationId"]
        expected = {
            "totalQuantity": known["quantityInStock"],
            "statuses": [known["status"]],
            "locations": [] if place is None else [{"id": place}],
        }
        if answer != expected:
            self.wrong.append(f"{item_id} is {answer}, its only writer has {expected}")


class Churner(Writer):
    """Makes items, deletes them, makes them again under the same id, changes their ids."""

    operations = (
        (4, "insert"),
        (3, "delete"),
        (2, "delete_and_insert"),
        (3, "rename"),
        (2, "upsert"),
        (3, "set_one"),
    )

    def __init__(self, *who: Any, items: dict[str, Row], ids: Sequence[str]) -> None:
        super().__init__(*who)
        self.items = items
        self.ids = ids

    def free(self) -> list[str]:
        return [item_id for item_id in self.ids if item_id not in self.items]

    def new_row(self) -> Row:
        empty: Row = dict.fromkeys(LEGACY_COLUMNS)
        row = empty | {"status": "Ordered", "costPerUnitUSD": 2.5, "freightCostUSD": 0.0} | self.some_values()
        return row | {"quantityInStock": self.chance.randint(0, 30)}

    async def put(self, outcome: Outcome, rows: dict[str, Row]) -> None:
        """Inserts items in one statement."""
        columns = ", ".join(f'"{name}"' for name in LEGACY_COLUMNS)
        width = len(LEGACY_COLUMNS) + 1
        values = ", ".join(
            f"({', '.join(f'${position * width + 2 + column}' for column in range(width))}, $1, $1, 1, 'acme', 'new')"
            for position in range(len(rows))
        )
        await self.connection.execute(
            f'INSERT INTO items (id, {columns}, "createdAt", "updatedAt", "sellingPriceSRD", "companyId", name)'
            f" VALUES {values}",
            LONG_AGO,
            *[value for item_id, row in rows.items() for value in (item_id, *[row[name] for name in LEGACY_COLUMNS])],
        )
        for item_id, row in rows.items():
            outcome.entries.append(accounts.ItemInserted(item_id, row))
            outcome.written.append(Written(item_id, "INSERT", None, row))

    async def take(self, outcome: Outcome, item_id: str) -> None:
        """Deletes an item with its batches. None can be made for it meanwhile: its row is locked."""
        await self.connection.execute("SELECT FROM items WHERE id = $1 FOR UPDATE", item_id)
        batches = await self.batches_of(item_id)
        await self.connection.execute("DELETE FROM items WHERE id = $1", item_id)
        outcome.entries.append(accounts.ItemDeleted(item_id, batches))
        outcome.written.append(Written(item_id, "DELETE", dict(self.items[item_id]), None))

    async def insert(self) -> None:
        free = self.free()
        rows = {item_id: self.new_row() for item_id in self.chance.sample(free, min(len(free), 2))}
        if rows and await self.commit(lambda outcome: self.put(outcome, rows)):
            self.items.update(rows)

    async def delete(self) -> None:
        if len(self.items) < 4:
            return
        item_id = self.chance.choice(list(self.items))
        if await self.commit(lambda outcome: self.take(outcome, item_id)):
            del self.items[item_id]

    async def delete_and_insert(self) -> None:
        if not self.items:
            return
        item_id, row = self.chance.choice(list(self.items)), self.new_row()

        async def work(outcome: Outcome) -> None:
            await self.take(outcome, item_id)
            await self.put(outcome, {item_id: row})

        if await self.commit(work):
            self.items[item_id] = row

    async def rename(self) -> None:
        free = self.free()
        if not (self.items and free):
            return
        old, new = self.chance.choice(list(self.items)), self.chance.choice(free)

        async def work(outcome: Outcome) -> None:
            await self.connection.execute("SELECT FROM items WHERE id = $1 FOR UPDATE", old)
            batches = await self.batches_of(old)
            await self.connection.execute("UPDATE items SET id = $2 WHERE id = $1", old, new)
            outcome.entries.append(accounts.ItemRenamed(old, new, batches))
            outcome.written.append(Written(new, "UPDATE", {"id": old}, {"id": new}))

        if await self.commit(work):
            self.items[new] = self.items.pop(old)

    async def upsert(self) -> None:
        """All columns, of an item that may be there or not."""
        item_id, row = self.chance.choice(self.ids), self.new_row()
        columns = ", ".join(f'"{name}"' for name in LEGACY_COLUMNS)
        marks = ", ".join(f"${number}" for number in range(2, len(LEGACY_COLUMNS) + 2))
        updates = ", ".join(f'"{name}" = excluded."{name}"' for name in LEGACY_COLUMNS)

        async def work(outcome: Outcome) -> None:
            await self.connection.execute(
                f'INSERT INTO items (id, {columns}, "createdAt", "updatedAt", "sellingPriceSRD", "companyId", name)'
                f" VALUES ($1, {marks}, '2024-05-06 07:08:09.123', CURRENT_TIMESTAMP, 1, 'acme', 'upserted')"
                f" ON CONFLICT (id) DO UPDATE SET {updates}",
                item_id,
                *[row[name] for name in LEGACY_COLUMNS],
            )
            had = self.items.get(item_id)
            if had is None:
                outcome.entries.append(accounts.ItemInserted(item_id, row))
                outcome.written.append(Written(item_id, "INSERT", None, row))
                return
            outcome.entries.append(accounts.ItemSet(item_id, row))
            changed = [name for name in row if row[name] != had[name]]
            if changed:
                before, after = {name: had[name] for name in changed}, {name: row[name] for name in changed}
                outcome.written.append(Written(item_id, "UPDATE", before, after))

        if await self.commit(work):
            self.items[item_id] = row

    async def set_one(self) -> None:
        if not self.items:
            return
        item_id, values = self.chance.choice(list(self.items)), self.some_values()
        if await self.commit(lambda outcome: self.write(outcome, item_id, values)):
            self.items[item_id] = {**self.items[item_id], **values}


CREATE = """
mutation ($input: CreateBatchInput!) {
  createBatch(input: $input) { batch { id quantity item { id } } errors { code message } }
}
"""


class Receiver:
    """Makes batches through GraphQL, of shared items and of those that come and go. It has a client in place of a
    connection."""

    REFUSED = frozenset({"MIGRATION_NOT_STARTED", "NOT_FOUND"})

    def __init__(
        self, client: Client, account: Account, chance: random.Random, fleeting: Iterable[str], handed_over: list[str]
    ) -> None:
        self.client = client
        self.account = account
        self.chance = chance
        self.fleeting = list(fleeting)
        self.handed_over = handed_over
        self.done = 0

    async def step(self) -> None:
        shared = self.chance.random() < 0.6
        place = self.chance.choice([None, *PLACES])
        made: dict[str, Any] = {
            "itemId": self.chance.choice(SHARED if shared else self.fleeting),
            "quantity": self.chance.randint(0, 20),
            "status": self.chance.choice(STATUSES),
            "locationId": place,
            "costPerUnitUSD": self.chance.choice([None, 1.5]),
        }
        times = self.chance.choice([1, 1, 2, 3])
        if times > 1:
            made["idempotencyKey"] = str(uuid.UUID(int=self.chance.getrandbits(128)))
        answers = await asyncio.gather(*[self.client.ask(CREATE, input=made) for _ in range(times)])
        self.done += 1
        payloads = [answer["createBatch"] for answer in answers]
        errors = [error for payload in payloads for error in payload["errors"]]
        batches = {payload["batch"]["id"] for payload in payloads if payload["batch"]}
        # Of the same request at once, one may find the item and the other not, or that what was made is gone.
        allowed = self.REFUSED | ({"CONFLICT"} if times > 1 and not shared else set())
        assert {error["code"] for error in errors} <= allowed, (made, payloads)
        assert len(batches) <= 1, f"one idempotency key, several batches: {batches}"
        for batch_id in batches:
            entry = accounts.BatchInserted(batch_id, made["itemId"], made["quantity"], made["status"], place)
            self.account.commit([entry], [])
            if shared and self.chance.random() < 0.5:
                self.handed_over.append(batch_id)


class Storekeeper(Writer):
    """Writes batches directly: its own, and those that the receivers hand over. Never an opening batch.

    It makes batches only for items that are copied: one that is not would be held back from then on.
    """

    operations = ((3, "insert"), (4, "add_units"), (1, "delete"), (1, "move"), (1, "write_none"))

    def __init__(self, *who: Any, handed_over: list[str], fleeting: Iterable[str]) -> None:
        super().__init__(*who)
        self.handed_over = handed_over
        self.fleeting = list(fleeting)
        self.mine: list[str] = []

    async def step(self) -> None:
        await self.watch.look()
        while self.handed_over:
            self.mine.append(self.handed_over.pop())
        if self.watch.batches:
            await super().step()
        else:
            await asyncio.sleep(0.01)
            self.done += 1

    async def insert(self) -> None:
        shared = self.chance.random() < 0.8
        item_id = self.chance.choice(SHARED if shared else self.fleeting)
        batch_id, place = str(uuid.UUID(int=self.chance.getrandbits(128))), self.chance.choice([None, *PLACES])
        quantity, status = self.chance.randint(0, 20), self.chance.choice(STATUSES)
        made = False

        async def work(outcome: Outcome) -> None:
            nonlocal made
            tag = await self.connection.execute(
                """
                INSERT INTO stock_batches (id, "itemId", quantity, status, "locationId", "costPerUnitUSD", "updatedAt")
                SELECT $1, $2, $3, $4, $5, 1, CURRENT_TIMESTAMP
                FROM stockshift.copy_ledger l JOIN items i ON i.id = l.item_id WHERE item_id = $2
                """,
                batch_id,
                item_id,
                quantity,
                status,
                place,
            )
            made = tag == "INSERT 0 1"
            if made:
                outcome.entries.append(accounts.BatchInserted(batch_id, item_id, quantity, status, place))

        try:
            if await self.commit(work) and made and shared:
                self.mine.append(batch_id)
        except asyncpg.ForeignKeyViolationError:  # the item went while the batch was being made
            assert not shared, f"item {item_id} is never deleted"

    async def add_units(self) -> None:
        if not self.mine:
            return
        chosen, units = self.chance.sample(self.mine, min(len(self.mine), 2)), self.chance.randint(-9, 9)

        async def work(outcome: Outcome) -> None:
            await self.connection.execute(
                "UPDATE stock_batches SET quantity = quantity + $2 WHERE id = ANY($1)", chosen, units
            )
            outcome.entries.extend(accounts.BatchUnitsAdded(batch_id, units) for batch_id in chosen)

        await self.commit(work)

    async def move(self) -> None:
        if not self.mine:
            return
        batch_id, item_id = self.chance.choice(self.mine), self.chance.choice(SHARED)

        async def work(outcome: Outcome) -> None:
            tag = await self.connection.execute(
                'UPDATE stock_batches SET "itemId" = $2, quantity = quantity + 1'
                " WHERE id = $1 AND EXISTS (SELECT FROM stockshift.copy_ledger WHERE item_id = $2)",
                batch_id,
                item_id,
            )
            if tag == "UPDATE 1":
                outcome.entries.append(accounts.BatchMoved(batch_id, item_id))
                outcome.entries.append(accounts.BatchUnitsAdded(batch_id, 1))

        await self.commit(work)

    async def delete(self) -> None:
        if not self.mine:
            return
        batch_id = self.chance.choice(self.mine)

        async def work(outcome: Outcome) -> None:
            await self.connection.execute("DELETE FROM stock_batches WHERE id = $1", batch_id)
            outcome.entries.append(accounts.BatchDeleted(batch_id))

        if await self.commit(work):
            self.mine.remove(batch_id)

    async def write_none(self) -> None:
        """A write that changes no quantity, and so moves nothing."""
        if not self.mine:
            return
        batch_id = self.chance.choice(self.mine)

        async def work(_: Outcome) -> None:
            await self.connection.execute("UPDATE stock_batches SET notes = 'counted' WHERE id = $1", batch_id)

        await self.commit(work)
