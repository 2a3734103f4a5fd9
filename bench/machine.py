"""What a reader of numbers must know of the machine and of the run."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import orjson

from bench.contestants import PEERS, ROOT
from bench.processes import Cores
from db.embedded import EmbeddedServer


def describe(server: EmbeddedServer, cores: Cores | None, run: Mapping[str, str]) -> dict[str, str]:
    present = os.cpu_count()
    return {
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "command": f"python -m bench {' '.join(sys.argv[1:])}".strip(),
        **run,
        "machine": f"{_processor()}, {present} cores, {_memory_gb():.0f} GB, {platform.system()} {platform.release()}",
        "pinned": (
            f"the server that is measured to core {cores.server}; PostgreSQL and the load generator to core"
            f" {cores.database}; other cores are left alone"
            if cores
            else "nothing"
        ),
        "versions": f"PostgreSQL {server.version}, Python {platform.python_version()}, {_packages()}",
    }


def _commit() -> str:
    git = shutil.which("git")
    if git is None:
        return "unknown"

    def ask(*arguments: str) -> str:
        done = subprocess.run(  # noqa: S603 - git
            [git, "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    changed = ask("status", "--porcelain", "--untracked-files=no")
    return (ask("rev-parse", "--short=12", "HEAD") or "unknown") + (
        ", with changes that are not committed" * bool(changed)
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def _packages() -> str:
    ours = [f"{name} {version(name)}" for name in ("strawberry-graphql", "sqlalchemy", "asyncpg", "uvicorn")]
    theirs = orjson.loads((PEERS / "package.json").read_bytes())
    named = {**theirs["dependencies"], **theirs["optionalDependencies"]}
    return ", ".join([*ours, *(f"{name} {number}" for name, number in named.items())])
