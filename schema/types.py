"""The types that clients see. Attributes are named as clients name them; resolvers/ says how each is answered."""

from datetime import datetime
from typing import Annotated, Any

import strawberry
from strawberry import UNSET
from strawberry.scalars import JSON
from strawberry.types import Info

from db.engine import connecting
from migration.gates import gates as read_gates
from migration.run import Run
from migration.schedule import Stage, read_schedule
from migration.status import Status as MigrationStatus
from resolvers.migration_progress import MigrationProgress as Seen
from resolvers.parts import answer_part
from schema.context import Context
from schema.enums import (
    ErrorCode,
    MigrationPhase,
    MovementReason,
    ReadSource,
    RunKind,
    RunState,
    ScheduleStageName,
    ScheduleStageState,
    Status,
    VerificationState,
)
from schema.scalars import BigInt, shown_instant

First = Annotated[int | None, strawberry.argument(description="How many rows a page has at most.")]
After = Annotated[str | None, strawberry.argument(description="The cursor behind which the page begins.")]


def answered(root: Any, info: Info[Any, Any]) -> Any:
    """The value that the operation's one statement answered for this field, under its key."""
    return root[info.path.key]


def batches(
    root: strawberry.Parent[Any],
    info: Info[Any, Any],
    first: First = 50,
    after: After = UNSET,
    status: Status | None = UNSET,
) -> "StockBatchConnection":
    return answered(root, info)


def movements(
    root: strawberry.Parent[Any], info: Info[Any, Any], first: First = 50, after: After = UNSET
) -> "MovementConnection":
    return answered(root, info)


def mismatches(
    root: strawberry.Parent[Any], info: Info[Any, Any], first: First = 50, after: After = UNSET
) -> "MismatchConnection":
    return answered(root, info)


@strawberry.type
class PageInfo:
    hasNextPage: bool
    hasPreviousPage: bool = strawberry.field(description="True on a page that was asked for by a cursor.")
    startCursor: str | None
    endCursor: str | None


@strawberry.type
class Location:
    id: strawberry.ID
    name: str


@strawberry.type
class User:
    id: strawberry.ID
    name: str


@strawberry.type
class StatusQuantity:
    status: Status
    quantity: BigInt


@strawberry.type
class LocationQuantity:
    location: Location | None = strawberry.field(description="Null: at no location.")
    quantity: BigInt


@strawberry.type(description="The legacy columns as they stand.")
class LegacyStock:
    quantityInStock: int | None
    status: Status | None
    location: Location | None
    costPerUnitUSD: float | None
    freightCostUSD: float | None


@strawberry.type
class Item:
    id: strawberry.ID
    name: str
    totalQuantity: BigInt = strawberry.field(description="Units of all its batches, or of the legacy columns.")
    locations: list[Location] = strawberry.field(description="Distinct, by name then id.")
    statuses: list[Status] = strawberry.field(description="Distinct, in the order of the enum.")
    usingBatchSystem: bool = strawberry.field(description="It has a batch, or was ever copied.")
    quantityByStatus: list[StatusQuantity]
    quantityByLocation: list[LocationQuantity]
    stockValueUSD: float = strawberry.field(description="Arrived units at cost, and the freight of each batch once.")

    batches: "StockBatchConnection" = strawberry.field(resolver=batches, description="Oldest first.")
    legacy: LegacyStock | None = strawberry.field(description="Null once the legacy columns are dropped.")
    minStockLevel: int | None
    sellingPriceSRD: float | None
    createdAt: datetime
    updatedAt: datetime


@strawberry.type
class StockBatch:
    id: strawberry.ID
    item: Item
    quantity: int
    status: Status
    costPerUnitUSD: float
    freightCostUSD: float = strawberry.field(description="For the whole batch, not per unit.")
    orderDate: datetime | None
    expectedArrival: datetime | None
    arrivedDate: datetime | None
    orderNumber: str | None
    notes: str | None
    location: Location | None
    assignedUser: User | None
    openingBatch: bool = strawberry.field(description="It was copied from the item's legacy columns.")
    movements: "MovementConnection" = strawberry.field(resolver=movements, description="Oldest first.")
    createdAt: datetime
    updatedAt: datetime


@strawberry.type
class ItemEdge:
    cursor: str
    node: Item


