"""Sets of objects that are ordered and rid of doubles here, not in the database.

To sort a handful of locations for each of a thousand items costs PostgreSQL more than all the rest of the page. So it
writes a set as it finds it, doubles and all, between control characters, which JSON never has:

    SET template NEXT member NEXT member ... END

A member is its fields as JSON with FIELD between them, in the order that sorts the set; the template is the object
that the client asked for, with HOLE and a field's number where the field goes. `finish` makes lists of them. Texts are
ordered by code points, as `COLLATE "C"` does.
"""

import re
from functools import lru_cache

import orjson
from sqlalchemy import ColumnElement, Text, func

from resolvers.sql import MARK, Json, Value, constant, json_parts

SET, NEXT, END, FIELD, HOLE = "\x01", "\x02", "\x03", "\x04", "\x05"
WRITTEN = re.compile(f"{SET}([^{END}]*){END}")
MOST_KEPT = 4096


def hole(number: int) -> Json:
    """Where a template has a field of the members."""
    return Json((f"{HOLE}{number}",))


def json_set(template: Json, *fields: Value, where: ColumnElement[bool]) -> Json:
    """The distinct members among the rows of a group, of which `where` says which have one."""
    member = [part for field in fields for part in (FIELD, *json_parts(field, null=MARK))]
    members = func.string_agg(Json((NEXT, *member[1:])).value, constant(""), type_=Text())
    return Json((SET, *template.parts, members.filter(where), END))


def finish(text: str) -> str:
    """An answer of the database with its sets as lists."""
    return WRITTEN.sub(_list, text) if SET in text else text


def _list(written: re.Match[str]) -> str:
    template, *members = written[1].split(NEXT)
    shown = sorted({_shown(template, member) for member in members})
    return f"[{','.join(json for _, json in shown)}]"


@lru_cache(MOST_KEPT)
def _shown(template: str, member: str) -> tuple[tuple[str, ...], str]:
    """What a member is sorted by, and its JSON."""
    fields = member.split(FIELD)
    json = re.sub(f"{HOLE}(.)", lambda hole: fields[int(hole[1])], template)
    return tuple(map(orjson.loads, fields)), json
