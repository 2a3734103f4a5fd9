"""What an operation costs: how many objects its answer can have, known before anything is planned.

An object is what stands in braces in the answer; a connection, each of its edges and each node are objects too. A page
has as many rows as `first` says, so pages within pages multiply. For what cannot be known so there are two constants:
a list without `first` is taken to have LISTED objects, and counting or summing up a whole list costs COUNTED on top.
Scalars, and lists of them, cost nothing.

A page of 1000 items is 1 connection, 1000 edges and 1000 nodes: 2001. With a page of 50 batches in each it is
1 + 1000 * (2 + 1 + 50 * 2) = 103,001.
"""

from collections.abc import Iterable

from resolvers.connection import page_size
from resolvers.errors import BadRequest
from resolvers.selection import Selected

LISTED = 20
COUNTED = 100
COUNTS = {"totalCount", "stockSummary"}
"""Fields that are small in the answer, and whose work is that of a whole list."""


def cost(selections: Iterable[Selected], most_rows: int) -> int:
    """Of the root fields together; a page has `most_rows` at most."""
    return sum(_times(one, LISTED) * _each(one, most_rows) for one in selections)


def _each(selected: Selected, most_rows: int) -> int:
    """Of the field's value, or of each in its list."""
    work = COUNTED if selected.name in COUNTS else 0
    if not selected.has_fields:
        return work
    rows = _rows(selected, most_rows) if "first" in selected.arguments else LISTED
    return work + 1 + sum(_times(child, rows) * _each(child, most_rows) for child in selected.children)


def _times(selected: Selected, rows: int) -> int:
    return rows if selected.is_list else 1


def _rows(selected: Selected, most_rows: int) -> int:
    try:
        return page_size(selected, most_rows)
    except BadRequest:  # so is the field, with the reason, when it is planned
        return 0
