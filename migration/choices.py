"""What the operator chooses in place of a NULL (R16). Nothing is chosen unless asked for; what was is in the ledger.

An opening batch has its item's value, and while that is NULL what was chosen when it was copied: in the copy, wherever
both systems are compared, and in the triggers.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Text, case, cast, func, literal, null
from sqlalchemy.dialects.postgresql import JSONB

from db import tables
from db.errors import StockshiftError

Chosen = ColumnElement[Any] | None
"""A JSON object of choices by the batch's column; None where nothing can have been chosen."""

CHOOSABLE = {name: tables.OPENING_COLUMNS[name] for name in ("costPerUnitUSD", "orderDate", "status")}

MOST_COST = 1e12
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}:\d{2}(\.\d{3})?)?", re.ASCII)


class InvalidChoice(StockshiftError):
    """What was chosen in place of a NULL cannot be a batch's."""


@dataclass(frozen=True)
class Choices:
    """For items whose column is NULL. `order_date` is UTC without a zone, in whole milliseconds."""

    cost: float | None = None
    order_date: datetime | None = None
    status: str | None = None

    @classmethod
    def parse(cls, cost: str | None, order_date: str | None, status: str | None) -> "Choices":
        """As an operator writes them; None: not chosen. Raises InvalidChoice. A status is a label, or is found not to
        be when the database is looked at."""
        return cls(None if cost is None else _cost(cost), None if order_date is None else _date(order_date), status)

    def to_json(self) -> dict[str, Any]:
        """By the batch's column, as the copy ledger and the run keep them."""
        date = None if self.order_date is None else self.order_date.isoformat(timespec="milliseconds")
        chosen = {"costPerUnitUSD": self.cost, "orderDate": date, "status": self.status}
        return {name: value for name, value in chosen.items() if value is not None}

    @classmethod
    def from_json(cls, chosen: dict[str, Any]) -> "Choices":
        date = chosen.get("orderDate")
        return cls(chosen.get("costPerUnitUSD"), datetime.fromisoformat(date) if date else None, chosen.get("status"))

    @property
    def chosen(self) -> Chosen:
        chosen = self.to_json()
        return literal(chosen, JSONB(none_as_null=True)) if chosen else None


def _cost(words: str) -> float:
    try:
        cost = float(words)
    except ValueError:
        cost = -1
    if not 0 <= cost <= MOST_COST:
        raise InvalidChoice(f"{words!r} is no cost; give a number from 0 to {MOST_COST:.0f}, in USD a unit")
    return cost + 0.0  # never -0


def _date(words: str) -> datetime:
    if words == "today":
        return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    try:
        return datetime.fromisoformat(words if _DATE.fullmatch(words) else "")
    except ValueError as error:
        raise InvalidChoice(
            f"{words!r} is no order date; give `today`, YYYY-MM-DD or YYYY-MM-DDTHH:MM:SS.mmm, in UTC"
        ) from error


def or_chosen(name: str, value: ColumnElement[Any], chosen: Chosen) -> ColumnElement[Any]:
    """An item's value for the batch's column `name`, or what was chosen in its place."""
    if chosen is None or name not in CHOOSABLE:
        return value
    return func.coalesce(value, cast(chosen[name].astext, value.type))


def taken(item: FromClause, chosen: Chosen) -> ColumnElement[Any]:
    """The part of the choices that an item takes; NULL for none."""
    if chosen is None:
        return cast(null(), JSONB)
    pairs: list[ColumnElement[Any]] = []
    for name, column in CHOOSABLE.items():
        value = func.jsonb_extract_path(chosen, literal(name, Text))  # a subscript would be part of a cast's type
        pairs += [literal(name, Text), case((item.c[column].is_(null()), value))]
    return func.nullif(func.jsonb_strip_nulls(func.jsonb_build_object(*pairs)), cast(literal("{}", Text), JSONB))
