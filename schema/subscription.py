"""The root of every subscription: what is so now, and then each change."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import strawberry
from strawberry.types import Info

from resolvers.migration_progress import migration_progress
from resolvers.verification_progress import verification_progress
from schema.context import Context
from schema.types import MigrationProgress, VerificationProgress

ContextInfo = Info[Context, Any]


async def migration_progress_field(info: ContextInfo) -> AsyncGenerator[MigrationProgress, None]:
    context = info.context
    async with aclosing(migration_progress(context.reader.engine, context.polls, context.viewer)) as changes:
        async for seen in changes:
            yield MigrationProgress.of(seen)


async def verification_progress_field(
    info: ContextInfo, id: strawberry.ID
) -> AsyncGenerator[VerificationProgress, None]:
    context = info.context
    selected = context.selected[str(info.path.key)]
    async with aclosing(verification_progress(context.reader, context.polls, context.viewer, selected)) as changes:
        async for seen in changes:
            yield seen  # type: ignore[misc]  # by the keys of the selection, as every answer of the database


@strawberry.type
class Subscription:
    migrationProgress: AsyncGenerator[MigrationProgress, None] = strawberry.subscription(
        resolver=migration_progress_field, description="Until the run has ended. MANAGER and ADMIN."
    )
    verificationProgress: AsyncGenerator[VerificationProgress, None] = strawberry.subscription(
        resolver=verification_progress_field, description="Until it has ended. MANAGER and ADMIN."
    )
