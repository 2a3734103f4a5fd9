"""What a run was asked to do; kept with the run, so that whoever takes it over does the same."""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Text, exists, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from db.errors import StockshiftError
from db.shape import Shape
from migration.candidates import Among, among_ids, everything
from migration.choices import Choices
from migration.throttle import Throttle

NAMED = 5


class UnknownItems(StockshiftError):
    """Items were asked for that do not exist."""


class UnknownLabel(StockshiftError):
    """A status was chosen that type "Status" lacks."""


@dataclass(frozen=True)
class Options:
    """`chunk_size`: at most so many items a chunk; `items`: these alone, none for all."""

    chunk_size: int | None = None
    throttle: Throttle = field(default_factory=Throttle)
    choices: Choices = field(default_factory=Choices)
    items: tuple[str, ...] = ()

    @property
    def among(self) -> Among:
        return among_ids(self.items) if self.items else everything

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


async def require_known(connection: AsyncConnection, shape: Shape, options: Options) -> None:
    """Raises UnknownItems, UnknownLabel for what is asked for and is not in the database."""
    status = options.choices.status
    if status is not None and status not in shape.status_labels:
        raise UnknownLabel(f'{status!r} is no label of type "Status"; choose one of {", ".join(shape.status_labels)}')
    if not options.items:
        return
    asked = select(func.unnest(literal(list(options.items), ARRAY(Text))).label("id")).subquery("asked")
    missing = select(asked.c.id).where(~exists().where(tables.items.c.id == asked.c.id)).limit(NAMED + 1)
    unknown = list((await connection.execute(missing)).scalars())
    if unknown:
        more = ", …" if len(unknown) > NAMED else ""
        raise UnknownItems(f"there is no item {', '.join(map(repr, unknown[:NAMED]))}{more}; nothing was changed")
