"""The mutations that make batches the truth of items, and take that back."""

from collections.abc import Awaitable, Callable
from typing import Any

import strawberry
from sqlalchemy.ext.asyncio import AsyncEngine
from strawberry import UNSET
from strawberry.types import Info

from migration.cut_over import cut_over
from migration.in_chunks import Outcome, Selection
from migration.take_back import take_back
from resolvers.cut_over import act_on_items, change_write_back
from schema.context import Context
from schema.enums import ErrorCode
from schema.inputs import ItemFilter
from schema.types import Item, Migration, MigrationPayload, UserError


@strawberry.input(description="One of the three says which items.")
class CutOverItemsInput:
    itemIds: list[strawberry.ID] | None = UNSET
    all: bool | None = strawberry.field(default=UNSET, description="Every item that you may see.")
    filter: ItemFilter | None = UNSET


@strawberry.type(description="An item that was left as it was, and why.")
class RefusedItem:
    itemId: strawberry.ID
    code: ErrorCode
    reason: str


@strawberry.type(description="What is not refused is done, also where there are errors.")
class CutOverItemsPayload:
    items: list[Item] | None = strawberry.field(description="The first 100 of those that were named, as they are now.")
    done: int | None = strawberry.field(description="How many items this changed.")
    refused: list[RefusedItem] | None = strawberry.field(description="The first 100.")
    migration: Migration | None
    errors: list[UserError] = strawberry.field(description="For each sort of refusal one.")


async def cut_over_items_field(info: Info[Context, Any], input: CutOverItemsInput) -> CutOverItemsPayload:
    async def act(engine: AsyncEngine, selection: Selection, actor: str) -> Outcome:
        return await cut_over(engine, selection, actor=actor)

    return await _act(info, act)


async def take_back_items_field(info: Info[Context, Any], input: CutOverItemsInput) -> CutOverItemsPayload:
    async def act(engine: AsyncEngine, selection: Selection, actor: str) -> Outcome:
        return await take_back(engine, selection, actor=actor)

    return await _act(info, act)


async def _act(
    info: Info[Context, Any], act: Callable[[AsyncEngine, Selection, str], Awaitable[Outcome]]
) -> CutOverItemsPayload:
    context = info.context
    selected = context.selected[str(info.path.key)]
    return await act_on_items(
        context.reader, context.direct, context.viewer, selected, context.consistency, act, Migration.of
    )


async def set_write_back_field(info: Info[Context, Any], on: bool) -> MigrationPayload:
    context = info.context
    selected = context.selected[str(info.path.key)]
    return await change_write_back(
        context.reader, context.direct, context.viewer, selected, context.consistency, Migration.of, on=on
    )
