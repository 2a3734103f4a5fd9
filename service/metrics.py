"""`/metrics`: what this process has done and where the migration is, for Prometheus.

Every sample names its process. A scrape reaches one of several workers, so each has series of its own: `sum by` puts
them together, over a time in which all were reached.
"""

import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar, get_args

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from db.engine import connecting
from migration.read_difference import EXPLAINED
from migration.run import Run, latest_run
from migration.status import Phase, read_phase
from resolvers.dual_read import NO_DIFFERENCE
from resolvers.viewer import Role
from service.keys import TokenKeysUnavailable
from service.runtime import NO_ANSWER, Runtime
from service.tokens import InvalidToken, TokenVerifier

PROCESS = str(os.getpid())
Key = TypeVar("Key", bound=tuple[str, ...])
Values: TypeAlias = Mapping[Key, float]
"""By the values of a family's labels."""
Endpoint = Callable[[Request], Awaitable[Response]]


def metrics_for(verifier: TokenVerifier, default_headers: Mapping[str, str] | None) -> Endpoint:
    """The endpoint. `default_headers` are the demo's, for who brings none."""

    async def metrics(request: Request) -> Response:
        given = request.headers.get("authorization") or (default_headers or {}).get("Authorization")
        try:
            viewer = await verifier.viewer(given)
        except InvalidToken as error:
            return PlainTextResponse(error.message, 401, {"WWW-Authenticate": "Bearer"})
        except TokenKeysUnavailable as error:
            return PlainTextResponse(error.message, 503)
        if viewer.role < Role.MANAGER or viewer.company is not None:
            message = "metrics are of all companies: they need a token of role MANAGER, without a companyId"
            return PlainTextResponse(message, 403)
        runtime: Runtime = request.state.runtime
        registry = CollectorRegistry()
        registry.register(_Now(runtime, await _migration(runtime.reader.engine)))
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": content_type})

    return metrics


async def _migration(engine: AsyncEngine) -> tuple[Phase, Run | None] | None:
    """Where it is, without counting an item; None: the database is away."""
    try:
        async with connecting(engine) as connection:
            run = await latest_run(connection)
            return await read_phase(connection, run), run
    except NO_ANSWER:
        return None


@dataclass(frozen=True)
class _Now(Collector):
    runtime: Runtime
    migration: tuple[Phase, Run | None] | None

    def collect(self) -> Iterator[Metric]:
        runtime = self.runtime
        yield _counter(
            "stockshift_requests",
            "Requests to /graphql, by status and by how they were answered.",
            ("status", "answered"),
            runtime.requests,
        )
        yield _counter(
            "stockshift_request_seconds",
            "How long these took together, up to the first byte of the answer.",
            ("status", "answered"),
            runtime.seconds,
        )
        yield _counter(
            "stockshift_mutations",
            "Mutations by what came of them: done, refused (the payload has errors), failed.",
            ("mutation", "outcome"),
            runtime.mutations,
        )
        if runtime.reader.dual is not None:
            outcomes = runtime.reader.dual.outcomes
            yield _counter(
                "stockshift_compared_reads",
                "Items read from both systems, by what was found and whether that is as it should be.",
                ("outcome", "explained"),
                {(name, str(name in (*NO_DIFFERENCE, *EXPLAINED)).lower()): n for name, n in outcomes.items()},
            )
        yield _gauge("stockshift_database_up", "The database answers.", (), {(): self.migration is not None})
        if self.migration is None:
            return
        phase, run = self.migration
        phases: dict[tuple[str], float] = {(one,): one == phase for one in get_args(Phase)}
        yield _gauge("stockshift_migration_phase", "1 for the phase that the migration is in.", ("phase",), phases)
        if run is not None:
            yield _gauge("stockshift_run_items", "Items to copy in the latest run.", (), {(): run.items_total})
            yield _gauge("stockshift_run_items_copied", "Of these, copied.", (), {(): run.items_copied})


def _counter(name: str, meaning: str, labels: tuple[str, ...], values: Values[Key]) -> Metric:
    family = CounterMetricFamily(name, meaning, labels=(*labels, "process"))
    for key, value in sorted(values.items()):
        family.add_metric((*key, PROCESS), value)
    return family


def _gauge(name: str, meaning: str, labels: tuple[str, ...], values: Values[Key]) -> Metric:
    family = GaugeMetricFamily(name, meaning, labels=(*labels, "process"))
    for key, value in values.items():
        family.add_metric((*key, PROCESS), value)
    return family
