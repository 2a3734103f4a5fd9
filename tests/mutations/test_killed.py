"""The service is killed in the middle of a mutation (R27): nothing is half done, and the same request completes it."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE

import httpx

from tests.db.servers import free_port
from tests.migration.support import locks_left, until, waits_for_lock
from tests.mutations.support import CREATE, SECRET, stock, stopping_at_harbour, token
from tests.support import psql

REQUEST = {"itemId": "mug", "quantity": 5, "locationId": "acme-harbour", "idempotencyKey": "after-the-crash"}


class Service:
    """`stockshift serve` as a process of its own."""

    def __init__(self, url: str) -> None:
        self.port = free_port()
        self.environment = {**os.environ, "DATABASE_URL": url, "STOCKSHIFT_JWT_SECRET": SECRET}

    async def start(self) -> None:
        command = [sys.executable, "-c", "from service.cli import main; main()", "serve", "--port", str(self.port)]
        self.process = await asyncio.create_subprocess_exec(*command, env=self.environment, stdout=DEVNULL, stderr=PIPE)
        await until(self.ready, "the service is ready")

    async def ready(self) -> bool:
        assert self.process.returncode is None, "the service ended"
        async with httpx.AsyncClient() as http:
            try:
                return (await http.get(f"http://127.0.0.1:{self.port}/readyz")).status_code == 200
            except httpx.TransportError:
                return False

    async def create(self) -> httpx.Response:
        async with httpx.AsyncClient(timeout=60) as http:
            return await http.post(
                f"http://127.0.0.1:{self.port}/graphql",
                json={"query": CREATE, "variables": {"input": REQUEST}},
                headers={"authorization": f"Bearer {token()}"},
            )

    async def kill(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.communicate()


async def test_a_service_that_is_killed_before_the_commit_leaves_nothing_half_done(uncopied_url: str) -> None:
    service = Service(uncopied_url)
    async with psql(uncopied_url) as watcher:
        await service.start()
        try:
            async with stopping_at_harbour(uncopied_url):
                lost = asyncio.create_task(service.create())
                await waits_for_lock(watcher)
                await service.kill()
            (answer,) = await asyncio.gather(lost, return_exceptions=True)
            assert isinstance(answer, httpx.TransportError)

            async def free() -> bool:
                return await locks_left(watcher) == 0

            await until(free, "the server gave up what the service was doing")
            assert await stock(watcher, "mug") == (0, 0, 0)
            await service.start()
            payload = json.loads((await service.create()).content)["data"]["createBatch"]
            assert (payload["item"]["totalQuantity"], payload["errors"]) == (15, [])
            assert await stock(watcher, "mug") == (15, 2, 1)
        finally:
            await service.kill()
