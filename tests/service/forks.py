"""Commands in processes that are forked off one that has imported everything: to import takes longer than most
commands do."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import reduction
from pathlib import Path
from typing import Any

from service import cli

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["service.cli", *(f"service.commands.{verb.replace('-', '_')}" for verb in cli.VERBS)])


class Handed:
    """A file that the process shall have, under a number of its own there."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return detached, (reduction.DupFd(self.number),)


def detached(handed: Any) -> int:
    return int(handed.detach())


def run_forked(
    arguments: Sequence[str], env: Mapping[str, str], cwd: Path | None, out: int, err: int, seconds: float
) -> int:
    """The exit code of `stockshift` with these arguments, which writes to these two files and has nothing to read."""
    process = FORKS.Process(target=command, args=(arguments, env, cwd, Handed(out), Handed(err)))
    process.start()
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        raise subprocess.TimeoutExpired(list(arguments), seconds)
    return process.exitcode


def command(arguments: Sequence[str], env: Mapping[str, str], cwd: Path | None, out: int, err: int) -> None:
    for number, stream in enumerate((os.open(os.devnull, os.O_RDONLY), out, err)):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  # it was closed
    if cwd is not None:
        os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = ["stockshift", *arguments]
    cli.main()