@strawberry.type
class ItemConnection:
    edges: list[ItemEdge]
    pageInfo: PageInfo
    totalCount: int


@strawberry.type
class StockBatchEdge:
    cursor: str
    node: StockBatch


@strawberry.type
class StockBatchConnection:
    edges: list[StockBatchEdge]
    pageInfo: PageInfo
    totalCount: int


@strawberry.type(description="One change of a batch's quantity. What was copied from the legacy columns is none.")
class Movement:
    id: strawberry.ID
    itemId: strawberry.ID = strawberry.field(description="The item that the batch was of.")
    delta: BigInt = strawberry.field(description="Units that came; less than none: that went.")
    reason: MovementReason
    actor: str | None = strawberry.field(description="The subject of the token, of a change through this service.")
    application: str | None = strawberry.field(description="What the writer's connection was named.")
    at: datetime


@strawberry.type
class MovementEdge:
    cursor: str
    node: Movement


@strawberry.type
class MovementConnection:
    edges: list[MovementEdge]
    pageInfo: PageInfo
    totalCount: int


@strawberry.type(description="Sums over the items that a filter leaves.")
class StockSummary:
    items: int
    lowStockItems: int = strawberry.field(description="Items at or below their minimum level.")
    totalQuantity: BigInt
    stockValueUSD: float
    quantityByStatus: list[StatusQuantity]
    quantityByLocation: list[LocationQuantity]


@strawberry.type
class VerificationCheck:
    name: str
    passed: bool
    expected: str | None
    actual: str | None
    detail: str | None


@strawberry.type(
    description="Who made a difference, as far as anything recorded it, and what it was before and is now."
)
class MismatchEvidence:
    who: str | None
    when: datetime | None
    application: str | None
    role: str | None
    reason: str | None
    old: JSON | None
    new: JSON | None


@strawberry.type
class Mismatch:
    itemId: strawberry.ID
    itemName: str
    legacyQuantity: BigInt | None
    batchQuantity: BigInt | None
    difference: BigInt | None
    fields: list[str]
    cause: str
    repair: str | None
    kind: str | None = strawberry.field(description="Such as OPENING_BATCH_CHANGED; null in old reports.")
    evidence: MismatchEvidence | None


@strawberry.type
class MismatchEdge:
    cursor: str
    node: Mismatch


@strawberry.type
class MismatchConnection:
    edges: list[MismatchEdge]
    pageInfo: PageInfo
    totalCount: int


@strawberry.type(description="USD are exact, as texts.")
class StockAmount:
    units: BigInt
    valueUSD: str
    freightUSD: str


@strawberry.type(description="At one place: what was copied and what moved there or away since must be what is there.")
class Conservation:
    companyId: strawberry.ID | None
    locationId: strawberry.ID | None
    status: str | None
    copied: StockAmount
    moved: StockAmount
    there: StockAmount
    conserved: bool


@strawberry.type(description="Why batches are not what was copied: a reason of movements, or what items are.")
class Explanation:
    kind: str
    items: BigInt
    units: BigInt = strawberry.field(description="That came, less those that went.")
    examples: JSON = strawberry.field(description="Each with item, batch, units, who, when, application, old and new.")


@strawberry.type(description="One comparison of both systems, kept.")
class Verification:
    id: strawberry.ID
    state: VerificationState
    startedAt: datetime
    finishedAt: datetime | None
    requestedBy: str | None
    itemsChecked: int
    itemsMatched: int
    itemsMismatched: int
    legacyQuantity: BigInt = strawberry.field(description="Sum over items.")
    batchQuantity: BigInt = strawberry.field(description="Sum over batches.")
    explainedDifference: BigInt = strawberry.field(description="What was received since, less what is not on batches.")
    checks: list[VerificationCheck]
    mismatches: MismatchConnection = strawberry.field(resolver=mismatches, description="By item id.")
    conservation: list[Conservation]
    explanations: list[Explanation] = strawberry.field(description="By kind.")
    database: str | None = strawberry.field(description="Null here and below in old reports, and until it has ended.")
    serverVersion: str | None
    rowCounts: JSON | None = strawberry.field(description="By table.")
    fingerprint: JSON | None = strawberry.field(
        description="By column of items: equal where all values are, in whatever order and database."
    )


