"""How a kept verification is answered."""

from collections.abc import Callable

from sqlalchemy import BigInteger, Text, case, cast, func, null, select

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


def _amount(side: str) -> Callable[[Row, Selected], Json]:
    """USD are exact, so they are texts: a JSON number is a double to most."""
    fields: Fields[Row] = {
        "units": lambda line, _: cast(line.c[f"{side}_units"], BigInteger),
        "valueUSD": lambda line, _: cast(line.c[f"{side}_value"], Text),
        "freightUSD": lambda line, _: cast(line.c[f"{side}_freight"], Text),
    }
    return lambda line, selected: json_object(line, fields, selected.children)


CONSERVATION: Fields[Row] = {
    "companyId": column("company_id"),
    "locationId": column("location_id"),
    "status": column("status"),
    "copied": _amount("copied"),
    "moved": _amount("moved"),
    "there": _amount("batch"),
    "conserved": column("conserved"),
}

EXPLANATION: Fields[Row] = {
    "kind": column("kind"),
    "items": column("items"),
    "units": column("units"),
    "examples": lambda explanation, _: cast(explanation.c.examples, JSON_TEXT),
}


def _conservation(report: Row, selected: Selected) -> Value:
    line = Row(report.scope, report.scope.conservation())
    shown = json_list(json_object(line, CONSERVATION, selected.children), line.c.position)
    return select(shown.value).where(line.c.verification_id == report.c.id).scalar_subquery()


def _explanations(report: Row, selected: Selected) -> Value:
    explanation = Row(report.scope, report.scope.explanations())
    shown = json_list(json_object(explanation, EXPLANATION, selected.children), explanation.c.kind)
    return select(shown.value).where(explanation.c.verification_id == report.c.id).scalar_subquery()


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
    "conservation": _conservation,
    "explanations": _explanations,
    "database": column("database"),
    "serverVersion": column("server_version"),
    "rowCounts": lambda report, _: cast(report.c.row_counts, JSON_TEXT),
    "fingerprint": lambda report, _: cast(report.c.fingerprint, JSON_TEXT),
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
