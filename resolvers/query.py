"""The root fields of a query: who may ask, and the expression that answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, Text, select

from resolvers import batch, history, item, items, place, read_differences, verification
from resolvers.errors import BadRequest, Forbidden
from resolvers.guard import guard
from resolvers.scope import Scope
from resolvers.selection import Selected
from resolvers.sql import Json, Value
from resolvers.text import shown, storable, texts_in
from resolvers.viewer import Role, Viewer


@dataclass(frozen=True)
class Root:
    """`answer` builds one expression of JSON; `role` is the least that may ask."""

    answer: Callable[[Scope, Selected], Value | Json]
    role: Role = Role.STAFF


def _id(scope: Scope, selected: Selected) -> Value:
    return scope.bind(selected.arguments["id"], Text())


def _item(scope: Scope, selected: Selected) -> Value:
    return item.one_item(scope, _id(scope, selected), selected, compared=scope.compares)


ROOTS: Mapping[str, Root] = {
    "item": Root(_item),
    "items": Root(items.items),
    "batch": Root(lambda scope, selected: batch.one_batch(scope, _id(scope, selected), selected)),
    "locations": Root(lambda scope, selected: place.locations(scope, selected)),
    "stockSummary": Root(items.stock_summary),
    "verification": Root(
        lambda scope, selected: verification.one_verification(scope, _id(scope, selected), selected), Role.MANAGER
    ),
    "verifications": Root(verification.verifications, Role.MANAGER),
    # Not of a query, but of its `migration`: see resolvers/parts.py.
    "history": Root(history.history, Role.MANAGER),
    "readDifferences": Root(read_differences.read_differences, Role.MANAGER),
}


def require(viewer: Viewer, role: Role, name: str) -> None:
    """Raises Forbidden unless the viewer has at least this role."""
    if viewer.role < role:
        raise Forbidden(f"{name} needs role {role.name}; this token's role is {viewer.role.name}")


def require_storable(selected: Selected) -> None:
    """Raises BadRequest for an argument, here or below, with a text that the database cannot have."""
    for name, value in selected.arguments.items():
        for text in texts_in(value):
            if not storable(text):
                raise BadRequest(
                    f"{selected.name}: {name} has {shown(text)}, but no text here has a NUL or half a surrogate pair"
                )
    for child in selected.children:
        require_storable(child)


def answer(scope: Scope, viewer: Viewer, selected: Selected) -> Value:
    """The expression that answers one root field. Raises Forbidden or BadRequest."""
    root = ROOTS[selected.name]
    require(viewer, root.role, selected.name)
    require_storable(selected)
    found = root.answer(scope, selected)
    return found.value if isinstance(found, Json) else found


def statement(scope: Scope, answers: list[Value]) -> Select[*tuple[Any, ...]]:
    """Everything that an operation asks for as one statement; its first column says whether the shape still fits."""
    columns = [value.label(f"answer_{position}") for position, value in enumerate(answers)]
    return select(guard(scope.shape).label("fits"), *columns)