@strawberry.type
class VerificationEdge:
    cursor: str
    node: Verification


@strawberry.type
class VerificationConnection:
    edges: list[VerificationEdge]
    pageInfo: PageInfo
    totalCount: int


@strawberry.type(description="One run of the migration. Who sees one company has its own items counted.")
class MigrationRun:
    id: strawberry.ID
    kind: RunKind
    state: RunState
    driver: str = strawberry.field(description="Who drives it, or drove it last: a process, and where it runs.")
    requestedBy: str | None
    startedAt: datetime
    finishedAt: datetime | None
    itemsTotal: BigInt = strawberry.field(description="To copy, counted when it began.")
    itemsCopied: BigInt
    itemsHeldBack: BigInt
    rate: float | None = strawberry.field(description="Items a second, lately.")
    secondsLeft: float | None = strawberry.field(description="At the present rate.")
    stage: str | None
    waiting: str | None = strawberry.field(description="What its driver waits for now.")
    error: str | None = strawberry.field(description="Why it failed.")

    @classmethod
    def of(cls, run: Run) -> "MigrationRun":
        interrupted = run.state == "RUNNING" and not run.driven
        return cls(
            id=strawberry.ID(str(run.id)),
            kind=RunKind(run.kind.upper()),
            state=RunState.INTERRUPTED if interrupted else RunState(run.state),
            driver=run.driver,
            requestedBy=run.requested_by,
            startedAt=shown_instant(run.started_at),
            finishedAt=None if run.finished_at is None else shown_instant(run.finished_at),
            itemsTotal=BigInt(run.items_total),
            itemsCopied=BigInt(run.items_copied),
            itemsHeldBack=BigInt(run.items_held_back),
            rate=run.rate,
            secondsLeft=run.seconds_left,
            stage=run.stage,
            waiting=run.waiting,
            error=run.error,
        )


async def history(
    root: strawberry.Parent[Any], info: Info[Context, Any], first: First = 20, after: After = UNSET
) -> "ActConnection":
    return await answer_part(info.context.reader, info.context.viewer, info.context.at(info.path))


@strawberry.type(description="One entry of the audit, made with what was done.")
class Act:
    id: strawberry.ID
    at: datetime
    action: str
    actor: str
    application: str = strawberry.field(description="What the session was named.")
    role: str = strawberry.field(description="The session's user of the database.")
    client: str | None = strawberry.field(description="Where the session came from; null through a socket.")
    details: JSON = strawberry.field(description="Of acts that concern all companies, nothing to who sees one.")


@strawberry.type
class ActEdge:
    cursor: str
    node: Act


@strawberry.type
class ActConnection:
    edges: list[ActEdge]
    pageInfo: PageInfo
    totalCount: int


async def read_differences(
    root: strawberry.Parent[Any], info: Info[Context, Any], first: First = 20, after: After = UNSET
) -> "ReadDifferenceConnection":
    return await answer_part(info.context.reader, info.context.viewer, info.context.at(info.path))


@strawberry.type(description="The latest time that a sampled read of an item was answered otherwise by both systems.")
class ReadDifference:
    itemId: strawberry.ID
    cause: str
    explained: bool = strawberry.field(description="As it should be: received since, or cut over.")
    legacyQuantity: BigInt
    batchQuantity: BigInt
    times: BigInt = strawberry.field(description="How often it was so.")
    at: datetime


@strawberry.type
class ReadDifferenceEdge:
    cursor: str
    node: ReadDifference


@strawberry.type
class ReadDifferenceConnection:
    edges: list[ReadDifferenceEdge]
    pageInfo: PageInfo
    totalCount: int


@strawberry.type(description="A stage of the plan of weeks.")
class ScheduleStage:
    name: ScheduleStageName
    state: ScheduleStageState
    what: str = strawberry.field(description="What is to be done.")
    since: datetime | None = strawberry.field(description="When it was done.")
    against: list[str] = strawberry.field(description="What is to be waited for, or put right, first.")

    @classmethod
    def of(cls, stage: Stage) -> "ScheduleStage":
        return cls(
            name=ScheduleStageName(stage.name),
            state=ScheduleStageState(stage.state),
            what=stage.what,
            since=None if stage.since is None else shown_instant(stage.since),
            against=list(stage.against),
        )


