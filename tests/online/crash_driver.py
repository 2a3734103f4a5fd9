"""Drivers of an online migration as processes of their own, which are killed: `python -m tests.online.crash_driver`.

A line of input is a URL, and the stage and number of a point; a child is forked, which drives until there and then
kills itself. Answered is how it ended: -9, or 0 when it got to the end.
"""

import asyncio
import os
import signal
import sys
from typing import Any

from tests.online.crash import Course, drive


def die(_connection: Any, _commit: bool) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def forked(url: str, stage: int, number: int) -> int:
    """Everything is imported once."""
    child = os.fork()
    if child == 0:
        asyncio.run(drive(url, Course((stage, number), die)))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    for line in sys.stdin:
        address, at, count = line.split()
        sys.stdout.write(f"{forked(address, int(at), int(count))}\n")
        sys.stdout.flush()
