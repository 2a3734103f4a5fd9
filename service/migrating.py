"""`stockshift migrate`: which way is taken, what a run that somebody else drives is told, what is said at the end."""

import asyncio
import sys
from dataclasses import dataclass, replace

import click

from db.engine import connecting
from migration.atomic import Migrated, migrate_atomic
from migration.blockers import Blocked
from migration.choices import Choices
from migration.locks import DRIVER_PREFIX
from migration.online import Outcome, migrate_online
from migration.options import Options
from migration.plan import Plan, make_plan
from migration.run import STOPPED, NoRun, Run, Wanted, ask, latest_run, options_of, unfinished_run
from migration.throttle import Throttle
from service import terminal
from service.database import Database
from service.endings import Declined, Interrupted
from service.sessions import engine_for, who

ATOMIC_ITEMS = 100_000
POLL_SECONDS = 0.2
GO_ON = "what was copied stays; `stockshift migrate` goes on"


@dataclass(frozen=True)
class Asked:
    """The words of the command line."""

    atomic: bool
    online: bool
    items: tuple[str, ...]
    chunk_size: int | None
    throttle: tuple[str, ...]
    null_cost: str | None
    null_order_date: str | None
    null_status: str | None
    pause: bool
    resume: bool
    cancel: bool
    yes: bool

    @property
    def told(self) -> list[str]:
        return [f"--{word}" for word in ("pause", "resume", "cancel") if getattr(self, word)]

    @property
    def paced(self) -> bool:
        return self.chunk_size is not None or bool(self.throttle)

    def options(self) -> Options:
        """Raises UsageError, UnknownThrottle, InvalidChoice."""
        choices = Choices.parse(self.null_cost, self.null_order_date, self.null_status)
        asked = Options(self.chunk_size, Throttle.parse(self.throttle), choices, self.items)
        for together in (self.told, [f"--{word}" for word in ("atomic", "online") if getattr(self, word)]):
            if len(together) > 1:
                raise click.UsageError(f"{' and '.join(together)} exclude each other.")
        if self.atomic and self.paced:
            raise click.UsageError("--chunk-size and --throttle are for --online: --atomic is one transaction.")
        if self.told and (self.atomic or self.items):
            raise click.UsageError(f"{self.told[0]} is for the run that is under way, with the items it was begun for.")
        if (self.pause or self.cancel) and asked != Options():
            raise click.UsageError(f"{self.told[0]} takes no other option.")
        return asked


def migrate(database: Database, lock_timeout_ms: int, asked: Asked, options: Options) -> int:
    """Does what the command line says, and answers the exit code."""
    if asked.pause or asked.cancel:
        return _tell(database, "PAUSE" if asked.pause else "CANCEL")
    if asked.resume:
        asyncio.run(_free_to_resume(database))
    plan, run, kept = asyncio.run(_look(database, options))
    if run is None:
        if plan.steps and not asked.yes:
            _confirm(f"Copy {plan.to_copy} items of database {terminal.plain(plan.database)!r} to batches?")
        if not plan.steps or asked.atomic or not (asked.online or asked.paced or plan.to_copy > ATOMIC_ITEMS):
            return _say_atomic(asyncio.run(_migrate_atomic(database, lock_timeout_ms, options)))
        return _drive(database, lock_timeout_ms, options)
    if asked.atomic or asked.items:
        raise Declined(
            f"run {run.id} is not finished, {run.items_copied} of {run.items_total} items are copied; go on with it by "
            "`stockshift migrate`, or end it by `stockshift migrate --cancel`"
        )
    if not (asked.yes or asked.resume or run.driven):
        _confirm(
            f"Go on with run {run.id} of database {terminal.plain(plan.database)!r}, "
            f"{run.items_copied} of {run.items_total} items copied?"
        )
    return _drive(database, lock_timeout_ms, None if options == Options() else _over(kept, options))


async def _look(database: Database, options: Options) -> tuple[Plan, Run | None, Options]:
    """What there is to do, the run that is not finished, and what that was asked to do. Raises Blocked."""
    async with engine_for(database, "stockshift plan") as engine:
        plan = await make_plan(engine, options=options)
        if not plan.ready:
            raise Blocked(plan.blockers)
        async with connecting(engine) as connection:
            run = await unfinished_run(connection)
            return plan, run, await options_of(connection, run.id) if run else Options()


def _over(kept: Options, asked: Options) -> Options:
    """What a run was asked to do, save what is asked now."""
    chosen = {name: value for name, value in vars(asked.choices).items() if value is not None}
    return replace(
        kept,
        chunk_size=asked.chunk_size or kept.chunk_size,
        throttle=kept.throttle if asked.throttle == Throttle() else asked.throttle,
        choices=replace(kept.choices, **chosen),
    )


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("nobody is there to be asked; add --yes to go ahead.")
    if not click.confirm(question):
        raise Declined


