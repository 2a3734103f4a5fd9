"""The conservation proof (R12, R20): what was copied and what moved since is what is there, by place, to the cent.

A place is a company, a location and a status. At each, units, their value (quantity x cost) and their freight are
summed as exact numbers: what was copied is the ledger's; the movements are double entry, so a batch that changes its
place, status, cost or freight leaves as it was and comes as it is. Sums can be taken apart: of items that the sieve
proved, what was copied is their opening batch, and only of the rest is the ledger's JSON read.

Not judged is an item whose copy was adopted and had moved before, as its baseline has some of these movements; one of
which a movement of an earlier version does not know its place; and one that was never copied.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Context, Decimal

from sqlalchemy import (
    ColumnElement,
    Double,
    FromClause,
    Numeric,
    Select,
    Text,
    and_,
    case,
    cast,
    column,
    exists,
    func,
    or_,
    select,
    true,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from db import tables
from db.shape import Shape
from migration.candidates import Among, among_ids
from migration.checks import Check
from migration.sieve import Sifted, others

EXACT = Context(prec=2_000)
LARGEST = 1e300
EXAMPLES = 5

Place = tuple[str | None, str | None, str | None]
"""Company, location, status."""


@dataclass(frozen=True)
class Amount:
    """`units`, and USD: their `value`, their `freight`."""

    units: Decimal = Decimal(0)
    value: Decimal = Decimal(0)
    freight: Decimal = Decimal(0)

    def plus(self, other: "Amount", sign: int = 1) -> "Amount":
        one, many = vars(self), vars(other)
        return Amount(**{name: EXACT.add(one[name], EXACT.multiply(Decimal(sign), many[name])) for name in one})


ByPlace = Mapping[Place, Amount]


@dataclass(frozen=True)
class Conserved:
    """One place: what was `copied` there, what `moved` there or away since, and what is `there`."""

    place: Place
    copied: Amount
    moved: Amount
    there: Amount

    @property
    def holds(self) -> bool:
        return self.copied.plus(self.moved) == self.there

    def row(self) -> dict[str, object]:
        company, location, status = self.place
        sides = {"copied": self.copied, "moved": self.moved, "batch": self.there}
        return {
            "company_id": company,
            "location_id": location,
            "status": status,
            "conserved": self.holds,
            **{
                f"{side}_{one.name}": getattr(amount, one.name)
                for side, amount in sides.items()
                for one in fields(amount)
            },
        }


@dataclass(frozen=True)
class Stock:
    """What is in batches: of items that are there, by place; and how many are of items that are not."""

    by_place: ByPlace
    batches: int
    orphans: int

    @property
    def units(self) -> int:
        return int(sum(amount.units for amount in self.by_place.values()))


async def read_stock(connection: AsyncConnection, shape: Shape, company: str | None) -> Stock:
    """All that is in batches, in one scan of them."""
    batch, item = shape.relation(tables.stock_batches, "batch"), shape.relation(tables.items, "item")
    lost = item.c.id.is_(None)
    query = (
        _sums(item, batch, batch.c.quantity, batch.c.costPerUnitUSD, batch.c.freightCostUSD)
        .add_columns(func.count().label("batches"), lost.label("lost"))
        .select_from(batch)
        .outerjoin(item, item.c.id == batch.c.itemId)
        .where(true() if company is None else item.c.companyId == company)
        .group_by(lost)
    )
    rows = (await connection.execute(query)).all()
    return Stock(
        _by_place([row for row in rows if not row.lost]),
        sum(row.batches for row in rows),
        sum(row.batches for row in rows if row.lost),
    )


async def read_moved(connection: AsyncConnection, shape: Shape, company: str | None) -> ByPlace:
    """What the movements of copied items brought and took since."""
    return await _read(connection, _movements(shape, company))


async def prove(
    connection: AsyncConnection, shape: Shape, company: str | None, sifted: Sifted, stock: Stock, moved: ByPlace
) -> list[Conserved]:
    """`stock` and `moved` are of all items."""
    copied, there = stock.by_place, stock.by_place
    if not sifted.alone:
        copied = _add(copied, await _read(connection, _beside(shape, company)), -1)
    if not sifted.clean:
        odd = among_ids((await connection.execute(_not_judged(shape, sifted.rest))).scalars())
        copied = _add(copied, await _read(connection, _openings(shape, company, sifted.rest)), -1)
        copied = _add(copied, await _read(connection, _originals(shape, company, sifted.rest, odd)))
        moved = _add(moved, await _read(connection, _movements(shape, company, odd)), -1)
        there = _add(there, await _read(connection, _of_others(shape, company, sifted.rest, odd)), -1)
    places = sorted({*copied, *moved, *there}, key=lambda place: [(part is not None, part or "") for part in place])
    none = Amount()
    found = [Conserved(place, *(side.get(place, none) for side in (copied, moved, there))) for place in places]
    return [one for one in found if not one.copied == one.moved == one.there == none]


def check_of(found: Sequence[Conserved]) -> Check:
    wrong = [one for one in found if not one.holds]
    if wrong:
        return Check("conservation", False, "0", str(len(wrong)), "; ".join(_told(one) for one in wrong[:EXAMPLES]))
    total = Amount()
    for one in found:
        total = total.plus(one.there)
    value, freight = (f"{number:,.2f} USD" for number in (total.value, total.freight))
    return Check("conservation", True, "0", "0", f"{total.units} units, {value}, freight {freight}")


def _told(one: Conserved) -> str:
    company, location, status = one.place
    off = [
        f"{name} {vars(one.copied)[name]} copied, {vars(one.moved)[name]} moved, {there} there"
        for name, there in vars(one.there).items()
        if vars(one.copied.plus(one.moved))[name] != there
    ]
    return f"company {company}, location {location}, {status}: {', '.join(off)}"


def _add(one: ByPlace, other: ByPlace, sign: int = 1) -> ByPlace:
    found: dict[Place, Amount] = defaultdict(Amount, one)
    for place, amount in other.items():
        found[place] = found[place].plus(amount, sign)
    return found


async def _read(connection: AsyncConnection, query: Select[*tuple[object, ...]]) -> ByPlace:
    return _by_place((await connection.execute(query)).all())


def _by_place(rows: Sequence[object]) -> ByPlace:
    return {
        (row.company, row.location, row.status): Amount(row.units, row.value, row.freight)  # type: ignore[attr-defined]
        for row in rows
    }


def _sums(
    item: FromClause,
    at: FromClause,
    units: ColumnElement[int],
    cost: ColumnElement[float],
    freight: ColumnElement[float],
    *,
    status: ColumnElement[str] | None = None,
    location: ColumnElement[str] | None = None,
) -> Select[*tuple[object, ...]]:
    place = [
        item.c.companyId.label("company"),
        (at.c.locationId if location is None else location).label("location"),
        cast(at.c.status if status is None else status, Text).label("status"),
    ]
    exact = cast(func.coalesce(units, 0), Numeric)
    return select(
        *place,
        func.coalesce(func.sum(exact), 0).label("units"),
        func.coalesce(func.sum(exact * _usd(cost)), 0).label("value"),
        func.coalesce(func.sum(_usd(freight)), 0).label("freight"),
    ).group_by(*place)


def _usd(amount: ColumnElement[float]) -> ColumnElement[Decimal]:
    """Exact; what is no amount counts as none. Fifteen digits, of what was copied and of what is there alike."""
    return case((func.abs(amount) <= LARGEST, cast(amount, Numeric)), else_=0)


def _beside(shape: Shape, company: str | None) -> Select[*tuple[object, ...]]:
    """Batches that are no item's own opening batch."""
    other, item = others(shape), shape.relation(tables.items, "item")
    return (
        _sums(item, other, other.c.quantity, other.c.costPerUnitUSD, other.c.freightCostUSD)
        .select_from(other)
        .join(item, item.c.id == other.c.itemId)
        .where(_of(item, company))
    )


