"""Looking at the database again and again while somebody watches: once for all who watch the same."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

SECONDS = 0.5
"""Between two looks, at least; a look that took longer than this is followed by a pause as long as it."""


@dataclass(eq=False)
class Poll:
    """What was seen last. `version` counts the changes; `changed` is set with the next, and then another event."""

    task: asyncio.Task[None] | None = None
    watchers: int = 0
    version: int = 0
    value: Any = None
    failure: Exception | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, read: Callable[[], Awaitable[Any]]) -> None:
        """Looks until it is cancelled, or a look fails."""
        while self.failure is None:
            began = time.monotonic()
            try:
                value = await read()
            except Exception as failure:
                self._change(self.value, failure)
            else:
                if not self.version or value != self.value:
                    self._change(value, None)
                await asyncio.sleep(max(SECONDS, time.monotonic() - began))

    def _change(self, value: Any, failure: Exception | None) -> None:
        self.value, self.failure = value, failure
        self.version += 1
        self.changed.set()
        self.changed = asyncio.Event()


class Polls:
    """The looks that one process takes."""

    def __init__(self) -> None:
        self._polls: dict[Hashable, Poll] = {}

    @property
    def running(self) -> int:
        """How many different things are looked at now."""
        return len(self._polls)

    async def values(self, key: Hashable, read: Callable[[], Awaitable[T]]) -> AsyncGenerator[T, None]:
        """What `read` answers now, and then each time it answers something else. Raises what `read` raises.

        All who give the same key see what the `read` of the first answers. Who is slow misses what was in between.
        Close it: with the last who watches the looking ends.
        """
        poll = self._polls.get(key)
        if poll is None or poll.failure is not None:
            poll = self._polls[key] = Poll()
            poll.task = asyncio.create_task(poll.run(read))
        poll.watchers += 1
        try:
            seen = 0
            while True:
                while poll.version == seen:
                    await poll.changed.wait()
                seen = poll.version
                if poll.failure is not None:
                    raise poll.failure
                yield poll.value
        finally:
            poll.watchers -= 1
            if not poll.watchers:
                await self._end(key, poll)

    async def _end(self, key: Hashable, poll: Poll) -> None:
        if self._polls.get(key) is poll:
            del self._polls[key]
        if poll.task is not None:
            poll.task.cancel()
            await asyncio.wait([poll.task])