async def _migrate_atomic(database: Database, lock_timeout_ms: int, options: Options) -> Migrated:
    async with engine_for(database, f"{DRIVER_PREFIX} {who()}") as engine:
        with terminal.progress() as report:
            return await migrate_atomic(
                engine, driver=who(), options=options, lock_timeout_ms=lock_timeout_ms, progress=report
            )


def _say_atomic(done: Migrated) -> int:
    if done.verification is None:
        click.echo(f"Nothing was left to do; {done.held_back} items are held back.")
        _say_held_back(done.held_back)
        return 0
    differing = _say_copied(done, done.verification)
    if differing:
        click.echo(f"{differing} items differ for reasons from before; `stockshift verify` names them.")
    return 0


def _say_copied(done: Migrated | Outcome, verification: int | None) -> int:
    """How many items differ beside those that are only not copied."""
    click.echo(
        f"Copied {done.copied} items ({done.adopted} had their batch already), {done.held_back} held back; "
        f"verified as number {verification}."
    )
    _say_held_back(done.held_back)
    if done.not_copied:
        click.echo(
            f"{done.not_copied} items are new, or were not asked for: they are answered from their legacy columns; "
            "`stockshift migrate` copies them."
        )
    return done.mismatched


def _say_held_back(number: int) -> None:
    if number:
        click.echo(
            f"{number} items are answered from their legacy columns: `stockshift plan` says why; once they are mended,"
            " `stockshift migrate` copies them."
        )


def _drive(database: Database, lock_timeout_ms: int, options: Options | None) -> int:
    try:
        done, asker = asyncio.run(_migrate_online(database, lock_timeout_ms, options))
    except KeyboardInterrupt as error:
        raise Interrupted(GO_ON) from error
    if done.state == "PAUSED":
        click.echo(f"Paused by {asker} after {done.copied} items; `stockshift migrate` goes on.")
        return 0
    if done.state == "CANCELLED":
        click.echo(
            f"Cancelled by {asker} after {done.copied} items; what was copied stays, and follows the legacy columns. "
            "`stockshift migrate` copies the rest."
        )
        return 0
    differing = _say_copied(done, done.verification)
    if differing:
        click.echo(f"{differing} items differ; `stockshift verify` names them.")
    return 1 if differing else 0


async def _migrate_online(
    database: Database, lock_timeout_ms: int, options: Options | None
) -> tuple[Outcome, str | None]:
    """The outcome, and who asked for it last."""
    async with engine_for(database, f"{DRIVER_PREFIX} {who()}") as engine:
        with terminal.progress() as report:
            done = await migrate_online(
                engine,
                driver=who(),
                requested_by=who(),
                options=options,
                lock_timeout_ms=lock_timeout_ms,
                progress=report,
            )
        async with connecting(engine) as connection:
            run = await latest_run(connection)
        return done, terminal.plain(run.requested_by or "somebody") if run else None


def _tell(database: Database, wanted: Wanted) -> int:
    try:
        run = asyncio.run(_told(database, wanted))
    except KeyboardInterrupt as error:
        raise Interrupted("the run is told all the same") from error
    if run.state != STOPPED[wanted]:
        raise StoppedOtherwise(f"run {run.id} is {run.state} after {run.items_copied} items; see `stockshift status`")
    rest = "goes on" if wanted == "PAUSE" else "copies the rest; what was copied stays"
    click.echo(f"{run.state.capitalize()} after {run.items_copied} items; `stockshift migrate` {rest}.")
    return 0


class StoppedOtherwise(Declined):
    """The run ended before it could be told."""


async def _told(database: Database, wanted: Wanted) -> Run:
    """Tells the driver, and waits until it has stopped. Raises NoRun."""
    async with engine_for(database, f"stockshift {wanted.lower()}") as engine:
        async with engine.begin() as connection:
            run = await ask(connection, wanted, who())
        while run.state == "RUNNING":
            await asyncio.sleep(POLL_SECONDS)
            async with engine.begin() as connection:
                seen = await latest_run(connection)
                # A driver that died meanwhile does not stop by itself.
                run = await ask(connection, wanted, who()) if seen is None or seen.interrupted else seen
        return run


async def _free_to_resume(database: Database) -> None:
    """Waits until a driver that was told to pause has. Raises NoRun."""
    async with engine_for(database, "stockshift resume") as engine:
        while True:
            async with connecting(engine) as connection:
                run = await unfinished_run(connection)
            if run is None:
                raise NoRun
            if not run.driven or run.wanted == "RUN":
                return
            await asyncio.sleep(POLL_SECONDS)
