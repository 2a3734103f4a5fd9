"""Values that arrive with each request, and what stands for them in a plan.

A plan is made once for a document and a *shape* of its variables, and used again for other values. In it texts, and
lists, are `Arrival`s: where the value will come from, not the value. Everything else about the variables is part of
the shape: which are given, which are null, booleans, enums and numbers, because they decide what the SQL is.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


@dataclass(frozen=True)
class Arrival:
    """The value at a path into what arrives: a variable's name, then the fields of input objects."""

    path: tuple[str, ...]

    def of(self, arriving: Mapping[str, Any]) -> Any:
        value: Any = arriving
        for step in self.path:
            value = value[step]
        return value


def arrives(value: Any) -> bool:
    """The value, or a part of a list that is written in the document, is not known yet."""
    return isinstance(value, Arrival) or (isinstance(value, list) and any(map(arrives, value)))


def arrived(value: Any, arriving: Mapping[str, Any]) -> Any:
    """The value, with what arrived in place of what was not known."""
    if isinstance(value, Arrival):
        return value.of(arriving)
    return [arrived(part, arriving) for part in value] if isinstance(value, list) else value


def shape_of(value: Any, path: tuple[str, ...] = ()) -> tuple[Hashable, Any]:
    """The shape of coerced variables, and the variables with Arrivals in them."""
    if isinstance(value, dict):
        parts = {name: shape_of(part, (*path, name)) for name, part in value.items()}
        shape = tuple((name, part[0]) for name, part in sorted(parts.items()))
        return shape, {name: part[1] for name, part in parts.items()}
    if isinstance(value, Enum) or value is None or isinstance(value, bool | int | float):
        return (type(value).__name__, value), value
    return type(value).__name__, Arrival(path)
