"""Locations and users: the two things that a batch or an item points at by id."""

from collections.abc import Callable

from sqlalchemy import FromClause, case, collate, null, select

from resolvers.row import Row
from resolvers.scope import Scope
from resolvers.selection import Selected
from resolvers.sets import hole, json_set
from resolvers.sql import Fields, HasColumns, Json, Value, column, json_list, json_object

LOCATION: Fields[Row] = {"id": column("id"), "name": column("name")}
USER: Fields[Row] = {"id": column("id"), "name": column("name")}


def location(row: Row, selected: Selected) -> Value:
    """The location of an item or a batch; NULL when there is none that the viewer may see."""
    return _pointed(row, "locationId", Scope.locations, LOCATION, selected)


def user(row: Row, selected: Selected) -> Value:
    return _pointed(row, "assignedUserId", Scope.users, USER, selected)


def _pointed(
    row: Row, column: str, relation: Callable[[Scope], FromClause], fields: Fields[Row], selected: Selected
) -> Value:
    target = Row(row.scope, row.pointed(column, relation))
    return case((target.c.id.is_not(null()), json_object(target, fields, selected.children).value))


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
