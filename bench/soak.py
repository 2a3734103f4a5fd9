"""Part three: what the service's memory does over a million requests, of which some have never been seen before.

Slices of load, each with requests of its own: mostly an item, some pages, and documents that are new in each slice, so
that whatever the service keeps of a document has to be forgotten as well.
"""

import asyncio
import itertools
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson

from bench import data
from bench.client import drawn, listing
from bench.load import write_requests, wrk
from bench.machine import describe
from bench.operations import SERVICE, Operation, Place, Request
from bench.processes import Cores, postgres_cpu_seconds, program
from bench.service import service

CONNECTIONS = 16
WARM_SHARE = 0.1  # of the requests, after which memory is to stay as it is
MIX = {Operation.ITEM: 18_860, Operation.PAGE_50: 1_000, Operation.PAGE_1000: 20}
"""Requests of a slice, which are drawn from at random; so many beside them are of documents never seen before."""
NEW_DOCUMENTS = 120

FIELDS = (
    "name", "totalQuantity", "statuses", "usingBatchSystem", "stockValueUSD", "minStockLevel", "createdAt", "updatedAt",
    "locations { name }", "quantityByStatus { status quantity }", "quantityByLocation { quantity location { id } }",
    "batches(first: 3) { edges { node { id quantity } } }", "legacy { quantityInStock }",
)  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """Memory in MB after so many requests."""

    requests: int
    resident_mb: float


@dataclass(frozen=True)
class Soak:
    """`samples` begin before the first request. CPU in ms per request."""

    samples: Sequence[Sample]
    documents: int
    seconds: float
    server_cpu_ms: float
    database_cpu_ms: float
    machine: dict[str, str]

    @property
    def requests(self) -> int:
        return self.samples[-1].requests

    def after(self, share: float) -> Sample:
        """The first sample after that share of all requests."""
        return next(one for one in self.samples if one.requests >= share * self.requests)

    @property
    def warm(self) -> Sample:
        return self.after(WARM_SHARE)

    @property
    def growth(self) -> float:
        """The most memory after warming up, against that after warming up."""
        return (
            max(one.resident_mb for one in self.samples if one.requests >= self.warm.requests) / self.warm.resident_mb
        )


def soak(requests: int, items: int, seconds: int, say: Callable[[str], None]) -> Soak:
    """At least so many requests, in slices of so many seconds. BenchError: one failed."""
    cores = Cores.choose()
    program("wrk", "wrk")
    os.sched_setaffinity(0, {cores.database})
    with data.server() as server, TemporaryDirectory(prefix="stockshift-bench-") as folder:
        say(f"loading {items:,} items")
        url = asyncio.run(data.create_database(server, "shop"))
        asyncio.run(data.load(url, items))
        asyncio.run(data.index_names(url))
        with service(url, cores.server) as running:
            sample = drawn(listing(running.client))
            process, file = running.process, Path(folder) / "requests"
            new = _new_documents(sample)
            samples, spent, documents = [Sample(0, process.resident_mb)], 0.0, 0
            server_cpu, database_cpu = process.cpu_seconds, postgres_cpu_seconds(server.data_dir)
            for seed in itertools.count():
                write_requests(file, [*_known(sample, seed), *itertools.islice(new, NEW_DOCUMENTS)], running.token)
                pressed = wrk(process, file, connections=CONNECTIONS, seconds=seconds, seed=seed)
                process.await_idle()
                spent, documents = spent + pressed.seconds, documents + NEW_DOCUMENTS
                samples.append(Sample(samples[-1].requests + pressed.requests, process.resident_mb))
                say(f"{samples[-1].requests:,} requests: {samples[-1].resident_mb:.1f} MB")
                if samples[-1].requests >= requests:
                    break
            count = samples[-1].requests
            server_cpu = (process.cpu_seconds - server_cpu) / count * 1e3
            database_cpu = (postgres_cpu_seconds(server.data_dir) - database_cpu) / count * 1e3
        machine = describe(server, cores, {"data": f"{items:,} items of all companies, about 3 batches each"})
    return Soak(samples, documents, spent, server_cpu, database_cpu, machine)


def _known(sample: Sequence[Place], seed: int) -> Iterator[Request]:
    order = random.Random(seed)  # noqa: S311 - a sample, the same in every run
    for operation, count in MIX.items():
        for place in order.choices(sample, k=count):
            yield SERVICE.request(operation, place)


def _new_documents(sample: Sequence[Place]) -> Iterator[Request]:
    """No two alike, in what they ask for nor in their names."""
    order = random.Random(0)  # noqa: S311 - a sample, the same in every run
    for number in itertools.count(1):
        fields = " ".join(order.sample(FIELDS, order.randint(1, len(FIELDS))))
        query = f"query New{number}($id: ID!) {{ item(id: $id) {{ key{number}: id {fields} }} }}"
        yield Request(SERVICE.path, orjson.dumps({"query": query, "variables": {"id": order.choice(sample).id}}))
