"""The root of every mutation: inputs in the schema's words become arguments in the resolvers' words."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import strawberry
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from strawberry import UNSET
from strawberry.types import Info

from migration.exclusively import Actor
from migration.read_source import set_read_source
from migration.rollback import roll_back
from migration.run import NoRun, Wanted, ask
from migration.status import read_status
from migration.undo_rollback import undo_rollback
from migration.verify import MigrationNotStarted
from resolvers.create_batch import NewBatch, create_batch
from resolvers.errors import ErrorCode, Refused, UserError
from resolvers.going_back import go_back
from resolvers.mutate import ReadBack, Result, mutate
from resolvers.run_verification import run_verification
from resolvers.start_migration import NewRun, require_everybody, resume_migration, start_migration, told
from resolvers.viewer import Role
from schema.context import Context
from schema.cut_over import CutOverItemsPayload, cut_over_items_field, set_write_back_field, take_back_items_field
from schema.enums import ReadSource
from schema.inputs import CreateBatchInput, RunVerificationInput, StartMigrationInput
from schema.types import (
    CreateBatchPayload,
    Migration,
    MigrationPayload,
    RunVerificationPayload,
    StartMigrationPayload,
)

ContextInfo = Info[Context, Any]


async def create_batch_field(info: ContextInfo, input: CreateBatchInput) -> CreateBatchPayload:
    context = info.context

    async def work(connection: AsyncConnection) -> Result:
        batch_id = await create_batch(connection, context.viewer, new_batch(input))
        return {"batch": ReadBack("batch", batch_id), "item": ReadBack("item", input.itemId)}

    selected = context.selected[str(info.path.key)]
    return await mutate(context.reader, context.viewer, selected, Role.STAFF, work, context.consistency)


def new_batch(input: CreateBatchInput) -> NewBatch:
    """What was left out, or given as null, is the default."""
    return NewBatch(**{name: value for name, value in vars(input).items() if value not in (None, UNSET)})


async def run_verification_field(
    info: ContextInfo, input: RunVerificationInput | None = UNSET
) -> RunVerificationPayload:
    context = info.context
    wait = not input or input.wait is not False
    selected = context.selected[str(info.path.key)]
    return await run_verification(
        context.reader, context.direct, context.tasks, context.viewer, selected, context.consistency, wait=wait
    )


async def set_read_source_field(info: ContextInfo, source: ReadSource) -> MigrationPayload:
    context = info.context
    require_everybody(context.viewer, "setReadSource")

    async def work(connection: AsyncConnection) -> Result:
        try:
            await set_read_source(connection, source.value, context.viewer.subject)
        except MigrationNotStarted as error:
            raise Refused(UserError(error.message, ErrorCode.MIGRATION_NOT_STARTED)) from error
        return {"migration": Migration.of(await read_status(connection, None))}

    selected = context.selected[str(info.path.key)]
    return await mutate(context.reader, context.viewer, selected, Role.ADMIN, work, context.consistency)


async def start_migration_field(info: ContextInfo, input: StartMigrationInput | None = UNSET) -> StartMigrationPayload:
    context = info.context
    selected = context.selected[str(info.path.key)]
    return await start_migration(
        context.reader,
        context.driving,
        context.viewer,
        selected,
        context.consistency,
        new_run(input) if input else None,
        Migration.of,
    )


def new_run(input: StartMigrationInput) -> NewRun:
    """What was left out, or given as null, is the default."""
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in vars(input).items()
        if value not in (None, UNSET)
    }
    return NewRun(**given)


async def resume_migration_field(info: ContextInfo) -> MigrationPayload:
    context = info.context
    selected = context.selected[str(info.path.key)]
    return await resume_migration(
        context.reader, context.driving, context.viewer, selected, context.consistency, Migration.of
    )


async def rollback_migration_field(info: ContextInfo, confirm: str) -> MigrationPayload:
    return await _go_back(info, partial(roll_back, confirm=confirm))


async def undo_rollback_field(info: ContextInfo, confirm: str) -> MigrationPayload:
    return await _go_back(info, partial(undo_rollback, confirm=confirm))


async def _go_back(info: ContextInfo, act: Callable[[AsyncEngine, Actor], Awaitable[object]]) -> MigrationPayload:
    context = info.context
    selected = context.selected[str(info.path.key)]
    return await go_back(
        context.reader, context.direct, context.viewer, selected, context.consistency, act, Migration.of
    )


async def pause_migration_field(info: ContextInfo) -> MigrationPayload:
    return await _ask(info, "PAUSE")


async def cancel_migration_field(info: ContextInfo) -> MigrationPayload:
    return await _ask(info, "CANCEL")


async def _ask(info: ContextInfo, wanted: Wanted) -> MigrationPayload:
    context = info.context
    selected = context.selected[str(info.path.key)]
    require_everybody(context.viewer, selected.name)

    async def work(connection: AsyncConnection) -> Result:
        try:
            await ask(connection, wanted, context.viewer.subject)
        except NoRun as error:
            raise told(error) from error
        return {"migration": Migration.of(await read_status(connection, None))}

    return await mutate(context.reader, context.viewer, selected, Role.ADMIN, work, context.consistency)


@strawberry.type
class Mutation:
    createBatch: CreateBatchPayload = strawberry.field(resolver=create_batch_field, description="STAFF and above.")
    runVerification: RunVerificationPayload = strawberry.field(resolver=run_verification_field, description="ADMIN.")
    startMigration: StartMigrationPayload = strawberry.field(
        resolver=start_migration_field, description="Begins a copy beside the shop, or goes on with one. ADMIN."
    )
    pauseMigration: MigrationPayload = strawberry.field(
        resolver=pause_migration_field, description="Its driver stops at the end of its chunk. ADMIN."
    )
    resumeMigration: MigrationPayload = strawberry.field(
        resolver=resume_migration_field, description="Drives a run on that is paused or was interrupted. ADMIN."
    )
    cancelMigration: MigrationPayload = strawberry.field(
        resolver=cancel_migration_field, description="As pauseMigration, for good; what was copied stays. ADMIN."
    )
    rollbackMigration: MigrationPayload = strawberry.field(
        resolver=rollback_migration_field,
        description="Archives what was made since the migration. `confirm`: the database's name. ADMIN.",
    )
    undoRollback: MigrationPayload = strawberry.field(
        resolver=undo_rollback_field, description="Puts back what was archived. `confirm`: the database's name. ADMIN."
    )
    cutOverItems: CutOverItemsPayload = strawberry.field(
        resolver=cut_over_items_field, description="Makes their batches the truth of items that verify. ADMIN."
    )
    takeBackItems: CutOverItemsPayload = strawberry.field(
        resolver=take_back_items_field,
        description="The way back from a cut-over; the legacy columns take what became of the opening batch. ADMIN.",
    )
    setWriteBack: MigrationPayload = strawberry.field(
        resolver=set_write_back_field,
        description="Whether the legacy columns of items that are cut over follow their batches. ADMIN.",
    )
    setReadSource: MigrationPayload = strawberry.field(resolver=set_read_source_field, description="ADMIN.")
