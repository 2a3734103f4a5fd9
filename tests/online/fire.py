"""A shop under fire: writers of every kind at once, until what is to be done meanwhile is done."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol, TypeAlias

from tests.graphql_client import Client, client_of
from tests.migration.support import until
from tests.online.accounts import Account, Books, Row, closed
from tests.online.shop import CHURNERS, CLERKS, SHARED, Watch, legacy_rows, of_churner, of_clerk
from tests.online.writers import PATIENCE, Churner, Clerk, Receiver, Seller, Storekeeper
from tests.support import Connection, psql

SELLERS = 3
RECEIVERS = 2
PAUSE_SECONDS = 0.05
"""At most, between two operations of a writer: so that the migration has a share of the processor, and of the locks."""

Connect: TypeAlias = Callable[[str], Awaitable[tuple[Connection, Watch, Account, random.Random]]]
"""By application name, what a writer is made of."""


class Working(Protocol):
    done: int

    async def step(self) -> None: ...


class Fire:
    """What the writers did so far."""

    def __init__(self, url: str, seed: int, begin: dict[str, Row]) -> None:
        self.url = url
        self.seed = seed
        self.begin = begin
        self.accounts: list[Account] = []
        self.workers: list[Working] = []
        self.wrong_answers: list[str] = []
        self.over = False

    def account(self, application: str) -> Account:
        account = Account(application)
        self.accounts.append(account)
        return account

    def chance(self, application: str) -> random.Random:
        return random.Random(f"{self.seed} {application}")  # noqa: S311 - it is to be the same again

    async def rages(self, operations: int) -> None:
        """Until everybody has done so many more."""
        aims = [(worker, worker.done + operations) for worker in self.workers]

        async def reached() -> bool:
            return all(worker.done >= aim for worker, aim in aims)

        await until(reached, f"every writer has done {operations} more operations")

    async def work(self, worker: Working) -> None:
        pause = self.chance(f"the pauses of {len(self.workers)}")
        while not self.over:
            await worker.step()
            await asyncio.sleep(pause.random() * PAUSE_SECONDS)

    def books(self) -> Books:
        return closed(self.begin, self.accounts)


@asynccontextmanager
async def on_fire(url: str, seed: int, *, legacy: bool = True, batches: bool = True) -> AsyncIterator[Fire]:
    """Writers of legacy columns and writers of batches at work; they end what they are at when the block ends.

    Whatever goes wrong for one of them is raised.
    """
    async with AsyncExitStack() as stack:
        watch = Watch(await stack.enter_async_context(psql(url, application_name="watch")))
        client = await stack.enter_async_context(client_of(url))
        fire = Fire(url, seed, await legacy_rows(watch.connection))

        async def connected(application: str) -> tuple[Connection, Watch, Account, random.Random]:
            connection = await stack.enter_async_context(psql(url, application_name=application))
            await connection.execute(f"SET lock_timeout = '{PATIENCE}'")
            return connection, watch, fire.account(application), fire.chance(application)

        if legacy:
            await _employ_legacy_writers(fire, connected, client)
        if batches:
            await _employ_batch_writers(fire, connected, client)
        async with asyncio.TaskGroup() as group:
            for worker in fire.workers:
                group.create_task(fire.work(worker))
            try:
                yield fire
            finally:
                fire.over = True


async def _employ_legacy_writers(fire: Fire, connected: Connect, client: Client) -> None:
    begin = fire.begin
    for number in range(SELLERS):
        fire.workers.append(Seller(*await connected(f"seller {number}")))
    for number in range(CLERKS):
        items = {item_id: dict(begin[item_id]) for item_id in of_clerk(number)}
        who = await connected(f"clerk {number}")
        fire.workers.append(
            Clerk(*who, items=items, share=SHARED[number::CLERKS], client=client, wrong=fire.wrong_answers)
        )
    for number in range(CHURNERS):
        ids = of_churner(number)
        items = {item_id: dict(begin[item_id]) for item_id in ids if item_id in begin}
        fire.workers.append(Churner(*await connected(f"churner {number}"), items=items, ids=ids))


async def _employ_batch_writers(fire: Fire, connected: Connect, client: Client) -> None:
    fleeting = [item_id for number in range(CHURNERS) for item_id in of_churner(number)]
    for number in range(RECEIVERS):
        handed_over: list[str] = []
        name = f"receiver {number}"
        fire.workers.append(Receiver(client, fire.account(name), fire.chance(name), fleeting, handed_over))
        who = await connected(f"storekeeper {number}")
        fire.workers.append(Storekeeper(*who, handed_over=handed_over, fleeting=fleeting))
