"""A row of a relation in a statement under construction."""

from collections.abc import Callable

from sqlalchemy import FromClause

from resolvers.scope import Scope
from resolvers.sql import Value


class Row:
    """What fields are answered from: the relation's columns, and what is joined to it because a field asks for it."""

    def __init__(self, scope: Scope, table: FromClause) -> None:
        self.scope = scope
        self.table = table
        self.c = table.c
        self._pointed: dict[tuple[str, str], tuple[FromClause, Value]] = {}

    def pointed(self, column: str, relation: Callable[[Scope], FromClause]) -> FromClause:
        """The row whose id the column has, joined once; all NULL when there is none that the viewer may see."""
        key = (column, relation.__name__)
        if key not in self._pointed:
            target = relation(self.scope)
            self._pointed[key] = target, target.c.id == self.c[column]
        return self._pointed[key][0]

    def source(self) -> FromClause:
        """What to select the row from, when all its fields are known."""
        source = self.table
        for target, matches in self._pointed.values():
            source = source.outerjoin(target, matches)
        return source
