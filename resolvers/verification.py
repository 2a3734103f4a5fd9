"""How a kept verification is answered."""

from sqlalchemy import FromClause, Text, cast, func, select

from migration.report import state
from resolvers.connection import Order, Rows, connection
from resolvers.scope import Scope
from resolvers.selection import Selected
from resolvers.sql import Fields, Value, column, instant, json_list, json_object


class ReportRow:
    """One report, one of its checks, or one of its mismatches."""

    def __init__(self, scope: Scope, table: FromClause) -> None:
        self.scope = scope
        self.table = table
        self.c = table.c

    def source(self) -> FromClause:
        return self.table


CHECK: Fields[ReportRow] = {
    "name": column("name"),
    "passed": column("passed"),
    "expected": column("expected"),
    "actual": column("actual"),
    "detail": column("detail"),
}

MISMATCH: Fields[ReportRow] = {
    "itemId": column("item_id"),
    "itemName": column("item_name"),
    "legacyQuantity": column("legacy_quantity"),
    "batchQuantity": column("batch_quantity"),
    "difference": column("difference"),
    "fields": column("fields"),
    "cause": column("cause"),
    "repair": column("repair"),
}


def _checks(report: ReportRow, selected: Selected) -> Value:
    check = ReportRow(report.scope, report.scope.checks())
    shown = json_list(json_object(check, CHECK, selected.children), check.c.position)
    return select(shown).where(check.c.verification_id == report.c.id).scalar_subquery()


def _mismatches(report: ReportRow, selected: Selected) -> Value:
    def rows() -> Rows[ReportRow]:
        table = report.scope.mismatches()
        order = Order("POSITION", table.c.position, table.c.position)
        return Rows(
            table, ReportRow(report.scope, table), [table.c.verification_id == report.c.id], order, report.table
        )

    return connection(report.scope, selected, rows, lambda page: ReportRow(report.scope, page), MISMATCH)


VERIFICATION: Fields[ReportRow] = {
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
    report = ReportRow(scope, scope.verifications())
    shown = json_object(report, VERIFICATION, selected.children)
    return select(shown).where(cast(report.c.id, Text) == id_).scalar_subquery()


def verifications(scope: Scope, selected: Selected) -> Value:
    """A page of reports, latest first."""

    def rows() -> Rows[ReportRow]:
        table = scope.verifications()
        order = Order("LATEST", table.c.id, table.c.id, descending=True)
        return Rows(table, ReportRow(scope, table), [], order)

    return connection(scope, selected, rows, lambda page: ReportRow(scope, page), VERIFICATION)
