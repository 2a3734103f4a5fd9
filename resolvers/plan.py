"""A plan: one SQL statement for all root fields of an operation, made once and run for every request like it.

How an operation becomes bytes, in the order of the modules:

1. `selection` collects what the operation asks for, as a tree, with `arrivals` in place of texts that come with each
   request: the tree depends on the document and the shape of its variables, not on their values.
2. `query` finds each root field's meaning, which builds one expression of JSON out of the relations of a `scope`.
   The scope notes the parameters that the statement gets for what arrives.
3. This module puts the expressions into one statement behind the shape's guard, and renders it as text, once.
4. `reader` keeps plans, binds what arrived, runs the statement, has `sets` put in order what the database left as it
   came, and answers either values for graphql-core to walk through or, when it can do so faithfully, the bytes of the
   response.

*Faithfully*: graphql-core would turn some values into errors, such as NULL where the schema says there is none, or an
infinite Float. The database writes MARK for the one, which no data can contain, and a text for the other; a response
with either is left to graphql-core.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

from db.errors import StockshiftError
from resolvers.errors import BadRequest
from resolvers.query import ROOTS, answer, statement
from resolvers.scope import Arriving, Scope
from resolvers.selection import Selected
from resolvers.sql import MARK
from resolvers.text import storable, texts_in
from resolvers.viewer import Viewer

DIALECT = PGDialect_asyncpg()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves dialects untyped


MARK_BYTES = MARK.encode()


@dataclass(frozen=True)
class Plan:
    """`keys` are the columns after the guard; `errors` are the root fields that cannot be answered, and why.

    `roots` are all keys of the response in order, each with the JSON that is known already, of `__typename`; they are
    the `whole` response unless some root field is in error, or has a resolver of its own. `inputs` is everything that
    arrives: what the statement turned out not to need is checked all the same.
    """

    sql: str
    parameters: tuple[Arriving | Any, ...]
    inputs: tuple[Arriving, ...]
    keys: tuple[str, ...]
    roots: tuple[tuple[str, str], ...]
    whole: bool
    errors: Mapping[str, StockshiftError] = field(default_factory=dict)

    def arguments(self, arriving: Mapping[str, Any]) -> tuple[Any, ...]:
        """The statement's parameters. Raises BadRequest for a value that cannot be one."""
        values = {one: one.value(arriving) for one in self.inputs}
        if not all(map(storable, texts_in(list(values.values())))):
            raise BadRequest("a text has a NUL or half a surrogate pair")
        return tuple(values[one] if isinstance(one, Arriving) else one for one in self.parameters)


def make_plan(scope: Scope, viewer: Viewer, selections: Sequence[Selected]) -> Plan:
    expressions: dict[str, ColumnElement[Any]] = {}
    errors: dict[str, StockshiftError] = {}
    for selected in selections:
        if selected.name in ROOTS:
            try:
                expressions[selected.key] = answer(scope, viewer, selected)
            except StockshiftError as error:
                errors[selected.key] = error
    sql, parameters = _render(scope, list(expressions.values()))
    roots = tuple((selected.key, f'"{selected.parent}"') for selected in selections)
    whole = not errors and all(selected.name in ROOTS or selected.name == "__typename" for selected in selections)
    inputs = tuple(one for one in scope.bound.values() if one is not None)
    return Plan(sql, parameters, inputs, tuple(expressions), roots, whole, errors)


def is_faithful(body: bytes) -> bool:
    """Nothing in it would be an error to graphql-core. A text that looks like one costs time, no more."""
    return MARK_BYTES not in body and b'"NaN"' not in body and b'Infinity"' not in body


def _render(scope: Scope, expressions: list[ColumnElement[Any]]) -> tuple[str, tuple[Any, ...]]:
    """The statement's text, and its parameters in the order of $1, $2 and on: what arrives, and our own constants."""
    compiled = statement(scope, expressions).compile(dialect=DIALECT, compile_kwargs={"render_postcompile": True})
    names = compiled.positiontup or ()
    return str(compiled), tuple(scope.bound.get(name) or compiled.params[name] for name in names)
