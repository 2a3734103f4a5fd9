"""Locations and users: the two things that a batch or an item points at by id."""

from collections.abc import Callable

from sqlalchemy import ColumnElement, FromClause, select

from resolvers.row import Row
from resolvers.scope import Scope
from resolvers.selection import Selected
from resolvers.sql import Fields, Value, column, json_list, json_object

LOCATION: Fields[Row] = {"id": column("id"), "name": column("name")}
USER: Fields[Row] = {"id": column("id"), "name": column("name")}


def one(
    relation: Callable[[Scope], FromClause], fields: Fields[Row], scope: Scope, id_: Value, selected: Selected
) -> Value:
    """The row with an id as an object; NULL when there is none that the viewer may see."""
    row = Row(scope, relation(scope))
    return select(json_object(row, fields, selected.children).value).where(row.c.id == id_).scalar_subquery()


def location(scope: Scope, id_: Value, selected: Selected) -> Value:
    return one(Scope.locations, LOCATION, scope, id_, selected)


def user(scope: Scope, id_: Value, selected: Selected) -> Value:
    return one(Scope.users, USER, scope, id_, selected)


def locations(
    scope: Scope, selected: Selected, which: Callable[[FromClause], ColumnElement[bool]] | None = None
) -> Value:
    """Locations as a list, by name then id; `which` narrows them."""
    row = Row(scope, scope.locations())
    query = select(json_list(json_object(row, LOCATION, selected.children), row.c.name, row.c.id).value)
    return (query if which is None else query.where(which(row.table))).scalar_subquery()
