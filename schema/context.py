"""What every resolver of one operation can reach: who asks, and what answers."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from db.wal import Consistency
from resolvers.driving import Driving
from resolvers.polls import Polls
from resolvers.reader import Reader
from resolvers.selection import Selected
from resolvers.viewer import Viewer


@dataclass
class Context:
    """`direct` is the unpooled engine, for verification and migration; `tasks` outlive the request.

    `selected` is what a mutation or a subscription asks for, by the keys of its root fields; `fault` is why a query
    cannot be answered.
    """

    viewer: Viewer
    reader: Reader
    direct: AsyncEngine
    tasks: set[asyncio.Task[Any]]
    driving: Driving
    selected: dict[str, Selected] = field(default_factory=dict)
    fault: Exception | None = None
    consistency: Consistency = field(default_factory=Consistency)
    polls: Polls = field(default_factory=Polls)

    def anew(self) -> "Context":
        """For another operation of the same viewer."""
        return Context(self.viewer, self.reader, self.direct, self.tasks, self.driving, polls=self.polls)
