"""The folder of one embedded server: its data directory, log and socket, and the locks that guard them.

owner.lock    held by the process that runs the server; says which it is
server.lock   held by every process of the server, which inherits it: while it is held, some of them are alive
data/         the data directory (PGDATA); data.new/ while it is being made
server.log    what PostgreSQL says
socket/       the socket's folder, or a link to it where the path is no good for a socket
"""

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from db.embedded_binaries import Programs
from db.embedded_place import Account, EmbeddedServerError, make_private_folder, open_private
from db.embedded_watchdog import LOG_BYTES_KEPT, STOP_SECONDS, STOP_SIGNALS, trim

PORT = 5432  # there is no TCP: it is a part of the socket's name
POLL_SECONDS = 0.02
_LOG_LINES_SHOWN = 5

_SOCKET = f".s.PGSQL.{PORT}"
_SOCKET_PATH_BYTES = 100  # the kernel's limit is 104 on macOS, 108 on Linux


class AlreadyRunningError(EmbeddedServerError):
    """Another process runs the embedded server of this folder: stop it, or set STOCKSHIFT_DATA to another folder."""


class LeftoverServerError(EmbeddedServerError):
    """A PostgreSQL server that a former process left behind does not stop: end it by hand."""


class VersionError(EmbeddedServerError):
    """The data was made by another major version of PostgreSQL: set PG_BINDIR to the programs of that version."""


@dataclass(frozen=True)
class Cluster:
    home: Path
    account: Account

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def unfinished_data(self) -> Path:
        return self.home / "data.new"

    @contextmanager
    def owned(self) -> Iterator[None]:
        """While it lasts this process alone may run the server; the kernel ends it with the process."""
        file = open_private(self.home / "owner.lock", self.account)
        try:
            if not _try_lock(file):
                pid = os.pread(file, 20, 0).decode()
                raise AlreadyRunningError(
                    f"The embedded server in {self.home} is already run by process {pid or '(unknown)'}: stop that"
                    " process, set DATABASE_URL to use its server, or set STOCKSHIFT_DATA to another folder."
                )
            os.ftruncate(file, 0)
            os.write(file, str(os.getpid()).encode())
            yield
        finally:
            os.close(file)

    @contextmanager
    def claimed(self) -> Iterator[int]:
        """The locked server.lock, for the next server to inherit. What is left of a former one is stopped first.

        Errors: LeftoverServerError when it does not stop.
        """
        lock = open_private(self.home / "server.lock", self.account)
        try:
            if not any(self._gone(lock, stop) for stop in STOP_SIGNALS):
                pid = self._postmaster()
                raise LeftoverServerError(
                    f"A PostgreSQL server that a former process left in {self.data} does not stop: end"
                    f" {f'process {pid}' if pid else 'what has files open there'} by hand, then start again."
                )
            yield lock
        finally:
            os.close(lock)

    def _gone(self, lock: int, stop: signal.Signals) -> bool:
        """Whether no process of a server is left, after asking in one way and waiting STOP_SECONDS."""
        deadline = time.monotonic() + STOP_SECONDS
        asked = None
        while True:
            pid = self._postmaster()
            # A server that somebody started by hand holds no lock of ours: both must be free.
            if _try_lock(lock) and pid is None:
                return True
            if pid is not None and pid != asked:
                with suppress(ProcessLookupError):
                    os.kill(pid, stop)
                asked = pid
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)

    def _postmaster_lines(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return []

    def _postmaster(self) -> int | None:
        """The process of a live server in the data directory."""
        try:
            pid = int(self._postmaster_lines()[0])
        except (IndexError, ValueError):
            return None
        return pid if _serves(pid, self.data) else None

    @property
    def ready(self) -> bool:
        """Whether the server says that it accepts connections."""
        return [line.strip() for line in self._postmaster_lines()[7:8]] == ["ready"]

    def forget_former_server(self) -> None:
        """Remove what a killed server or initdb left.

        PostgreSQL would take the pids in it for live servers once they are given to other processes.
        """
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        self.remove_socket_folder()
        if self.unfinished_data.exists():
            shutil.rmtree(self.unfinished_data)

    def check_version(self, programs: Programs) -> None:
        """Errors: VersionError when these programs cannot run this data."""
        try:
            found = (self.data / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            raise EmbeddedServerError(
                f"{self.data} is no PostgreSQL data directory: move it away to start with an empty server,"
                " or set STOCKSHIFT_DATA to another folder."
            ) from None
        if found != str(programs.major):
            raise VersionError(
                f"The data in {self.data} was made by PostgreSQL {found}, the programs in {programs.folder} are"
                f" PostgreSQL {programs.version}: set PG_BINDIR to the programs of PostgreSQL {found}, or set"
                " STOCKSHIFT_DATA to an empty folder and restore a backup there."
            )

    def open_log(self) -> int:
        log = open_private(self.home / "server.log", self.account)
        trim(log)
        return log

    def log_size(self) -> int:
        log = self.open_log()
        try:
            return os.fstat(log).st_size
        finally:
            os.close(log)

    def said(self, start: int) -> str:
        """The last lines that the log got since it had `start` bytes, and where it is."""
        log = self.open_log()
        try:
            text = os.pread(log, LOG_BYTES_KEPT, start).decode(errors="replace")
        finally:
            os.close(log)
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return f"{' | '.join(lines[-_LOG_LINES_SHOWN:])} (all of it in {self.home / 'server.log'})"

    def make_socket_folder(self) -> Path:
        folder = self.home / "socket"
        # A comma would make two folders of it, in PostgreSQL's setting and in URLs.
        if "," in str(folder) or len(os.fsencode(folder / _SOCKET)) > _SOCKET_PATH_BYTES:
            # Not TMPDIR: it may be long itself, or closed to the account.
            short = Path(tempfile.mkdtemp(prefix="stockshift-", dir="/tmp"))
            self.account.own(short)
            folder.symlink_to(short)
            return short
        make_private_folder(folder, self.account)
        return folder

    def remove_socket_folder(self) -> None:
        link = self.home / "socket"
        folder = link.resolve()
        if folder.is_dir() and folder.stat().st_uid == self.account.uid:
            for name in (_SOCKET, f"{_SOCKET}.lock"):
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()
        if link.is_symlink():
            link.unlink()


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _serves(pid: int, data: Path) -> bool:
    """Whether a process is a server of that data directory: a server works inside it.

    A pid alone proves nothing, for it is given again to others, to another PostgreSQL perhaps.
    """
    if Path("/proc/self").exists():
        try:
            return Path(f"/proc/{pid}/cwd").samefile(data)
        except OSError:
            return False
    command = ["ps", "-ww", "-o", "command=", "-p", str(pid)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)  # noqa: S603 - a number, a standard tool
    return os.fsencode(data) in done.stdout
