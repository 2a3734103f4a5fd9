"""What a repair changes, by kind of mismatch: each change a row of `repair_archive`, with what is before and after.

| act | what it does | for |
|---|---|---|
| SET | writes a batch's columns | an opening batch that differs; a reference to nothing; drift that is accepted |
| PUT_BACK | makes the opening batch again, out of the legacy columns | BATCH_LOST |
| REMOVE | takes a batch away, which is kept here whole | COPIED_TWICE, ORPHAN |
| COPY | copies an item, or adopts its only batch | NOT_COPIED, FLAG_WITHOUT_COPY, HIDDEN_LEGACY_STOCK |
| MOVE | records a movement that nobody recorded | UNBALANCED |
| FLAG | takes off a flag | FLAG_WITHOUT_COPY, where the item cannot be copied |
| WRITE_BACK | writes the legacy columns out of the batches | WRITE_BACK_WRONG |
| RECORD | records a legacy write that nobody recorded | LEGACY_CHANGED_UNRECORDED, BOTH_CHANGED, UNRECORDED_DRIFT |
| SETTLE | drift counts no more: the batches stand, or have taken it | DRIFT, when it is asked for |

An opening batch follows its legacy columns until the cut-over (R7): so these are right, whoever changed the batch. What
they cannot tell (drift, batches of unknown origin, a value that no batch can have) is proposed to nobody.
"""

from collections.abc import Iterable, Sequence

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Insert,
    Select,
    Text,
    and_,
    case,
    cast,
    exists,
    func,
    insert,
    literal,
    null,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB

from db import tables
from db.shape import Shape
from migration.candidates import candidates, differing, judged, opening_values, status_text
from migration.checks import drifted, unbalanced
from migration.mismatches import EMPTY, is_second, last_known, object_of, only_copies, recorded, unrecorded, whole
from migration.unmoved import MOVED, unmoved

TO_LEGACY = (
    "COPIED_WRONG",
    "OPENING_BATCH_CHANGED",
    "LEGACY_WRITE_NOT_FOLLOWED",
    "LEGACY_CHANGED_UNRECORDED",
    "BOTH_CHANGED",
    "COPIED_TWICE",
)
UNRECORDED = ("LEGACY_CHANGED_UNRECORDED", "BOTH_CHANGED", "UNRECORDED_DRIFT")
NOT_NULL = ("quantity", "status", "costPerUnitUSD", "freightCostUSD")
NO_BATCH: ColumnElement[str] = cast(null(), Text)
NOTHING: ColumnElement[object] = cast(null(), JSONB)


