"""A row of a relation in a statement under construction."""

from sqlalchemy import FromClause

from resolvers.scope import Scope


class Row:
    """What fields are answered from: the relation's columns, and the scope for what they point at."""

    def __init__(self, scope: Scope, table: FromClause) -> None:
        self.scope = scope
        self.table = table
        self.c = table.c

    def source(self) -> FromClause:
        """What to select the row from, joined with what its fields asked for."""
        return self.table
