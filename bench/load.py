"""Putting load on a server, and what it cost."""

import re
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import orjson

from bench.contestants import GENERIC_PLANS
from bench.errors import BenchError
from bench.operations import SAMPLE, Operation, Request
from bench.processes import Process, plain_environment, postgres_cpu_seconds, program
from bench.sql import page, statements
from db.embedded import EmbeddedServer

WRK_SCRIPT = Path(__file__).parent / "wrk.lua"
TIMEOUT_SECONDS = 120


@dataclass(frozen=True)
class Measurement:
    """One run of load. Times in ms, memory in MB; what a server cost is None where there is no server to measure."""

    contestant: str
    operation: Operation
    connections: int
    per_second: float
    p50_ms: float
    p99_ms: float
    database_cpu_ms: float
    server_cpu_ms: float | None = None
    start_mb: float | None = None
    end_mb: float | None = None


def write_requests(file: Path, requests: Iterable[Request], token: str | None) -> None:
    """What wrk.lua draws from. The file has a token in it: it is for us alone."""
    file.touch(mode=0o600)
    lines = [f"Bearer {token}".encode() if token else b""]
    lines += [request.path.encode() + b"\t" + request.body for request in requests]
    file.write_bytes(b"\n".join(lines) + b"\n")


@dataclass(frozen=True)
class Load:
    """It shares the core of PostgreSQL, which is ours."""

    server: EmbeddedServer

    def wrk(
        self,
        contestant: str,
        process: Process,
        operation: Operation,
        requests: Path,
        *,
        connections: int,
        seconds: int,
        seed: int,
    ) -> Measurement:
        """BenchError: there was no answer in that time, or one that is an error."""
        start_mb = process.resident_mb
        server_cpu, database_cpu = process.cpu_seconds, postgres_cpu_seconds(self.server.data_dir)
        found = wrk(process, requests, connections=connections, seconds=seconds, seed=seed)
        server_cpu = process.cpu_seconds - server_cpu
        database_cpu = postgres_cpu_seconds(self.server.data_dir) - database_cpu
        process.await_idle()  # wrk leaves in the middle of requests
        return Measurement(
            contestant,
            operation,
            connections,
            per_second=found.requests / found.seconds,
            p50_ms=found.p50_ms,
            p99_ms=found.p99_ms,
            database_cpu_ms=database_cpu / found.requests * 1e3,
            server_cpu_ms=server_cpu / found.requests * 1e3,
            start_mb=start_mb,
            end_mb=process.resident_mb,
        )

    def pgbench(
        self, contestant: str, operation: Operation, url_parts: Sequence[str], *, connections: int, seconds: int
    ) -> Measurement:
        """The floor's statement alone, prepared, at random places of `bench.place`."""
        with TemporaryDirectory(prefix="stockshift-pgbench-") as folder:
            script = Path(folder) / "script.sql"
            script.write_text(pgbench_script(operation))
            command = [
                pgbench_program(self.server),
                "--no-vacuum",
                "--protocol",
                "prepared",
                "--file",
                str(script),
                "--jobs",
                "1",
            ]
            command += ["--client", str(connections), "--time", str(seconds), "--log"]
            command += ["--log-prefix", str(Path(folder) / "log"), "--define", f"places={SAMPLE}", *url_parts]
            cpu = postgres_cpu_seconds(self.server.data_dir)
            said = run(command, PGOPTIONS=GENERIC_PLANS)
            cpu = postgres_cpu_seconds(self.server.data_dir) - cpu
            times = sorted(
                int(line.split()[2]) / 1e3
                for log in Path(folder).glob("log.*")
                for line in log.read_text().splitlines()
            )
        rate = re.search(r"tps = ([0-9.]+)", said)
        if rate is None or not times:
            raise BenchError(f"pgbench measured nothing: {said.strip().splitlines()[-1]}")
        return Measurement(
            contestant,
            operation,
            connections,
            per_second=float(rate[1]),
            p50_ms=statistics.median(times),
            p99_ms=times[int(len(times) * 0.99)],
            database_cpu_ms=cpu / len(times) * 1e3,
        )


def pgbench_program(server: EmbeddedServer) -> str:
    """The server's own, or one on PATH. BenchError: neither."""
    own = server.bin_dir / "pgbench"
    return str(own) if own.exists() else program("pgbench", "postgresql-contrib")


@dataclass(frozen=True)
class Pressed:
    """What wrk saw: how many requests in how many seconds, and their latency."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float


def wrk(process: Process, requests: Path, *, connections: int, seconds: int, seed: int) -> Pressed:
    """Keeps a server busy. BenchError: it gave no answer, failed to give one, or one that is an error."""
    command = [program("wrk", "wrk"), "--threads", "1", "--connections", str(connections)]
    command += ["--duration", f"{seconds}s", "--timeout", f"{TIMEOUT_SECONDS}s"]
    command += ["--script", str(WRK_SCRIPT), process.url, "--", str(requests), str(seed)]
    *_, counts, example = run(command).splitlines()
    found = orjson.loads(counts)
    if not found["requests"]:
        raise BenchError(f"no answer within {seconds} s at {connections} connections; give more --seconds")
    if found["failed"] or found["wrong"]:
        raise BenchError(
            f"{found['failed'] + found['wrong']:,} of {found['requests']:,} requests failed"
            + (f", with answers such as {example}" if example else "")
        )
    return Pressed(found["requests"], found["microseconds"] / 1e6, found["p50"] / 1e3, found["p99"] / 1e3)


def pgbench_script(operation: Operation) -> str:
    """A place is drawn by number; looking it up costs microseconds."""

    def drawn(column: str) -> str:
        return f"(SELECT {column} FROM bench.place WHERE number = :number)"  # noqa: S608 - our own column names

    if operation is Operation.ITEM:
        (statement,) = statements("item.sql")
        statement = statement.replace("$1", drawn("id"))
    else:
        statement = page(operation.rows).replace("$1", drawn("name")).replace("$2", drawn("id"))
    code = "\n".join(line for line in statement.splitlines() if not line.startswith("--"))
    return f"\\set number random(1, :places)\n{code};\n"


def run(command: Sequence[str], **environment: str) -> str:
    """What a load generator said. BenchError: it failed."""
    done = subprocess.run(  # noqa: S603 - wrk or pgbench, as found
        command, capture_output=True, text=True, check=False, env={**plain_environment(), **environment}
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing"]
        raise BenchError(f"{Path(command[0]).name} ended with {done.returncode}: {said[-1]}")
    return done.stdout
