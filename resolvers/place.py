"""Locations and users: the two things that a batch or an item points at by id."""

from collections.abc import Callable

from sqlalchemy import FromClause, collate, null, select

from resolvers.row import Row
from resolvers.scope import Scope
from resolvers.selection import Selected
from resolvers.sets import hole, json_set
from resolvers.sql import Fields, HasColumns, Json, Value, column, json_list, json_object

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


def locations(scope: Scope, selected: Selected) -> Value:
    """All locations, by name then id."""
    row = Row(scope, scope.locations())
    return select(json_list(json_object(row, LOCATION, selected.children), *in_order(row)).value).scalar_subquery()


def in_order(row: HasColumns) -> list[Value]:
    """By name then id, in the order of code points: that of the sets in resolvers/sets.py, and of any server."""
    return [collate(row.c.name, "C"), collate(row.c.id, "C")]


def location_set(line: HasColumns, selected: Selected) -> Json:
    """The distinct locations, by name then id, of lines that have their `id` and `name`."""
    template = json_object(None, {"name": lambda _, __: hole(0), "id": lambda _, __: hole(1)}, selected.children)
    return json_set(template, line.c.name, line.c.id, where=line.c.id.is_not(null()))
