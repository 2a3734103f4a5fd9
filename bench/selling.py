"""What the shop's own application does meanwhile: pgbench with its typical writes of the legacy columns.

An item's id is drawn in a statement of its own, so that what is measured of an UPDATE is that UPDATE alone.
"""

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.errors import BenchError
from bench.load import pgbench_program, run
from bench.processes import plain_environment, postgres_cpu_seconds
from db.embedded import EmbeddedServer

ITEM = r"SELECT id FROM bench.id WHERE number = :number \gset"
LOCATIONS = 8  # of the demo shop, which has no fewer


class Write(Enum):
    """One line each: pgbench reports by line."""

    SALE = 'UPDATE public.items SET "quantityInStock" = "quantityInStock" - 1, "updatedAt" = now() WHERE id = :id;'
    MOVE = (
        """UPDATE public.items SET status = (CASE status WHEN 'Arrived' THEN 'Ordered' ELSE 'Arrived' END)"""
        """::public."Status", "locationId" = 'demo-location-' || :location::text, "updatedAt" = now() WHERE id = :id;"""
    )

    @property
    def script(self) -> str:
        drawn = f"\\set number random(1, :items)\n\\set location random(1, {LOCATIONS})\n"
        return f"{drawn}{ITEM}\n{self.value}\n"


@dataclass(frozen=True)
class Written:
    """`latency_ms` is of the UPDATE and its commit; `cpu_ms` of PostgreSQL, for a transaction."""

    latency_ms: float
    per_second: float
    cpu_ms: float


@dataclass(frozen=True)
class Sale:
    """One transaction: when it ended, in seconds of the epoch, and how long it took since it was due, in ms."""

    at: float
    ms: float


@dataclass
class Sales:
    """Of one pgbench; `done` is complete when it has ended."""

    done: list[Sale] = field(default_factory=list)

    def between(self, start: float, end: float) -> "Served":
        times = sorted(sale.ms for sale in self.done if start <= sale.at < end)
        return Served(len(times) / (end - start), times)


@dataclass(frozen=True)
class Served:
    """What was sold in some time: sales a second, and how long each took, in ms, in order."""

    per_second: float
    times: Sequence[float]

    def quantile(self, share: float) -> float | None:
        return self.times[min(int(len(self.times) * share), len(self.times) - 1)] if self.times else None


def press(
    server: EmbeddedServer, database: str, write: Write, *, items: int, clients: int, seconds: int, durable: bool
) -> Written:
    """As fast as it goes. BenchError: it failed."""
    with TemporaryDirectory(prefix="stockshift-pgbench-") as folder:
        command = _command(server, database, write, Path(folder), items, clients)
        command[1:1] = ["--time", str(seconds), "--report-per-command"]
        cpu = postgres_cpu_seconds(server.data_dir)
        said = run(command, PGOPTIONS=f"-c synchronous_commit={'on' if durable else 'off'}")
        cpu = postgres_cpu_seconds(server.data_dir) - cpu
    return read_report(said, cpu)


def read_report(said: str, cpu_seconds: float) -> Written:
    """What pgbench says at its end. BenchError: nothing was done."""
    rate = re.search(r"^tps = ([0-9.]+)", said, re.MULTILINE)
    count = re.search(r"^number of transactions actually processed: (\d+)", said, re.MULTILINE)
    update = re.search(r"^\s+([0-9.]+)\s.*UPDATE public\.items", said, re.MULTILINE)
    if rate is None or count is None or update is None or count[1] == "0":
        raise BenchError(f"pgbench measured nothing: {said.strip().splitlines()[-1]}")
    return Written(float(update[1]), float(rate[1]), cpu_seconds / int(count[1]) * 1e3)


@asynccontextmanager
async def selling(
    server: EmbeddedServer, database: str, *, items: int, clients: int, rate: int | None
) -> AsyncIterator[Sales]:
    """Sells while the block lasts: so many times a second, or as often as it goes. BenchError: a sale failed."""
    sales = Sales()
    with TemporaryDirectory(prefix="stockshift-pgbench-") as folder:
        command = _command(server, database, Write.SALE, Path(folder), items, clients)
        command[1:1] = ["--time", "86400", "--log", "--log-prefix", str(Path(folder) / "log")]
        command[1:1] = ["--rate", str(rate)] if rate else []
        process = await asyncio.create_subprocess_exec(
            *command,
            env=plain_environment(),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            yield sales
            if process.returncode is None:
                process.send_signal(signal.SIGALRM)  # as when its time is up: it writes its log to the end
            _, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            lines = errors.decode(errors="replace").strip().splitlines() or ["it said nothing"]
            raise BenchError(f"pgbench ended with {process.returncode}: {lines[-1]}")
        sales.done += read_logs(Path(folder))


def read_logs(folder: Path) -> list[Sale]:
    """Columns: client, number, microseconds, script, the epoch's seconds and microseconds when it ended, and more."""
    found = []
    for line in (line for log in folder.glob("log.*") for line in log.read_text().splitlines()):
        _, _, took, _, seconds, microseconds, *_ = line.split()
        found.append(Sale(int(seconds) + int(microseconds) / 1e6, int(took) / 1e3))
    return found


def _command(server: EmbeddedServer, database: str, write: Write, folder: Path, items: int, clients: int) -> list[str]:
    script = folder / "script.sql"
    script.write_text(write.script)
    command = [pgbench_program(server), "--no-vacuum", "--protocol", "prepared", "--file", str(script)]
    command += ["--client", str(clients), "--jobs", "1", "--define", f"items={items}", server.url(database)]
    return command
