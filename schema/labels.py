"""The labels of the database's `Status` as values of the schema's.

PostgreSQL takes any text as a label, GraphQL takes letters, digits and underscores. A label that GraphQL takes is its
own name. Of another one the ASCII letters and digits are taken, with underscores between words: "In transit" is
`In_transit`. What is no name even so begins with `Status_`, and a name that is taken ends in `_2`, `_3` and so on.
"""

import re
import unicodedata
from collections.abc import Iterable
from itertools import count

from resolvers.status import Status

NAME = re.compile(r"(?!__)[_A-Za-z][_0-9A-Za-z]*")
NOT_NAMES = {"true", "false", "null"}


def labels_by_name(labels: Iterable[str]) -> dict[str, str]:
    """The four that every shop has, and these, by their names in GraphQL."""
    own = [label for label in labels if label not in list(Status)]
    names = {str(label): str(label) for label in [*Status, *filter(is_name, own)]}
    for label in own:
        if not is_name(label):
            name = named(label)
            free = next(n for n in count(1) if _numbered(name, n) not in names)
            names[_numbered(name, free)] = label
    return names


def named(label: str) -> str:
    """What a label is called when no other label is called so."""
    if is_name(label):
        return label
    without_accents = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode()
    bare = re.sub(r"[^0-9A-Za-z]+", "_", without_accents).strip("_")
    return bare if is_name(bare) else f"Status_{bare}"


def is_name(label: str) -> bool:
    return NAME.fullmatch(label) is not None and label not in NOT_NAMES


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}_{number}"
