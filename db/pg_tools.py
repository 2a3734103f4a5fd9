"""pg_dump and pg_restore: which of them this machine has, and which fits a server.

They are run with what they write, or read, going through us. So a program whose owner was killed finds its pipe
closed and ends without having finished anything: a dump is incomplete, a restore is rolled back.
"""

import asyncio
import os
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from db.embedded_binaries import ProgramsError, program_environment, wheel
from db.errors import StockshiftError

Name = Literal["pg_dump", "pg_restore"]
FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/opt/homebrew/opt/libpq/bin",
    "/usr/local/opt/postgresql@*/bin",
)
CHUNK = 2**18
LONGEST_LINE = 2**24

BEFORE_TRANSACTION_TIMEOUT = 16
"""From its next major version on, pg_restore sets a parameter that servers up to this one do not know."""


class NoTool(StockshiftError):
    """No fitting pg_dump or pg_restore was found: install PostgreSQL's client programs, or set PG_BINDIR."""


class ToolFailed(StockshiftError):
    """pg_dump or pg_restore did not succeed."""


@dataclass(frozen=True)
class Tool:
    """A program of `major` version, such as 18; it speaks `tls` if it was built so."""

    path: Path
    version: str
    tls: bool

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])


def find(name: Name) -> list[Tool]:
    """Those of this machine that run, the older ones first, PG_BINDIR's before others of its version."""
    named = [Path(folder) for folder in (os.environ.get("PG_BINDIR"),) if folder]
    known = [folder for pattern in FOLDERS for folder in sorted(Path("/").glob(pattern.removeprefix("/")))]
    searched = [Path(folder) for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if folder]
    try:
        bundled = [wheel() / "pginstall" / "bin"]
    except ProgramsError:
        bundled = []
    found: dict[tuple[int, bool], Tool] = {}
    for folder in [*named, *known, *searched, *bundled]:
        tool = look_at(folder / name)
        if tool is not None:
            found.setdefault((tool.major, tool.tls), tool)
    # With TLS before without: it can do all that the other can.
    return sorted(found.values(), key=lambda tool: (tool.major, not tool.tls))


def look_at(path: Path) -> Tool | None:
    if not os.access(path, os.X_OK) or not path.is_file():
        return None
    said = re.search(r"\) (\d+[\d.]*)", ask(path, "--version"))
    if said is None:
        return None
    # Without TLS a program stops at the word; no server is asked.
    nobody = "host=/nonexistent dbname=postgres sslmode=require"
    refused = ask(path.with_name("pg_dump"), "--dbname", nobody)
    return Tool(path, said[1], "SSL support is not compiled in" not in refused)


def ask(path: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - the operator's own programs
            [path, *arguments], env=program_environment(), capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


def for_dump(server: int, *, tls: bool) -> Tool:
    """The pg_dump nearest to a server of this major version. Raises NoTool, which says what to install."""
    return choose("pg_dump", lambda tool: tool.major >= server, f"PostgreSQL {server} or later", server, tls)


def for_restore(dumped_by: int, server: int, *, tls: bool) -> Tool:
    """The pg_restore that reads what pg_dump of that major version wrote, and suits the server. Raises NoTool."""
    most = BEFORE_TRANSACTION_TIMEOUT if server <= BEFORE_TRANSACTION_TIMEOUT else None
    if most is not None and dumped_by > most:
        raise NoTool(
            f"The dump was made by pg_dump {dumped_by}, and what reads it cannot write to PostgreSQL {server}: "
            f"restore into PostgreSQL {most + 1} or later, or make the backup with pg_dump {server} (set PG_BINDIR)"
        )
    wanted = f"PostgreSQL {dumped_by} or later" + (f", up to {most}," if most else "")
    return choose("pg_restore", lambda tool: dumped_by <= tool.major <= (most or tool.major), wanted, dumped_by, tls)


def choose(name: Name, fits: Callable[[Tool], bool], wanted: str, install: int, tls: bool) -> Tool:
    found = find(name)
    for tool in found:
        if fits(tool) and (tool.tls or not tls):
            return tool
    there = ", ".join(f"{tool.version} in {tool.path.parent}{'' if tool.tls else ' (no TLS)'}" for tool in found)
    raise NoTool(
        f"{name} of {wanted}{' with TLS' if tls else ''} is needed, and there is {there or 'none'}: install "
        f"postgresql-client-{install} (Debian, Ubuntu) or postgresql@{install} (Homebrew), or set PG_BINDIR"
    )


class Running:
    """A program that runs. Each line that it says on stderr goes to `heard`; its first error is kept."""

    def __init__(self, process: asyncio.subprocess.Process, heard: Callable[[str], None]) -> None:
        self.process = process
        self._heard = heard
        self._error: str | None = None
        self._last = "it said nothing"
        self._listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for line in pipe(self.process.stderr):
            said = line.decode(errors="replace").strip()
            self._heard(said)
            if "error: " in said and self._error is None:
                self._error = said.partition("error: ")[2]
            self._last = said or self._last

    async def failure(self) -> str | None:
        """Waits until it has ended. None: it did well."""
        await self._listening
        return None if await self.process.wait() == 0 else self._error or self._last


Pipe = TypeVar("Pipe")


def pipe(end: Pipe | None) -> Pipe:
    """A stream of a program that was started with it."""
    if end is None:
        raise TypeError("the program was started without this pipe")
    return end


def unheard(_: str) -> None:
    """Nobody listens."""


@asynccontextmanager
async def running(
    tool: Tool,
    *arguments: str,
    environment: Mapping[str, str],
    fed: bool = False,
    heard: Callable[[str], None] = unheard,
) -> AsyncIterator[Running]:
    """The program, with pipes; killed if it still runs at the end. `fed`: it reads from us, else it writes to us.

    In a session of its own: a Ctrl-C is for us, and what becomes of the program is our business.
    """
    piped, closed = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        tool.path,
        *arguments,
        stdin=piped if fed else closed,
        stdout=closed if fed else piped,
        stderr=piped,
        env=dict(environment),
        limit=LONGEST_LINE,
        start_new_session=True,
    )
    program = Running(process, heard)
    try:
        yield program
    finally:
        if process.returncode is None:
            process.kill()
        await program.failure()
