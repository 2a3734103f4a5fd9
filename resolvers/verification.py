"""How a kept verification is answered."""

from sqlalchemy import Text, case, cast, func, null, select

from migration.report import state
from resolvers.connection import Order, Rows, connection
from resolvers.row import Row
from resolvers.scope import Scope
from resolvers.selection import Selected
from resolvers.sql import JSON_TEXT, Fields, Json, Value, column, instant, json_list, json_object

CHECK: Fields[Row] = {
    "name": column("name"),
    "passed": column("passed"),
    "expected": column("expected"),
    "actual": column("actual"),
    "detail": column("detail"),
}

EVIDENCE: Fields[Row] = {
    "who": lambda mismatch, _: mismatch.c.evidence["who"].astext,
    "when": lambda mismatch, _: mismatch.c.evidence["when"].astext,
    "application": lambda mismatch, _: mismatch.c.evidence["application"].astext,
    "role": lambda mismatch, _: mismatch.c.evidence["role"].astext,
    "reason": lambda mismatch, _: mismatch.c.evidence["reason"].astext,
    "old": lambda mismatch, _: cast(mismatch.c.evidence["old"], JSON_TEXT),
    "new": lambda mismatch, _: cast(mismatch.c.evidence["new"], JSON_TEXT),
}


def _evidence(mismatch: Row, selected: Selected) -> Value:
    shown = json_object(mismatch, EVIDENCE, selected.children)
    return case((mismatch.c.evidence.is_not(null()), shown.value))


MISMATCH: Fields[Row] = {
    "itemId": column("item_id"),
    "itemName": column("item_name"),
    "legacyQuantity": column("legacy_quantity"),
    "batchQuantity": column("batch_quantity"),
    "difference": column("difference"),
    "fields": column("fields"),
    "cause": column("cause"),
    "repair": column("repair"),
    "kind": column("kind"),
    "evidence": _evidence,
}


def _checks(report: Row, selected: Selected) -> Value:
    check = Row(report.scope, report.scope.checks())
    shown = json_list(json_object(check, CHECK, selected.children), check.c.position)
    return select(shown.value).where(check.c.verification_id == report.c.id).scalar_subquery()


def _mismatches(report: Row, selected: Selected) -> Value | Json:
    def rows() -> Rows[Row]:
        table = report.scope.mismatches()
        order = Order("POSITION", table.c.position, table.c.position)
        return Rows(table, Row(report.scope, table), [table.c.verification_id == report.c.id], order, report.table)

    return connection(report.scope, selected, rows, lambda page: Row(report.scope, page), MISMATCH)


VERIFICATION: Fields[Row] = {
    "id": lambda report, _: cast(report.c.id, Text),
    "state": lambda report, _: state(report.table),
    "startedAt": lambda report, _: instant(func.timezone("UTC", report.c.started_at)),
    "finishedAt": lambda report, _: instant(func.timezone("UTC", report.c.finished_at)),
    "requestedBy": column("requested_by"),
    "itemsChecked": column("items_checked"),
    "itemsMatched": column("items_matched"),
    "itemsMismatched": column("items_mismatched"),
    "legacyQuantity": column("legacy_quantity"),
    "batchQuantity": column("batch_quantity"),
    "explainedDifference": column("explained_difference"),
    "checks": _checks,
    "mismatches": _mismatches,
}


def one_verification(scope: Scope, id_: Value, selected: Selected) -> Value:
    """The report with an id as an object; NULL when there is none that the viewer may see."""
    report = Row(scope, scope.verifications())
    shown = json_object(report, VERIFICATION, selected.children)
    return select(shown.value).where(cast(report.c.id, Text) == id_).scalar_subquery()


def verifications(scope: Scope, selected: Selected) -> Value | Json:
    """A page of reports, latest first."""

    def rows() -> Rows[Row]:
        table = scope.verifications()
        order = Order("LATEST", table.c.id, table.c.id, descending=True)
        return Rows(table, Row(scope, table), [], order)

    return connection(scope, selected, rows, lambda page: Row(scope, page), VERIFICATION)
