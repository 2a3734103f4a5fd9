"""One statement of the migration, as data: what `plan` shows is what `migrate` runs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """`why` is for a person."""

    why: str
    sql: str
