"""Company isolation, in the one place that reads go through (R: nothing of another company, through any field).

Resolvers never touch a table of the shop: they ask a `Scope` for it and get only what the viewer may see. An import
contract keeps `db.tables` out of the other resolvers, so a new field cannot forget.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    case,
    cast,
    exists,
    literal_column,
    null,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.types import TypeEngine

from db import tables
from db.shape import Shape
from migration.audit import CONCERNS_ALL
from resolvers.arrivals import Arrival, arrived, arrives
from resolvers.sql import constant
from resolvers.status import Status


@dataclass(frozen=True, eq=False)
class Arriving:
    """A parameter of a statement: what arrives, and what is made of it. `convert` may raise BadRequest."""

    symbol: Any
    convert: Callable[[Any], Any]

    def value(self, arriving: Mapping[str, Any]) -> Any:
        return self.convert(arrived(self.symbol, arriving))


@dataclass
class Scope:
    """Builds relations for one statement: aliases are unique, rows are the company's (None: all companies').

    `compared`: items that the operation asks for are to be answered by both systems (resolvers/dual_read.py).
    `bound` collects the statement's parameters by name, None for one whose value is known already.
    """

    shape: Shape
    company: str | Arrival | None
    most_rows: int = 1_000
    compared: bool = False
    bound: dict[str, Arriving | None] = field(default_factory=dict)
    _numbers: "count[int]" = field(default_factory=lambda: count(1))

    @property
    def compares(self) -> bool:
        """It is asked for, and there are two systems."""
        return self.compared and self.shape.has_legacy_columns and self.shape.has(tables.copy_ledger)

    def name(self, hint: str) -> str:
        return f"{hint}_{next(self._numbers)}"

    def bind(
        self, value: Any, type_: TypeEngine[Any], convert: Callable[[Any], Any] = lambda value: value
    ) -> ColumnElement[Any]:
        """A value from outside as a parameter, whether it is known or will arrive."""
        name = self.name("value")
        if arrives(value):
            self.bound[name] = Arriving(value, convert)
            return bindparam(name, None, type_)
        self.bound[name] = None
        return bindparam(name, convert(value), type_)

    def items(self) -> FromClause:
        return self._owned(tables.items, "item")

    def lockable_item(self, item_id: str) -> Select[str, str, float | None]:
        """One item's id, company and cost, its row locked against writers until the transaction ends."""
        item = tables.items
        has_cost = self.shape.has_columns(item, [item.c.costPerUnitUSD.name])
        cost = item.c.costPerUnitUSD if has_cost else cast(null(), item.c.costPerUnitUSD.type).label("costPerUnitUSD")
        query = select(item.c.id, item.c.companyId, cost).where(item.c.id == item_id)
        if self.company is not None:
            query = query.where(item.c.companyId == self.company)
        return query.with_for_update(key_share=True)

    def locations(self) -> FromClause:
        return self._owned(tables.locations, "location")

    def users(self) -> FromClause:
        return self._owned(tables.users, "user")

    def batches(self) -> FromClause:
        """Batches of the items that may be seen; an orphan belongs to nobody."""
        batch = self.shape.relation(tables.stock_batches, self.name("batch"))
        item = self.items()
        mine = select(batch).where(exists().where(item.c.id == batch.c.itemId).correlate(batch))
        return mine.subquery(self.name("batch"))

    def batches_of(self, item_id: ColumnElement[str]) -> tuple[FromClause, ColumnElement[bool]]:
        """The batches of an item that came out of this scope: the relation, and what holds of them."""
        batch = self.any_batch()
        return batch, batch.c.itemId == item_id

    def any_batch(self) -> FromClause:
        """Everybody's batches: to look up which items might be meant, and then ask `items` for these."""
        return self.shape.relation(tables.stock_batches, self.name("batch"))

    def movements_of(self, batch_id: ColumnElement[str]) -> tuple[FromClause, ColumnElement[bool]]:
        """The movements of a batch that came out of this scope: the relation, and what holds of them.

        Those of the time when the batch was another company's item's stay with that company.
        """
        movement = self.shape.relation(tables.movement, self.name("movement"))
        if self.company is not None:
            item = self.items()
            mine = select(movement).where(exists().where(item.c.id == movement.c.item_id).correlate(movement))
            movement = mine.subquery(self.name("movement"))
        return movement, movement.c.batch_id == batch_id

    def copied(self, item_id: ColumnElement[str]) -> ColumnElement[bool]:
        """The item was ever copied: it is in the copy ledger."""
        return exists(self.ledger_entry(item_id))

    def ledger_entry(self, item_id: ColumnElement[str]) -> Select[int]:
        ledger = self._ledger()
        return select(literal_column("1")).where(ledger.c.item_id == item_id).correlate_except(ledger)

    def is_opening_batch(self, batch_id: ColumnElement[str]) -> ColumnElement[bool]:
        ledger = self._ledger()
        return exists().where(ledger.c.batch_id == batch_id).correlate_except(ledger)

    def known_status(self, status: ColumnElement[str]) -> ColumnElement[str | None]:
        """An item's status as one of the enum's labels; a text that is none of them is no status."""
        text = cast(status, Text)
        known = [constant(label) for label in self.shape.status_labels]
        return case((text.in_(known), cast(text, tables.STATUS)))

    def bind_labels(self, statuses: Any) -> ColumnElement[Any]:
        """Statuses from outside as an array of the database's own type; one that the type lacks is no row's."""

        def known(statuses: Iterable[Status]) -> list[str]:
            return [one.value for one in statuses if one.value in self.shape.status_labels]

        return cast(self.bind(statuses, ARRAY(Text), known), ARRAY(tables.STATUS))

    def labels(self, statuses: Iterable[str]) -> list[ColumnElement[str]]:
        """Statuses as values of the database's own type; one that the type lacks is no row's."""
        return [cast(constant(one), tables.STATUS) for one in statuses if one in self.shape.status_labels]

    def verifications(self) -> FromClause:
        """The reports of one company, or of all together: a report that counts everybody is for who sees everybody."""
        report = self.shape.relation(tables.verification, self.name("verification"))
        if self.company is None:
            return report
        mine = report.c.company_id == self.bind(self.company, Text())
        return select(report).where(mine).subquery(self.name("verification"))

    def checks(self) -> FromClause:
        return self.shape.relation(tables.verification_check, self.name("check"))

    def mismatches(self) -> FromClause:
        return self.shape.relation(tables.verification_mismatch, self.name("mismatch"))

    def conservation(self) -> FromClause:
        """Who sees one company is not told the id of a place of another, where one of its own batches may be."""
        line = self.shape.relation(tables.verification_conservation, self.name("conservation"))
        if self.company is None:
            return line
        location = self.locations()
        known = exists().where(location.c.id == line.c.location_id).correlate(line)
        shown = {column.name: column for column in line.c} | {"location_id": case((known, line.c.location_id))}
        return select(*[value.label(name) for name, value in shown.items()]).subquery(self.name("conservation"))

    def explanations(self) -> FromClause:
        return self.shape.relation(tables.verification_explanation, self.name("explanation"))

    def copy_of(self, item_id: ColumnElement[str]) -> tuple[FromClause, ColumnElement[bool]]:
        """The ledger entry of an item that came out of this scope: the relation, and what holds of it."""
        ledger = self._ledger()
        return ledger, ledger.c.item_id == item_id

    def read_differences(self) -> FromClause:
        """Of items that may be seen; to who sees all companies, of items that are gone too."""
        difference = self.shape.relation(tables.read_difference, self.name("difference"))
        if self.company is None:
            return difference
        item = self.items()
        mine = select(difference).where(exists().where(item.c.id == difference.c.item_id).correlate(difference))
        return mine.subquery(self.name("difference"))

    def acts(self) -> FromClause:
        """The audit. Who sees one company has its own acts, and of those that concern everybody no more than who did
        what when: details may name others' items, and an action that is not known to concern all may be another's.
        """
        act = self.shape.relation(tables.audit, self.name("act"))
        if self.company is None:
            return act
        company = act.c.details["company"].astext
        mine = company == self.bind(self.company, Text())
        everybodys = and_(company.is_(null()), act.c.action.in_([constant(one) for one in sorted(CONCERNS_ALL)]))
        shown = {column.name: column for column in act.c} | {
            "details": case((mine, act.c.details), else_=cast(constant("{}"), JSONB)),
            "client": case((mine, act.c.client)),
        }
        return (
            select(*[value.label(name) for name, value in shown.items()])
            .where(or_(mine, everybodys))
            .subquery(self.name("act"))
        )

    def _ledger(self) -> FromClause:
        return self.shape.relation(tables.copy_ledger, self.name("ledger"))

    def _owned(self, table: Table, hint: str) -> FromClause:
        relation = self.shape.relation(table, self.name(hint))
        if self.company is None:
            return relation
        mine = relation.c.companyId == self.bind(self.company, Text())
        return select(relation).where(mine).subquery(self.name(hint))
