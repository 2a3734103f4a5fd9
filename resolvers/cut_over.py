"""`cutOverItems`, `takeBackItems` and `setWriteBack`: the engines of the commands, on the unpooled connection.

What is refused stands in `refused`, item by item, and in `errors`, once for each sort; what is not refused is done. Who
sees one company acts on its items alone: another's are not found.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncEngine

from db.engine import connecting
from db.errors import StockshiftError
from db.shape import Shape
from db.wal import Consistency, note_written
from migration.in_chunks import Items, LegacyColumnsGone, NotPrepared, Outcome, Selection
from migration.status import Status as MigrationStatus
from migration.status import read_status
from migration.verify import MigrationNotStarted
from migration.write_back import set_write_back
from resolvers.arrivals import Arrival
from resolvers.errors import ErrorCode, Refused, UserError
from resolvers.item import ItemRow
from resolvers.item_filters import Filter, conditions
from resolvers.mutate import Result, read_back, refusal
from resolvers.query import require, require_storable
from resolvers.reader import Reader
from resolvers.scope import Scope
from resolvers.selection import Selected
from resolvers.start_migration import require_everybody, told
from resolvers.viewer import Role, Viewer

MOST_ITEMS = 100
"""So many of the items that were named are answered, and so many of those that were refused."""
NOT_READY: Mapping[type[StockshiftError], ErrorCode] = {
    MigrationNotStarted: ErrorCode.MIGRATION_NOT_STARTED,
    NotPrepared: ErrorCode.MIGRATION_NOT_STARTED,
    LegacyColumnsGone: ErrorCode.CONFLICT,
}
CODES: Mapping[str, ErrorCode] = {
    "NOT_FOUND": ErrorCode.NOT_FOUND,
    "LOCKED": ErrorCode.MIGRATION_RUNNING,
    "DRIFT": ErrorCode.CONFLICT,
    "REFUSED": ErrorCode.CONFLICT,
}
"""By the kind of a refusal; every other one is that the item does not verify."""


@dataclass(frozen=True)
class RefusedItem:
    """One item that was left as it was."""

    itemId: str  # noqa: N815 - the names of the payload
    code: ErrorCode
    reason: str


def chosen_items(company: str | None, filter_: Filter) -> Items:
    """The items that a filter leaves, on the values that they answer (R3), of one company or of all."""

    def query(shape: Shape) -> Select[str]:
        scope = Scope(shape, company)
        item = ItemRow(scope, scope.items())
        where = conditions(item, filter_)
        return select(item.c.id).select_from(item.source()).where(*where)

    return query


async def act_on_items(
    reader: Reader,
    direct: AsyncEngine,
    viewer: Viewer,
    selected: Selected,
    consistency: Consistency,
    act: Callable[[AsyncEngine, Selection, str], Awaitable[Outcome]],
    shown: Callable[[MigrationStatus], object],
) -> Any:
    """The payload of a cut-over or a take-back. Raises Forbidden, BadRequest."""
    require(viewer, Role.ADMIN, selected.name)
    require_storable(selected)
    try:
        selection = _selection(viewer, selected.arguments["input"])
        outcome = await act(direct, selection, viewer.subject)
    except StockshiftError as error:
        return refusal(selected, _refused(error))
    refused = [
        RefusedItem(item_id, CODES.get(each.kind, ErrorCode.NOT_VERIFIED), each.reason)
        for item_id, each in sorted(outcome.refused.items())
    ]
    result = {"done": outcome.done, "refused": refused[:MOST_ITEMS], "errors": _errors(refused, selection)}
    return await _answered(reader, viewer, selected, consistency, shown, result, selection.ids or ())


async def change_write_back(
    reader: Reader,
    direct: AsyncEngine,
    viewer: Viewer,
    selected: Selected,
    consistency: Consistency,
    shown: Callable[[MigrationStatus], object],
    *,
    on: bool,
) -> Any:
    """The payload, when every item is up to date. Raises Forbidden."""
    require_everybody(viewer, selected.name)
    try:
        outcome = await set_write_back(direct, on=on, actor=viewer.subject)
    except StockshiftError as error:
        return refusal(selected, _refused(error))
    errors = []
    if outcome.refused:
        words = f"write-back is on, but of {len(outcome.refused)} items, such as {min(outcome.refused)!r}, the legacy"
        words += " columns could not be brought up to date; the same again does the rest"
        errors.append(UserError(words, ErrorCode.CONFLICT))
    return await _answered(reader, viewer, selected, consistency, shown, {"errors": errors})


def _selection(viewer: Viewer, given: Mapping[str, Any]) -> Selection:
    """Raises Refused: it must say in one way which items are meant."""
    ids, everything, filter_ = given.get("itemIds"), given.get("all"), given.get("filter")
    if [ids is not None, bool(everything), filter_ is not None].count(True) != 1:
        raise _invalid(None, "say which items: give one of itemIds, all: true, and filter")
    if ids is not None:
        if not ids:
            raise _invalid("itemIds", "no item is named; give all: true for all of them")
        return Selection(chosen_items(viewer.company, {}), tuple(ids), viewer.company)
    conditions_given = {name: value for name, value in (filter_ or {}).items() if value is not None}
    if not everything and not conditions_given:
        raise _invalid("filter", "the filter has no condition; give all: true for all items")
    return Selection(chosen_items(viewer.company, conditions_given), None, viewer.company)


def _invalid(field: str | None, message: str) -> Refused:
    return Refused(UserError(message, ErrorCode.INVALID, ["input", *([field] if field else [])]))


def _refused(error: StockshiftError) -> Refused:
    """An expected failure as data. Raises what is none."""
    if isinstance(error, Refused):
        return error
    for kind, code in NOT_READY.items():
        if isinstance(error, kind):
            return Refused(UserError(error.message, code))
    return told(error)


def _errors(refused: list[RefusedItem], selection: Selection) -> list[UserError]:
    """One a code: how many items, and the first of them."""
    field = ["input", "itemIds"] if selection.ids is not None else None
    by_code: dict[ErrorCode, list[RefusedItem]] = {}
    for each in refused:
        by_code.setdefault(each.code, []).append(each)
    return [
        UserError(
            f"item {of[0].itemId!r}: {of[0].reason}" + (f"; {len(of) - 1} more in `refused`" if len(of) > 1 else ""),
            code,
            field,
        )
        for code, of in by_code.items()
    ]


async def _answered(
    reader: Reader,
    viewer: Viewer,
    selected: Selected,
    consistency: Consistency,
    shown: Callable[[MigrationStatus], object],
    result: Result,
    ids: tuple[str, ...] = (),
) -> Any:
    async with connecting(reader.engine) as connection:
        status = await read_status(connection, viewer.company)
        named = list(dict.fromkeys(ids))[:MOST_ITEMS]
        payload = await read_back(
            reader, connection, viewer, selected, {"items": None, **result, "migration": shown(status)}
        )
        for child in selected.children:
            if child.name == "items" and named:
                each = [f"{child.key}_{number}" for number in range(len(named))]
                roots = [Selected(key, "item", {"id": Arrival((key,))}, child.children) for key in each]
                answers = await reader.answer_on(connection, viewer, roots, dict(zip(each, named, strict=True)))
                for answer in answers.values():
                    if isinstance(answer, StockshiftError):
                        raise answer
                payload[child.key] = [answers[key] for key in each if answers[key] is not None]
        await note_written(consistency, connection)
        return payload
