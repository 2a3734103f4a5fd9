"""The service with a profiler that is off until it is asked for."""

import os
import pstats
import signal
import sys
from pathlib import Path

from bench.contestants import Assignment
from bench.processes import Cores
from bench.profiling import awaited
from bench.service import service


def test_a_profile_has_what_was_asked_between_its_signals(shop_url: str, tmp_path: Path) -> None:
    file = tmp_path / "profile"

    def command(given: Assignment) -> list[str]:
        return [sys.executable, "-m", "bench.profiled", str(file), "serve", "--port", str(given.port)]

    def calls(asked: int) -> int:
        os.kill(running.process.pid, signal.SIGUSR1)
        for _ in range(asked):
            running.client.graphql("{ items(first: 1) { edges { node { id } } } }")
        os.kill(running.process.pid, signal.SIGUSR2)
        stats = pstats.Stats(str(awaited(file))).stats  # type: ignore[attr-defined]  # typeshed leaves it out
        file.unlink()
        return sum(count for (_, _, name), (_, count, *_) in stats.items() if name == "on_message_complete")

    with service(shop_url, Cores.choose().server, command) as running:
        running.client.graphql("{ items(first: 1) { edges { node { id } } } }")
        assert [calls(3), calls(2)] == [3, 2]
