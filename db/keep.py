"""What is kept because it may be wanted again, as much of it as there is room for."""

from typing import TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


def keep(kept: dict[Key, Value], key: Key, value: Value, *, most: int) -> None:
    """Keeps what came last; what came first goes when there is too much."""
    while len(kept) >= most:
        kept.pop(next(iter(kept)))
    kept[key] = value
