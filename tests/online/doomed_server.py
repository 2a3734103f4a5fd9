"""A server that is killed, at once or process by process, and started again on what it had written."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from sqlalchemy.util import await_only

from db.embedded import EmbeddedServer, embedded_server
from tests.conftest import FAST
from tests.online.crash import Hurts

# What was committed is in the hands of the kernel, which is not killed.
SETTINGS = {**FAST, "synchronous_commit": "on"}


class DoomedServer:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stack = ExitStack()
        self.start()

    def start(self) -> None:
        self.server: EmbeddedServer = self.stack.enter_context(embedded_server(self.folder, settings=SETTINGS))

    def restart(self) -> None:
        """After it was killed."""
        self.stack.close()
        self.start()

    @property
    def postmaster(self) -> int:
        return int((self.server.data_dir / "postmaster.pid").read_text().splitlines()[0])


@contextmanager
def doomed_server(folder: Path) -> Iterator[DoomedServer]:
    doomed = DoomedServer(folder)
    with doomed.stack:
        yield doomed


class KillsServer(Hurts):
    """kill -9 of every process of it."""

    server: DoomedServer

    def arrive(self, _connection: object, _commit: bool) -> None:
        if self.done:
            return
        self.done = True
        self.trade()
        self.kill()

    def kill(self) -> None:
        processes = await_only(self.shop.fetch("SELECT pid FROM pg_stat_activity"))
        for pid in (self.server.postmaster, *[row[0] for row in processes]):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class StopsServer(KillsServer):
    """As `pg_ctl stop -m immediate` does."""

    def kill(self) -> None:
        os.kill(self.server.postmaster, signal.SIGQUIT)
