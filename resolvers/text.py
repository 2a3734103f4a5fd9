"""Texts that come from outside."""

from collections.abc import Iterator, Mapping, Sequence

LONGEST_SHOWN = 60


def storable(value: str) -> bool:
    """PostgreSQL can have it: no NUL, and no half of a surrogate pair."""
    try:
        return b"\0" not in value.encode()
    except UnicodeEncodeError:
        return False


def shown(value: str) -> str:
    """A value quoted for a message, without the rest of a long one."""
    return repr(value if len(value) <= LONGEST_SHOWN else value[:LONGEST_SHOWN] + "…")


def texts_in(value: object) -> Iterator[str]:
    """Every text in an argument, however deep in lists and inputs."""
    match value:
        case str():
            yield value
        case Mapping():
            for part in value.values():
                yield from texts_in(part)
        case Sequence():
            for part in value:
                yield from texts_in(part)
