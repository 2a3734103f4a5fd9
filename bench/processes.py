"""Processes that are measured: each on one core, stopped when we are done with it, its costs read from /proc."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError

START_SECONDS = 60
STOP_SECONDS = 15
IDLE_SECONDS = 120
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cores:
    """A core for the server that is measured; PostgreSQL and the load generator share the other."""

    server: int
    database: int

    @classmethod
    def choose(cls) -> "Cores":
        if sys.platform != "linux" or shutil.which("taskset") is None:
            raise BenchError("the benchmark pins processes with taskset and reads /proc: it needs Linux and util-linux")
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise BenchError(f"the benchmark needs 2 cores, one for the server that is measured; it has {len(cores)}")
        return cls(cores[0], cores[1])


def program(name: str, package: str) -> str:
    """Where a program is. BenchError says which Debian package has it."""
    found = shutil.which(name)
    if found is None:
        raise BenchError(f"{name} is not on PATH; on Debian or Ubuntu install it with `apt-get install {package}`")
    return found


@dataclass(frozen=True)
class Process:
    """A running server and where it listens."""

    pid: int
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def resident_mb(self) -> float:
        with suppress(FileNotFoundError, ProcessLookupError):
            for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):  # one that has ended and is still known has none
                    return int(line.split()[1]) / 1024
        raise BenchError(f"the server on port {self.port} has ended")

    @property
    def cpu_seconds(self) -> float:
        """Of all its threads, user and system."""
        return _seconds(self.pid, "utime", "stime")

    def await_idle(self) -> None:
        """Until it works no more on what it was asked. BenchError: it goes on and on."""
        deadline = time.monotonic() + IDLE_SECONDS
        while time.monotonic() < deadline:
            before = self.cpu_seconds
            time.sleep(0.1)
            if self.cpu_seconds - before <= 1 / TICKS:
                return
        raise BenchError(f"the server on port {self.port} is busy {IDLE_SECONDS} s after the load has ended")


def postgres_cpu_seconds(data_dir: Path) -> float:
    """Of a PostgreSQL server: its processes that live, and its ended ones, for which the first of them accounts."""
    postmaster = int((data_dir / "postmaster.pid").read_text().splitlines()[0])
    while True:
        ended = _seconds(postmaster, "cutime", "cstime")
        living = _living_seconds(postmaster)
        if _seconds(postmaster, "cutime", "cstime") == ended:  # else one that ended meanwhile may be in both, or none
            return _seconds(postmaster, "utime", "stime") + ended + living


def _living_seconds(postmaster: int) -> float:
    total = 0.0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if _stat(int(folder.name))["ppid"] == postmaster:
                total += _seconds(int(folder.name), "utime", "stime")
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
    return total


FIELDS = {"ppid": 1, "utime": 11, "stime": 12, "cutime": 13, "cstime": 14}  # behind the name, see proc(5)


def _stat(pid: int) -> dict[str, int]:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return {name: int(fields[position]) for name, position in FIELDS.items()}


def _seconds(pid: int, *names: str) -> float:
    fields = _stat(pid)
    return sum(fields[name] for name in names) / TICKS


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(
    command: Sequence[str], environment: Mapping[str, str], *, port: int, core: int, log: Path
) -> Iterator[Process]:
    """A server on one core, from when it listens until the block ends. BenchError: it did not start."""
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own servers
            ["taskset", "-c", str(core), *command],  # noqa: S607 - taskset was found on PATH
            env={**plain_environment(), **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for us to hear
        )
    try:
        _await_listening(process, port, log)
        yield Process(process.pid, port)
    finally:
        _stop(process)


def plain_environment() -> dict[str, str]:
    """No setting or address of a developer's shell changes what is measured."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "VIRTUAL_ENV") if name in os.environ}


def _await_listening(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise BenchError(f"it ended with {process.returncode}: {last_line(log)}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise BenchError(f"it did not listen within {START_SECONDS} s: {last_line(log)}")


def last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