def _openings(shape: Shape, company: str | None, among: Among) -> Select[*tuple[object, ...]]:
    ledger, item = shape.relation(tables.copy_ledger, "ledger"), shape.relation(tables.items, "item")
    opening = shape.relation(tables.stock_batches, "opening")
    return (
        _sums(item, opening, opening.c.quantity, opening.c.costPerUnitUSD, opening.c.freightCostUSD)
        .select_from(ledger)
        .join(item, item.c.id == ledger.c.item_id)
        .join(opening, and_(opening.c.id == ledger.c.batch_id, opening.c.itemId == ledger.c.item_id))
        .where(among(ledger.c.item_id), _of(item, company))
    )


def _originals(shape: Shape, company: str | None, among: Among, odd: Among) -> Select[*tuple[object, ...]]:
    """What was copied, out of the ledger's JSON, which is read once a row."""
    ledger, item = shape.relation(tables.copy_ledger, "ledger"), shape.relation(tables.items, "item")
    kept = (
        func.json_to_record(ledger.c.original)
        .table_valued(
            column("quantityInStock", Numeric),
            column("status", Text),
            column("locationId", Text),
            column("costPerUnitUSD", Double),
            column("freightCostUSD", Double),
            name="kept",
        )
        .render_derived(with_types=True)
    )
    chosen = ledger.c.choices
    cost = func.coalesce(kept.c.costPerUnitUSD, cast(chosen["costPerUnitUSD"].astext, Double))
    status = func.coalesce(kept.c.status, chosen["status"].astext)
    return (
        _sums(item, kept, kept.c.quantityInStock, cost, kept.c.freightCostUSD, status=status)
        .select_from(ledger)
        .join(item, item.c.id == ledger.c.item_id)
        .join(kept, true())
        .where(among(ledger.c.item_id), ~odd(ledger.c.item_id), _of(item, company))
    )


