"""How the differences that dual reads found are answered: the latest first."""

from sqlalchemy import DateTime, func

from resolvers.connection import Order, Rows, connection
from resolvers.row import Row
from resolvers.scope import Scope
from resolvers.selection import Selected
from resolvers.sql import Fields, Json, Value, column, instant

DIFFERENCE: Fields[Row] = {
    "itemId": column("item_id"),
    "cause": column("cause"),
    "explained": column("explained"),
    "legacyQuantity": column("legacy_quantity"),
    "batchQuantity": column("batch_quantity"),
    "times": column("times"),
    "at": lambda difference, _: instant(_at(difference)),
}


def read_differences(scope: Scope, selected: Selected) -> Value | Json:
    """A page of those of items that may be seen."""

    def rows() -> Rows[Row]:
        table = scope.read_differences()
        row = Row(scope, table)
        return Rows(table, row, [], Order("LATEST_DIFFERENCE", _at(row), table.c.item_id, descending=True))

    return connection(scope, selected, rows, lambda page: Row(scope, page), DIFFERENCE)


def _at(difference: Row) -> Value:
    return func.timezone("UTC", difference.c.at, type_=DateTime())
