"""A program between the owner and PostgreSQL: it stops PostgreSQL when its owner is gone, however that came.

Its standard input is a pipe that the owner holds open and never writes to. The kernel closes it when the owner ends,
kill -9 included. Runs as a file of its own, on the standard library alone, in its own session: a Ctrl-C in the terminal
reaches the owner first.

    python embedded_watchdog.py UID GID LOCK PROGRAM [ARGUMENT ...]

UID, GID: whom PROGRAM runs as, when the watchdog is root. LOCK: a file descriptor that PROGRAM inherits.
The exit status is PROGRAM's.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence

# Seconds that each way of stopping has before the next, harder one: fast, then immediate, then kill.
STOP_SECONDS = 60.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)

LOG_BYTES = 16 * 2**20
LOG_BYTES_KEPT = 2**20
LOG_SECONDS = 60.0

_OWNER = 0
_LOG = 2
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def trim(log: int) -> None:
    """Cut a log that grew past LOG_BYTES down to its end. Whoever writes it must append (O_APPEND)."""
    size = os.fstat(log).st_size
    if size > LOG_BYTES:
        kept = os.pread(log, LOG_BYTES_KEPT, size - LOG_BYTES_KEPT)
        os.ftruncate(log, 0)
        os.write(log, kept)


def _end_with_watchdog() -> Callable[[], None] | None:
    """What the child calls before it becomes PROGRAM, so that killing the watchdog stops PROGRAM too.

    Linux only; elsewhere the next start finds and stops what was left. The kernel counts the end of the parent's
    *thread*, and the watchdog has only one.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    watchdog = os.getpid()

    def before_exec() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
        if os.getppid() != watchdog:  # it ended before the request was made
            os._exit(1)

    return before_exec


def _until_unwanted(child: "subprocess.Popen[bytes]", wake: int) -> None:
    while child.poll() is None:
        readable, _, _ = select.select([_OWNER, wake], [], [], LOG_SECONDS)
        if _OWNER in readable:
            return
        if wake in readable and set(os.read(wake, 4096)) - {signal.SIGCHLD}:
            return
        trim(_LOG)


def _stop(child: "subprocess.Popen[bytes]") -> int:
    for stop in STOP_SIGNALS:
        child.send_signal(stop)
        try:
            return child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    return child.wait()


def main(uid: int, gid: int, lock: int, command: Sequence[str]) -> int:
    # Signals come as bytes on a pipe, so that none is lost between two looks.
    wake, wake_end = os.pipe()
    os.set_blocking(wake_end, False)
    signal.set_wakeup_fd(wake_end)
    for heard in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(heard, lambda *_: None)
    switch = os.geteuid() == 0
    child = subprocess.Popen(  # noqa: S603 - the command is the owner's
        command,
        stdin=subprocess.DEVNULL,
        pass_fds=(lock,),
        user=uid if switch else None,
        group=gid if switch else None,
        extra_groups=[] if switch else None,
        preexec_fn=_end_with_watchdog(),
    )
    os.close(lock)  # it tells whether PROGRAM lives, not whether we do
    _until_unwanted(child, wake)
    return _stop(child)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
