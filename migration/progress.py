"""How a stage of the migration tells how far it is; the same for a terminal, a log line, or a subscription."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """`done` of `total` rows of `stage`; what is waited for now; how many rows a chunk has."""

    stage: str
    done: int
    total: int
    waiting: str | None = None
    chunk: int | None = None


Report = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """Nobody is looking."""
