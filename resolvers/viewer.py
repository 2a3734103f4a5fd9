"""Who asks: what a verified token says of its bearer."""

from dataclasses import dataclass
from enum import IntEnum


class Role(IntEnum):
    """Each role may do what the ones before it may."""

    STAFF = 1
    MANAGER = 2
    ADMIN = 3


@dataclass(frozen=True)
class Viewer:
    """The bearer of a token. `company` None: all companies."""

    subject: str
    role: Role
    company: str | None = None
