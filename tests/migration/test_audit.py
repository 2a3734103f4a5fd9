"""The audit: every act leaves an entry, with who and what, in its own transaction; and nobody takes one back."""

import asyncpg
import pytest

from migration.atomic import NotVerified, migrate_atomic
from migration.history import Act, read_history
from migration.online import migrate_online
from migration.read_source import set_read_source
from migration.run import ask
from migration.verify import verify
from tests.migration.support import engine_on, migrate, once_before, verified
from tests.support import insert_item, psql


async def history(url: str) -> list[Act]:
    async with engine_on(url) as engine, engine.connect() as connection:
        return await read_history(connection)


async def told(url: str) -> list[tuple[str, str]]:
    return [(act.action, act.actor) for act in await history(url)]


async def test_an_atomic_migration_is_recorded_with_what_came_of_it(items_url: str) -> None:
    assert await history(items_url) == []
    await migrate(items_url)
    begun, verification, ended = await history(items_url)
    assert [(act.action, act.actor) for act in (begun, verification, ended)] == [
        ("MIGRATION_BEGUN", "test"),
        ("VERIFIED", "test"),
        ("MIGRATION_ENDED", "test"),
    ]
    assert begun.details == {"run": 1, "kind": "atomic"}
    assert verification.details == {"verification": 1, "passed": True, "items": 7, "mismatched": 0}
    assert ended.details == {"run": 1, "state": "FINISHED", "copied": 7, "held_back": 0}
    assert ended.application == "stockshift migrate: test"
    assert ended.role
    assert begun.at <= ended.at


async def test_a_migration_that_kept_nothing_is_not_recorded(items_url: str) -> None:
    """Nothing was done: the entry went with what it told of."""
    await migrate(items_url)
    before = await history(items_url)
    async with engine_on(items_url) as engine, psql(items_url) as connection:
        await insert_item(connection, "new")

        async def tamper() -> None:
            raise NotVerified

        with once_before(engine, "verification_mismatch", tamper), pytest.raises(NotVerified):
            await migrate_atomic(engine, driver="test")
    assert await history(items_url) == before


async def test_an_online_run_is_recorded_from_its_begin_over_a_pause_to_its_end(items_url: str) -> None:
    async with engine_on(items_url) as engine:

        async def pause() -> None:
            async with engine.begin() as connection:
                await ask(connection, "PAUSE", "boss")

        with once_before(engine, "SELECT stockshift.migration_run.wanted", pause):
            await migrate_online(engine, driver="one", requested_by="asker")
        await migrate_online(engine, driver="two", requested_by="asker")
    found = await history(items_url)
    assert [(act.action, act.actor, act.details.get("state")) for act in found] == [
        ("MIGRATION_BEGUN", "asker", None),
        ("MIGRATION_ASKED", "boss", None),
        ("MIGRATION_ENDED", "one", "PAUSED"),
        ("MIGRATION_BEGUN", "asker", None),
        ("VERIFIED", "two", None),
        ("MIGRATION_ENDED", "two", "FINISHED"),
    ]
    assert [act.details.get("resumed") for act in found if act.action == "MIGRATION_BEGUN"] == [False, True]
    assert found[1].details == {"run": 1, "wanted": "PAUSE"}
    assert found[-1].details == {"run": 1, "state": "FINISHED", "copied": 7, "held_back": 0}


async def test_an_online_run_that_fails_is_recorded_with_the_reason(items_url: str) -> None:
    async with engine_on(items_url) as engine, psql(items_url) as connection:

        async def spoil() -> None:
            await connection.execute('ALTER TABLE items RENAME "quantityInStock" TO gone')

        with once_before(engine, "CREATE OR REPLACE FUNCTION stockshift.follow_item", spoil), pytest.raises(Exception):  # noqa: B017, PT011
            await migrate_online(engine, driver="one")
    ended = (await history(items_url))[-1]
    assert (ended.action, ended.actor, ended.details["state"]) == ("MIGRATION_ENDED", "one", "FAILED")
    assert "quantityInStock" in ended.details["error"]


async def test_a_verification_and_a_read_source_are_recorded_with_who_asked(items_url: str) -> None:
    await migrate(items_url)
    async with engine_on(items_url) as engine:
        await verify(engine, company="globex", requested_by="carol")
        async with engine.begin() as connection:
            await set_read_source(connection, "LEGACY", "dave")
    verification, source = (await history(items_url))[-2:]
    assert (verification.actor, verification.details) == (
        "carol",
        {"verification": 2, "passed": True, "items": 1, "mismatched": 0, "company": "globex"},
    )
    assert (source.action, source.actor, source.details) == ("READ_SOURCE_SET", "dave", {"to": "LEGACY"})


async def test_what_is_rolled_back_leaves_no_entry(items_url: str) -> None:
    await migrate(items_url)
    before = await history(items_url)
    async with engine_on(items_url) as engine, engine.connect() as connection, connection.begin() as transaction:
        await set_read_source(connection, "LEGACY", "dave")
        assert len(await read_history(connection)) == len(before) + 1
        await transaction.rollback()
    assert await history(items_url) == before


CHANGES = [
    "UPDATE stockshift.audit SET actor = 'nobody'",
    "UPDATE stockshift.audit SET actor = 'nobody' WHERE false",
    "DELETE FROM stockshift.audit",
    "TRUNCATE stockshift.audit",
    "SET session_replication_role = replica; DELETE FROM stockshift.audit",
]


async def test_the_audit_only_grows(items_url: str) -> None:
    """Its owner and a superuser are told so too, and so is a replication worker."""
    await migrate(items_url)
    before = await history(items_url)
    async with psql(items_url) as connection:
        for change in CHANGES:
            with pytest.raises(asyncpg.RaiseError, match=r"stockshift\.audit only grows") as refused:
                await connection.execute(change)
            assert refused.value.hint == "What was wrong is set right by another entry."
    assert await history(items_url) == before


async def test_a_database_that_lost_the_trigger_gets_it_again_and_verification_says_so(items_url: str) -> None:
    await migrate(items_url)
    async with psql(items_url) as connection:
        await connection.execute("ALTER TABLE stockshift.audit DISABLE TRIGGER audit_only_grows")
        found = await verified(items_url)
        wrong = [check.detail or "" for check in found.checks if not check.passed]
        assert len(wrong) == 1
        assert "the audit only grows" in wrong[0]
        await migrate(items_url)
        with pytest.raises(asyncpg.RaiseError):
            await connection.execute("DELETE FROM stockshift.audit")


async def test_a_database_of_before_the_audit_can_still_be_switched(items_url: str) -> None:
    """An earlier version of us expanded it: the way back to legacy reads must not need a migration first."""
    await migrate(items_url)
    async with psql(items_url) as connection:
        await connection.execute("DROP TABLE stockshift.audit")
    async with engine_on(items_url) as engine, engine.begin() as connection_:
        await set_read_source(connection_, "LEGACY", "dave")
    assert await history(items_url) == []
