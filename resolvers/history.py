"""How the audit is answered: acts, latest first."""

from sqlalchemy import Text, cast, func

from resolvers.connection import Order, Rows, connection
from resolvers.row import Row
from resolvers.scope import Scope
from resolvers.selection import Selected
from resolvers.sql import JSON_TEXT, Fields, Json, Value, column, instant

ACT: Fields[Row] = {
    "id": lambda act, _: cast(act.c.id, Text),
    "at": lambda act, _: instant(func.timezone("UTC", act.c.at)),
    "action": column("action"),
    "actor": column("actor"),
    "application": column("application"),
    "role": column("role"),
    "client": column("client"),
    "details": lambda act, _: cast(act.c.details, JSON_TEXT),
}


def history(scope: Scope, selected: Selected) -> Value | Json:
    """A page of what may be seen of it."""

    def rows() -> Rows[Row]:
        table = scope.acts()
        return Rows(table, Row(scope, table), [], Order("LATEST_ACT", table.c.id, table.c.id, descending=True))

    return connection(scope, selected, rows, lambda page: Row(scope, page), ACT)