def _movements(shape: Shape, company: str | None, among: Among | None = None) -> Select[*tuple[object, ...]]:
    ledger, item = shape.relation(tables.copy_ledger, "ledger"), shape.relation(tables.items, "item")
    movement = shape.relation(tables.movement, "movement")
    return (
        _sums(
            item,
            movement,
            movement.c.delta,
            movement.c.unit_cost,
            movement.c.freight,
            location=movement.c.location_id,
        )
        .select_from(movement)
        .join(ledger, ledger.c.item_id == movement.c.item_id)
        .join(item, item.c.id == movement.c.item_id)
        .where(
            counts(shape, movement, ledger),
            true() if among is None else among(movement.c.item_id),
            _of(item, company),
        )
    )


def counts(shape: Shape, movement: FromClause, ledger: FromClause) -> ColumnElement[bool]:
    """The movement is since the item's copy; or before it, of a batch that was there then: that is there still, or
    moved again. Of those that had gone, none counts. (A batch may come while its item is copied: then it is no baseline
    of it, and came before.)"""
    present, later = shape.relation(tables.stock_batches, "present"), shape.relation(tables.movement, "later")
    is_there = exists().where(present.c.id == movement.c.batch_id, present.c.itemId == movement.c.item_id)
    moved_again = exists().where(
        later.c.batch_id == movement.c.batch_id,
        later.c.item_id == movement.c.item_id,
        later.c.at >= ledger.c.copied_at,
    )
    return case((movement.c.at >= ledger.c.copied_at, true()), else_=or_(is_there, moved_again))


def _not_judged(shape: Shape, among: Among) -> Select[str]:
    ledger, movement = shape.relation(tables.copy_ledger, "ledger"), shape.relation(tables.movement, "movement")
    before = and_(ledger.c.adopted, movement.c.batch_id == ledger.c.batch_id, movement.c.at < ledger.c.copied_at)
    return (
        select(ledger.c.item_id)
        .distinct()
        .join(movement, movement.c.item_id == ledger.c.item_id)
        .where(among(ledger.c.item_id), or_(before, movement.c.status.is_(None)))
    )


def _of_others(shape: Shape, company: str | None, among: Among, odd: Among) -> Select[*tuple[object, ...]]:
    """What is in batches of items that were never copied, or are not judged."""
    ledger, item = shape.relation(tables.copy_ledger, "ledger"), shape.relation(tables.items, "item")
    batch = shape.relation(tables.stock_batches, "batch")
    return (
        _sums(item, batch, batch.c.quantity, batch.c.costPerUnitUSD, batch.c.freightCostUSD)
        .select_from(batch)
        .join(item, item.c.id == batch.c.itemId)
        .outerjoin(ledger, ledger.c.item_id == batch.c.itemId)
        .where(among(batch.c.itemId), or_(ledger.c.item_id.is_(None), odd(batch.c.itemId)), _of(item, company))
    )


def _of(item: FromClause, company: str | None) -> ColumnElement[bool]:
    return true() if company is None else item.c.companyId == company
