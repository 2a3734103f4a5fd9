"""Knowing at once that the process is told to stop: the server tells the application only when nobody is connected."""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

TO_STOP = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def on_signal_to_stop(told: Callable[[], None]) -> Iterator[None]:
    """`told` is called, besides what the signal does anyhow. Only where signals arrive: in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {number: signal.getsignal(number) for number in TO_STOP}

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(told)
        if callable(then := before[signal.Signals(number)]):
            then(number, frame)

    for number in TO_STOP:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
