"""What an online run was asked to do; kept with the run, so that whoever takes it over does the same."""

from dataclasses import dataclass, field
from typing import Any

from migration.choices import Choices
from migration.throttle import Throttle


@dataclass(frozen=True)
class Options:
    """`chunk_size`: at most so many items a chunk; `items`: these alone, none for all."""

    chunk_size: int | None = None
    throttle: Throttle = field(default_factory=Throttle)
    choices: Choices = field(default_factory=Choices)
    items: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "chunk_size": self.chunk_size,
            "throttle": self.throttle.to_json(),
            "choices": self.choices.to_json(),
            "items": list(self.items),
        }

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> "Options":
        return cls(
            kept["chunk_size"],
            Throttle.from_json(kept["throttle"]),
            Choices.from_json(kept["choices"]),
            tuple(kept["items"]),
        )