async def schedule(root: strawberry.Parent[Any], info: Info[Context, Any]) -> list[ScheduleStage]:
    if info.context.viewer.company is not None:
        return []
    async with connecting(info.context.reader.engine) as connection:
        return [ScheduleStage.of(stage) for stage in await read_schedule(connection, root.status)]


@strawberry.type(description="What must hold before the legacy columns are dropped.")
class Gate:
    name: str
    open: bool
    reason: str = strawberry.field(description="Why it is closed, or what keeps it open.")


async def gates(root: strawberry.Parent[Any], info: Info[Context, Any]) -> list[Gate]:
    if info.context.viewer.company is not None:
        return []
    async with connecting(info.context.reader.engine) as connection:
        return [Gate(name=gate.name, open=gate.open, reason=gate.reason) for gate in await read_gates(connection)]


@strawberry.type(description="Where the migration stands.")
class Migration:
    phase: MigrationPhase
    readSource: ReadSource
    writeBack: bool = strawberry.field(description="Legacy columns of items that are cut over follow their batches.")
    items: int
    copied: int
    cutOver: int = strawberry.field(description="Answered for by their batches alone.")
    heldBack: int = strawberry.field(description="Could not be copied; `stockshift plan` says why.")
    drifted: int = strawberry.field(description="A legacy column was written, and the batches do not have it.")
    run: MigrationRun | None = strawberry.field(description="The latest; null when there was none.")
    history: ActConnection = strawberry.field(resolver=history, description="Who did what, latest first.")
    schedule: list[ScheduleStage] = strawberry.field(
        resolver=schedule, description="The plan of weeks; empty for who sees one company."
    )
    gates: list[Gate] = strawberry.field(resolver=gates, description="Of contract; empty for who sees one company.")
    readDifferences: ReadDifferenceConnection = strawberry.field(
        resolver=read_differences, description="What sampled reads found, latest first; see STOCKSHIFT_COMPARE_READS."
    )
    status: strawberry.Private[MigrationStatus]

    @classmethod
    def of(cls, status: MigrationStatus) -> "Migration":
        return cls(
            phase=MigrationPhase(status.phase),
            readSource=ReadSource(status.read_source),
            writeBack=status.write_back,
            items=status.items,
            copied=status.copied,
            cutOver=status.cut_over,
            heldBack=status.held_back,
            drifted=status.drifted,
            run=None if status.run is None else MigrationRun.of(status.run),
            status=status,
        )


@strawberry.type(description="How far the latest run is. Who sees one company has its own items counted.")
class MigrationProgress:
    phase: MigrationPhase
    run: MigrationRun | None = strawberry.field(description="Null when there was none.")
    done: BigInt = strawberry.field(description="Items copied.")
    total: BigInt = strawberry.field(description="Items to copy.")
    rate: float | None = strawberry.field(description="Items a second, lately.")
    secondsLeft: float | None = strawberry.field(description="At the present rate.")
    waiting: str | None = strawberry.field(description="What the driver waits for now.")
    stage: str | None

    @classmethod
    def of(cls, seen: Seen) -> "MigrationProgress":
        run = None if seen.run is None else MigrationRun.of(seen.run)
        return cls(
            phase=MigrationPhase(seen.phase),
            run=run,
            done=run.itemsCopied if run else BigInt(0),
            total=run.itemsTotal if run else BigInt(0),
            rate=run.rate if run else None,
            secondsLeft=run.secondsLeft if run else None,
            waiting=run.waiting if run else None,
            stage=run.stage if run else None,
        )


@strawberry.type(description="How far a verification is.")
class VerificationProgress:
    id: strawberry.ID
    state: VerificationState
    itemsChecked: int
    verification: Verification


@strawberry.type(description="An expected failure. `field` is the path of the input that was wrong.")
class UserError:
    field: list[str] | None
    message: str
    code: ErrorCode


@strawberry.type
class CreateBatchPayload:
    batch: StockBatch | None
    item: Item | None
    errors: list[UserError]


@strawberry.type
class RunVerificationPayload:
    verification: Verification | None
    errors: list[UserError]


@strawberry.type
class StartMigrationPayload:
    migration: Migration | None
    errors: list[UserError]


@strawberry.type
class MigrationPayload:
    migration: Migration | None
    errors: list[UserError]
