"""The service with a profiler that is off until it is asked for: `python -m bench.profiled FILE serve --port N`.

SIGUSR1 begins a profile, SIGUSR2 ends it and leaves it in FILE, for pstats.
"""

import cProfile
import os
import signal
import sys

from service.cli import main


def profile_on_demand(file: str) -> None:
    profiler = cProfile.Profile()

    def begin(*_: object) -> None:
        profiler.clear()
        profiler.enable()

    def end(*_: object) -> None:
        profiler.disable()
        profiler.dump_stats(f"{file}.part")
        os.replace(f"{file}.part", file)  # noqa: PTH105 - who waits for it sees all of it

    signal.signal(signal.SIGUSR1, begin)
    signal.signal(signal.SIGUSR2, end)


if __name__ == "__main__":
    profile_on_demand(sys.argv.pop(1))
    main()
