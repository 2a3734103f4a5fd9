"""A PostgreSQL server that belongs to one process of ours and ends with it, however that process ends.

The process that enters `embedded_server` is the owner. It starts a watchdog, which starts PostgreSQL; the end of the
owner ends the watchdog's input, and the watchdog stops PostgreSQL. There is no TCP: who may use the server is who can
enter the folder of its socket, which is the account that it runs as.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

from db import embedded_watchdog
from db.embedded_binaries import Programs, ProgramsError, binaries, program_environment, programs_for
from db.embedded_cluster import (
    POLL_SECONDS,
    PORT,
    AlreadyRunningError,
    Cluster,
    LeftoverServerError,
    VersionError,
)
from db.embedded_place import EmbeddedServerError, PlaceError, account_for, home_for

__all__ = [
    "AlreadyRunningError",
    "EmbeddedServer",
    "EmbeddedServerError",
    "LeftoverServerError",
    "PlaceError",
    "ProgramsError",
    "StartError",
    "VersionError",
    "binaries",
    "embedded_server",
]

_SUPERUSER = "postgres"
_START_SECONDS = 300.0  # a server that was killed replays its log first


class StartError(EmbeddedServerError):
    """PostgreSQL did not start: see its log."""


@dataclass(frozen=True)
class EmbeddedServer:
    """A running server. Its programs are in `bin_dir`; `version` is as PostgreSQL says it, such as "18.6"."""

    data_dir: Path
    socket_dir: Path
    bin_dir: Path
    version: str

    def url(self, database: str = "postgres") -> str:
        """A URL of one of its databases, as the superuser, for libpq, asyncpg and SQLAlchemy alike."""
        host = quote(os.fsencode(self.socket_dir))
        return f"postgresql://{_SUPERUSER}@/{quote(database, safe='')}?host={host}&port={PORT}"


@contextmanager
def embedded_server(directory: Path, *, settings: Mapping[str, str] = MappingProxyType({})) -> Iterator[EmbeddedServer]:
    """Run the server that is kept in `directory`/postgres, made at the first start, until the block ends.

    `settings` are PostgreSQL's (postgresql.conf) by name; where it listens cannot be set. With fsync off a new data
    directory is not written through either.

    Errors, all EmbeddedServerError: AlreadyRunningError, LeftoverServerError, PlaceError, ProgramsError, StartError,
    VersionError.
    """
    account = account_for(directory)
    programs = programs_for(account)
    cluster = Cluster(home_for(directory, account), account)
    with cluster.owned():
        log_start = cluster.log_size()
        watchdog, socket = _start(cluster, programs, settings)
        try:
            _await_ready(cluster, watchdog, log_start)
            yield EmbeddedServer(cluster.data, socket, programs.folder, programs.version)
        finally:
            _end(watchdog)
            with cluster.claimed():  # nothing of it is left now, even if the watchdog was killed
                cluster.remove_socket_folder()


def _start(cluster: Cluster, programs: Programs, settings: Mapping[str, str]) -> "tuple[subprocess.Popen[bytes], Path]":
    """The watchdog, and the folder of the socket."""
    with cluster.claimed() as lock:
        try:
            cluster.forget_former_server()
            if not cluster.data.exists():
                _make_data(cluster, programs, lock, synced=settings.get("fsync") != "off")
            cluster.check_version(programs)
            socket = cluster.make_socket_folder()
            return _watch(cluster, lock, _server_command(cluster, programs, socket, settings)), socket
        except OSError as error:
            raise StartError(
                f"PostgreSQL could not be started in {cluster.home} ({error}):"
                " check that folder and the space on its disk."
            ) from error


def _watch(cluster: Cluster, lock: int, command: list[str]) -> "subprocess.Popen[bytes]":
    """Start a program that ends when we do, through the watchdog."""
    account = cluster.account
    arguments = [embedded_watchdog.__file__, str(account.uid), str(account.gid), str(lock), *command]
    log = cluster.open_log()
    try:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and file, then PostgreSQL's programs
            [sys.executable, "-I", "-S", *arguments],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=cluster.home,
            env=program_environment(),
            start_new_session=True,
            pass_fds=(lock,),
        )
    finally:
        os.close(log)


def _end(watchdog: "subprocess.Popen[bytes]") -> None:
    if watchdog.stdin is not None:
        watchdog.stdin.close()
    watchdog.wait()


def _make_data(cluster: Cluster, programs: Programs, lock: int, *, synced: bool) -> None:
    """Make the data directory under another name first: what has its name is complete."""
    command = [
        str(programs.folder / "initdb"),
        f"--pgdata={cluster.unfinished_data}",
        f"--username={_SUPERUSER}",
        "--auth-local=trust",
        "--auth-host=reject",
        "--data-checksums",
        "--encoding=UTF8",
        *_locale(programs.major),
        *([] if synced else ["--no-sync"]),
    ]
    log_start = cluster.log_size()
    initdb = _watch(cluster, lock, command)
    try:
        status = initdb.wait()
    finally:
        _end(initdb)
    if status != 0:
        raise StartError(f"PostgreSQL could not make a data directory in {cluster.home}: {cluster.said(log_start)}")
    cluster.unfinished_data.rename(cluster.data)


def _locale(major: int) -> list[str]:
    """Text is ordered by code point, the same on every machine; case is Unicode's."""
    if major >= 17:
        return ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    return ["--locale=C", f"--lc-ctype={'en_US.UTF-8' if sys.platform == 'darwin' else 'C.UTF-8'}"]


def _server_command(cluster: Cluster, programs: Programs, socket: Path, settings: Mapping[str, str]) -> list[str]:
    every = {
        "timezone": "UTC",
        "log_timezone": "UTC",
        **settings,
        "listen_addresses": "",
        "unix_socket_directories": str(socket),
        "port": str(PORT),
    }
    options = [part for name, value in every.items() for part in ("-c", f"{name}={value}")]
    return [str(programs.folder / "postgres"), "-D", str(cluster.data), *options]


def _await_ready(cluster: Cluster, watchdog: "subprocess.Popen[bytes]", log_start: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not cluster.ready:
        if watchdog.poll() is not None:
            raise StartError(f"PostgreSQL did not start in {cluster.home}: {cluster.said(log_start)}")
        if time.monotonic() > deadline:
            raise StartError(
                f"PostgreSQL did not get ready in {_START_SECONDS:.0f} s in {cluster.home}: {cluster.said(log_start)}"
            )
        time.sleep(POLL_SECONDS)