class Proposals:
    """The changes for the mismatches of one report, as statements that write them down and change nothing else."""

    def __init__(self, shape: Shape, report: int, actor: str) -> None:
        self.shape = shape
        self.report = report
        self.actor = actor

    def all(self, accepted: Sequence[str], kept: Sequence[str]) -> list[Insert]:
        """In the order in which they are to be made. `accepted` and `kept`: items whose drift is decided."""
        found = [
            *[self._extra_batches(), self._orphans(), self._legacy(), self._lost(), self._given_away()],
            *[
                self._references(accepted),
                self._copies(),
                self._adoptions(),
                self._balance(),
                self._flags(),
                self._records(),
            ],
            self._unwritten(),
        ]
        if accepted:
            found += [self._drift_taken(accepted), self._settled(accepted, "ACCEPTED")]
        if kept:
            found.append(self._settled(kept, "KEPT"))
        return [self._noted(rows) for rows in found]

    def _noted(self, rows: Select[*tuple[object, ...]]) -> Insert:
        columns = ["verification_id", "actor", "item_id", "kind", "act", "batch_id", "before", "after"]
        row = rows.subquery("proposed")
        fixed = (literal(self.report, BigInteger), literal(self.actor, Text))
        return insert(tables.repair_archive).from_select(columns, select(*fixed, *row.c))

    def _row(
        self,
        act: str,
        found: FromClause,
        batch_id: ColumnElement[str],
        before: ColumnElement[object],
        after: ColumnElement[object],
    ) -> Select[str, str, str, str, object, object]:
        return select(
            found.c.item_id,
            found.c.kind,
            literal(act, Text).label("act"),
            cast(batch_id, Text).label("batch_id"),
            before.label("before"),
            after.label("after"),
        )

    def _mismatches(self, *kinds: str) -> FromClause:
        """Items of these kinds, once each."""
        mismatch = tables.verification_mismatch
        return (
            select(mismatch.c.item_id, func.min(mismatch.c.kind).label("kind"))
            .where(mismatch.c.verification_id == self.report, mismatch.c.kind.in_(kinds))
            .group_by(mismatch.c.item_id)
            .subquery("found")
        )

    def judged(self) -> Select[str, str | None, str | None]:
        """Whether a copied item's legacy columns, as they are, can be a batch's."""
        item = self.shape.relation(tables.items, "judged_item")
        ledger = self.shape.relation(tables.copy_ledger, "judged_ledger")
        chosen = select(ledger.c.choices).where(ledger.c.item_id == item.c.id).scalar_subquery()
        return judged(self.shape, item, self._among, chosen)

    def _among(self, item_id: ColumnElement[str]) -> ColumnElement[bool]:
        mismatch = tables.verification_mismatch
        return item_id.in_(select(mismatch.c.item_id).where(mismatch.c.verification_id == self.report))

    def _legacy(self) -> Select[str, str, str, str, object, object]:
        """Opening batches that differ become what the legacy columns say."""
        found = self._mismatches(*TO_LEGACY)
        item, ledger, batch = self._item(), self._ledger(), self._batch()
        can = self.judged().subquery("can")
        return (
            self._row(
                "SET", found, batch.c.id, whole(batch), whole(batch).op("||")(_legacy_values(item, ledger, batch))
            )
            .select_from(found)
            .join(item, item.c.id == found.c.item_id)
            .join(ledger, and_(ledger.c.item_id == item.c.id, ledger.c.cut_over_at.is_(null())))
            .join(batch, and_(batch.c.id == ledger.c.batch_id, batch.c.itemId == item.c.id))
            .join(can, and_(can.c.id == item.c.id, _possible(can)))
            .where(or_(*differing(batch, item, ledger.c.choices).values()), self._decided(found, item, ledger))
        )

    def _lost(self) -> Select[str, str, str, str, object, object]:
        """Also of what is taken away as an orphan: so the movements say that it went and came."""
        found = self._mismatches("BATCH_LOST", "COPIED_TWICE")
        item, ledger, other, owner = self._item(), self._ledger(), self._batch(), self._item("owner")
        somewhere = exists().where(other.c.id == ledger.c.batch_id, owner.c.id == other.c.itemId)
        can = self.judged().subquery("can")
        values = _legacy_values(item, ledger, None).op("||")(object_of({"id": ledger.c.batch_id, "itemId": item.c.id}))
        return (
            self._row("PUT_BACK", found, ledger.c.batch_id, NOTHING, values)
            .select_from(found)
            .join(item, item.c.id == found.c.item_id)
            .join(ledger, and_(ledger.c.item_id == item.c.id, ledger.c.cut_over_at.is_(null())))
            .join(can, and_(can.c.id == item.c.id, _possible(can)))
            .where(~somewhere, self._decided(found, item, ledger))
        )

    def _given_away(self) -> Select[str, str, str, str, object, object]:
        """An opening batch that is another item's now comes back."""
        found = self._mismatches("BATCH_LOST")
        item, ledger, batch, owner = self._item(), self._ledger(), self._batch(), self._item("owner")
        can = self.judged().subquery("can")
        values = _legacy_values(item, ledger, batch).op("||")(object_of({"itemId": item.c.id}))
        return (
            self._row("SET", found, batch.c.id, whole(batch), whole(batch).op("||")(values))
            .select_from(found)
            .join(item, item.c.id == found.c.item_id)
            .join(ledger, ledger.c.item_id == item.c.id)
            .join(batch, batch.c.id == ledger.c.batch_id)
            .join(owner, owner.c.id == batch.c.itemId)
            .join(can, and_(can.c.id == item.c.id, _possible(can)))
        )

    def _extra_batches(self) -> Select[str, str, str, str, object, object]:
        found = self._mismatches("COPIED_TWICE")
        item, ledger, batch = self._item(), self._ledger(), self._batch()
        can = self.judged().subquery("can")
        return (
            self._row("REMOVE", found, batch.c.id, whole(batch), NOTHING)
            .select_from(found)
            .join(item, item.c.id == found.c.item_id)
            .join(ledger, ledger.c.item_id == item.c.id)
            .join(batch, is_second(self.shape, batch, item))
            .join(can, and_(can.c.id == item.c.id, _possible(can)))
            .where(self._decided(found, item, ledger))
        )

    def _decided(self, found: FromClause, item: FromClause, ledger: FromClause) -> ColumnElement[bool]:
        """No second batch is stock, perhaps: then nothing of the item is changed by itself."""
        return or_(found.c.kind != "COPIED_TWICE", only_copies(self.shape, item, ledger))

    def _orphans(self) -> Select[str, str, str, str, object, object]:
        """Not the opening batch of an item that is there and cut over: that is its stock."""
        found = self._mismatches("ORPHAN")
        item, batch, ledger, owner = self._item(), self._batch(), self._ledger(), self._item("owner")
        stock = exists().where(
            ledger.c.batch_id == batch.c.id, owner.c.id == ledger.c.item_id, ledger.c.cut_over_at.is_not(null())
        )
        return (
            self._row("REMOVE", found, batch.c.id, whole(batch), NOTHING)
            .select_from(found)
            .join(batch, batch.c.itemId == found.c.item_id)
            .where(~exists().where(item.c.id == batch.c.itemId), ~stock)
        )

    def _references(self, accepted: Sequence[str]) -> Select[str, str, str, str, object, object]:
        """As the keys would have done, save for opening batches, which have what their items have, and for batches of
        an item whose drift is taken now."""
        found = self._mismatches("UNKNOWN_LOCATION", "UNKNOWN_USER")
        batch, ledger = self._batch(), self._ledger()
        targets = {
            "locationId": self.shape.relation(tables.locations, "location"),
            "assignedUserId": self.shape.relation(tables.users, "named_user"),
        }
        broken = {
            name: and_(batch.c[name].is_not(null()), ~exists().where(target.c.id == batch.c[name]))
            for name, target in targets.items()
        }
        follows = exists().where(
            ledger.c.item_id == found.c.item_id, ledger.c.cut_over_at.is_(null()), ledger.c.batch_id == batch.c.id
        )
        after = whole(batch)
        for name, is_broken in broken.items():
            after = after.op("||")(case((is_broken, object_of({name: NOTHING})), else_=EMPTY))
        return (
            self._row("SET", found, batch.c.id, whole(batch), after)
            .select_from(found)
            .join(batch, batch.c.itemId == found.c.item_id)
            .where(or_(*broken.values()), ~follows, found.c.item_id.not_in(list(accepted)))
        )

    def _copies(self) -> Select[str, str, str, str, object, object]:
        found = self._mismatches("NOT_COPIED", "FLAG_WITHOUT_COPY")
        item = self._item()
        can = candidates(self.shape, self.shape.relation(tables.items, "candidate_item"), self._among).subquery("can")
        return (
            self._row("COPY", found, can.c.adopt, NOTHING, _legacy_values(item, None, None))
            .select_from(found)
            .join(item, item.c.id == found.c.item_id)
            .join(can, and_(can.c.id == item.c.id, can.c.reason.is_(null())))
        )

    def _adoptions(self) -> Select[str, str, str, str, object, object]:
        """A lone batch that equals its item is its copy."""
        found = self._mismatches("HIDDEN_LEGACY_STOCK")
        flagged = self._mismatches("FLAG_WITHOUT_COPY")
        item = self._item()
        can = candidates(self.shape, self.shape.relation(tables.items, "candidate_item"), self._among).subquery("can")
        return (
            self._row("COPY", found, can.c.adopt, NOTHING, _legacy_values(item, None, None))
            .select_from(found)
            .join(item, item.c.id == found.c.item_id)
            .join(can, and_(can.c.id == item.c.id, can.c.adopt.is_not(null()), can.c.reason.is_(null())))
            .where(~exists().where(flagged.c.item_id == found.c.item_id))
        )

    def _balance(self) -> Select[str, str, str, str, object, object]:
        """By status, place and cost, where these are known; else in units alone."""
        found = self._mismatches("UNBALANCED")
        ledger, line = self._ledger(), unmoved(self.shape, found)
        wrong = unbalanced(self.shape, None).subquery("wrong")
        delta = wrong.c.there - wrong.c.copied - wrong.c.moved
        placed = object_of({name: line.c[name] for name in MOVED})
        after = case((line.c.item_id.is_not(null()), placed), else_=object_of({"delta": delta}))
        return (
            self._row("MOVE", found, ledger.c.batch_id, NOTHING, after)
            .select_from(found)
            .join(ledger, ledger.c.item_id == found.c.item_id)
            .join(wrong, wrong.c.item_id == found.c.item_id)
            .outerjoin(line, and_(line.c.item_id == found.c.item_id, line.c.placed, line.c.total == delta))
        )

    def _flags(self) -> Select[str, str, str, str, object, object]:
        found = self._mismatches("FLAG_WITHOUT_COPY")
        can = candidates(self.shape, self.shape.relation(tables.items, "candidate_item"), self._among).subquery("can")
        name = tables.USE_BATCH_SYSTEM.name
        return (
            self._row("FLAG", found, NO_BATCH, object_of({name: literal(True)}), object_of({name: literal(False)}))
            .select_from(found)
            .where(~exists().where(can.c.id == found.c.item_id, can.c.reason.is_(null())))
        )

    def _unwritten(self) -> Select[str, str, str, str, object, object]:
        """Not before a write that nobody recorded is: then it is drift."""
        found, unseen = self._mismatches("WRITE_BACK_WRONG"), self._mismatches("UNRECORDED_DRIFT").alias("unseen")
        mismatch = tables.verification_mismatch
        return (
            self._row("WRITE_BACK", found, NO_BATCH, mismatch.c.evidence["new"], mismatch.c.evidence["old"])
            .select_from(found)
            .join(mismatch, and_(mismatch.c.item_id == found.c.item_id, mismatch.c.kind == found.c.kind))
            .where(mismatch.c.verification_id == self.report, ~exists().where(unseen.c.item_id == found.c.item_id))
        )

    def _records(self) -> Select[str, str, str, str, object, object]:
        """Of what the opening batch takes as well; of an item that is cut over it need not."""
        found = self._mismatches(*UNRECORDED)
        item, ledger = self._item(), self._ledger()
        can = self.judged().subquery("can")
        record = recorded(self.shape, found)
        before, after = unrecorded(item, last_known(ledger, record, whole(item)), whole(item))
        return (
            self._row("RECORD", found, NO_BATCH, before, after)
            .select_from(found)
            .join(item, item.c.id == found.c.item_id)
            .join(ledger, ledger.c.item_id == item.c.id)
            .outerjoin(can, can.c.id == item.c.id)
            .outerjoin(record, record.c.item_id == item.c.id)
            .where(or_(found.c.kind == "UNRECORDED_DRIFT", _possible(can)))
        )

    def _drift_taken(self, items: Iterable[str]) -> Select[str, str, str, str, object, object]:
        """What was written comes into the opening batch, or where that is gone into the one with the most units, of
        these the oldest: other columns as they were written last, the quantity by as much as it was changed."""
        found = self._mismatches("DRIFT")
        mismatch = tables.verification_mismatch
        batch, ledger = self._batch(), self._ledger()
        write = drifted(self.shape, None).subquery("drift")
        was, is_now = (
            func.coalesce(cast(side["quantityInStock"].astext, BigInteger), 0)
            for side in (write.c.before, write.c.after)
        )
        units = is_now - was
        delta = select(func.coalesce(func.sum(units), 0)).where(write.c.item_id == found.c.item_id).scalar_subquery()
        new = mismatch.c.evidence["new"]
        after = whole(batch).op("||")(object_of({"quantity": batch.c.quantity + delta}))
        for name, legacy in tables.COMPARED_COLUMNS.items():
            if name == "quantity":
                continue
            written = new.has_key(legacy)
            if name in NOT_NULL:
                written = and_(written, new[legacy].astext.is_not(null()))
            after = after.op("||")(case((written, object_of({name: new[legacy]})), else_=EMPTY))
        first = case((batch.c.id == ledger.c.batch_id, 0), else_=1)
        position = func.row_number().over(
            partition_by=found.c.item_id, order_by=(first, batch.c.quantity.desc(), batch.c.createdAt, batch.c.id)
        )
        choice = (
            self._row("SET", found, batch.c.id, whole(batch), after)
            .add_columns(position.label("position"))
            .select_from(found)
            .join(mismatch, and_(mismatch.c.item_id == found.c.item_id, mismatch.c.kind == found.c.kind))
            .join(ledger, ledger.c.item_id == found.c.item_id)
            .join(batch, batch.c.itemId == found.c.item_id)
            .where(mismatch.c.verification_id == self.report, found.c.item_id.in_(list(items)))
            .subquery("choice")
        )
        return select(*[column for column in choice.c if column.name != "position"]).where(choice.c.position == 1)

    def _settled(self, items: Iterable[str], how: str) -> Select[str, str, str, str, object, object]:
        found = self._mismatches("DRIFT")
        return self._row("SETTLE", found, NO_BATCH, NOTHING, object_of({"settled": literal(how, Text)})).where(
            found.c.item_id.in_(list(items))
        )

    def _item(self, name: str = "item") -> FromClause:
        return self.shape.relation(tables.items, name)

    def _ledger(self) -> FromClause:
        return self.shape.relation(tables.copy_ledger, "ledger")

    def _batch(self, name: str = "batch") -> FromClause:
        return self.shape.relation(tables.stock_batches, name)


def _possible(can: FromClause) -> ColumnElement[bool]:
    """Other batches do not stand in the way of an opening batch that was there before."""
    return func.coalesce(can.c.reason, "UNKNOWN_BATCHES") == "UNKNOWN_BATCHES"


def _legacy_values(item: FromClause, ledger: FromClause | None, batch: FromClause | None) -> ColumnElement[object]:
    """The opening batch's columns as the item has them; where that has no times, the batch's own stay."""
    chosen = None if ledger is None else ledger.c.choices
    values = opening_values(item, chosen) | {"status": status_text(item, chosen)}
    if batch is not None:
        values |= {name: func.coalesce(values[name], batch.c[name]) for name in ("createdAt", "updatedAt")}
    return object_of(values)
