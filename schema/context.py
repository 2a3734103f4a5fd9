"""What every resolver of one operation can reach: who asks, and what answers."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from graphql.pyutils import Path
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

    `selected` is what an operation asks for, by the keys of its root fields, unless one statement answers it all;
    `fault` is why a query cannot be answered. `mutations` counts them by name and outcome.
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
    mutations: Counter[tuple[str, str]] = field(default_factory=Counter)

    def at(self, path: Path) -> Selected:
        """What is asked for at a place of the answer, below a root field that `selected` has."""
        keys = path.as_list()
        found = self.selected[str(keys[0])]
        for key in keys[1:]:
            found = next(child for child in found.children if child.key == key)
        return found

    def anew(self) -> "Context":
        """For another operation of the same viewer."""
        return Context(self.viewer, self.reader, self.direct, self.tasks, self.driving, polls=self.polls)
