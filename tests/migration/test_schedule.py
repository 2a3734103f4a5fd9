"""The plan of weeks: which stage is done and since when, which is next, and what speaks against it."""

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from migration.audit import Action, record
from migration.options import Options
from migration.read_source import set_read_source
from migration.schedule import Stage, read_schedule
from migration.status import read_status
from tests.migration.support import at_statements, engine_on, migrate, verified
from tests.support import Connection, psql


async def scheduled(url: str) -> dict[str, Stage]:
    async with engine_on(url) as engine, engine.connect() as connection:
        return {stage.name: stage for stage in await read_schedule(connection, await read_status(connection, None))}


async def stands(url: str) -> str:
    """The first letter of each stage's state."""
    return "".join(stage.state[0] for stage in (await scheduled(url)).values())


async def done(url: str, action: Action, **details: object) -> None:
    async with engine_on(url) as engine, engine.begin() as connection:
        await record(connection, action, "test", **details)


async def days_pass(connection: Connection, days: int) -> None:
    """As if everything but the audit, which nobody can change, were so much older."""
    for table, columns in {
        "migration_run": ("started_at", "finished_at"),
        "verification": ("started_at", "finished_at"),
    }.items():
        sets = ", ".join(f"{column} = {column} - interval '{days} days'" for column in columns)
        await connection.execute(f"UPDATE stockshift.{table} SET {sets}")


async def cut_over(connection: Connection, which: str = "true") -> None:
    await connection.execute(f"UPDATE stockshift.copy_ledger SET cut_over_at = now() WHERE {which}")


async def test_before_the_migration_a_backup_is_next_and_all_else_later(items_url: str) -> None:
    found = await scheduled(items_url)
    assert list(found) == ["BACKUP", "MIGRATE", "TEST_ONE_ITEM", "WEEK_1", "WEEK_2", "MONTH_1", "CONTRACT"]
    assert await stands(items_url) == "NLLLLLL"
    assert all(stage.since is None for stage in found.values())
    assert found["BACKUP"].against == (
        "a backup of before the migration is not on record here: its folder is the proof",
    )


async def test_each_stage_is_done_in_its_turn(items_url: str) -> None:
    await migrate(items_url)
    assert await stands(items_url) == "NDNLLLL"
    await done(items_url, "BACKED_UP")
    assert await stands(items_url) == "DDNLLLL"
    async with psql(items_url) as connection:
        await cut_over(connection, "item_id = 'item-Sold'")
        await done(items_url, "CUT_OVER", items=["item-Sold"])
        assert await stands(items_url) == "DDDNLLL"
        await days_pass(connection, 6)
        assert (await scheduled(items_url))["WEEK_1"].against == ("1 day is left",)
        await days_pass(connection, 1)
        assert (await scheduled(items_url))["WEEK_1"].against == (
            "no verification of all companies has passed since the week was over",
        )
        await verified(items_url, company="acme")
        assert await stands(items_url) == "DDDNLLL"
        await verified(items_url)
        assert await stands(items_url) == "DDDDNLL"
        await days_pass(connection, 7)
        await verified(items_url)
        assert await stands(items_url) == "DDDDDNL"
        await days_pass(connection, 16)
        await verified(items_url)
        assert (await scheduled(items_url))["MONTH_1"].against == ("6 of 7 items are not cut over",)
        await cut_over(connection)
        assert await stands(items_url) == "DDDDDDN"
        against = (await scheduled(items_url))["CONTRACT"].against
        assert "rehearsed: no backup was restored in rehearsal; `stockshift backup`, then `rehearse`" in against
        await done(items_url, "CONTRACTED")
        assert await stands(items_url) == "DDDDDDD"
        await done(items_url, "CONTRACT_UNDONE")
        assert await stands(items_url) == "DDDDDDN"
        found = await scheduled(items_url)
        sinces = [found[name].since for name in ("MIGRATE", "WEEK_1", "WEEK_2", "MONTH_1")]
        assert None not in sinces
        assert sinces == sorted(sinces, key=str)


async def test_an_item_that_has_nothing_to_copy_does_not_hold_up_the_month(items_url: str) -> None:
    await migrate(items_url)
    async with psql(items_url) as connection:
        await connection.execute(
            """
            ALTER TABLE items ALTER status DROP NOT NULL;
            INSERT INTO items
            SELECT (jsonb_populate_record(i, '{"id": "nothing", "quantityInStock": 0, "status": null}')).*
            FROM items i WHERE id = 'item-Sold'
            """
        )
        await cut_over(connection)
        await days_pass(connection, 30)
        await verified(items_url)
    assert (await stands(items_url))[5] == "D"


async def test_what_an_earlier_version_began_is_to_be_migrated_again(items_url: str) -> None:
    await migrate(items_url)
    async with psql(items_url) as connection:
        await connection.execute("DROP TABLE stockshift.audit")
    assert (await scheduled(items_url))["MIGRATE"].against == (
        "an earlier version began it: `stockshift migrate` makes what is missing here",
    )


async def test_what_speaks_against_going_on_is_said(items_url: str) -> None:
    await migrate(items_url)
    assert (await scheduled(items_url))["TEST_ONE_ITEM"].against == ()
    async with engine_on(items_url) as engine, engine.begin() as connection:
        await set_read_source(connection, "LEGACY", "test")
    async with psql(items_url) as psql_:
        await cut_over(psql_, "item_id = 'item-Sold'")
        await psql_.execute("UPDATE items SET notes = 'anew' WHERE id = 'item-Sold'")
        await verified(items_url)
    assert (await scheduled(items_url))["TEST_ONE_ITEM"].against == (
        "verification 2 failed; `stockshift verify` says why",
        "1 item has drifted",
        "reads come from the legacy columns; `stockshift read-source auto` takes them back",
    )


async def test_a_run_that_stands_still_speaks_against_the_migration_and_one_of_some_items_is_none(
    items_url: str,
) -> None:
    await migrate(items_url, options=Options(items=("item-Sold",)))
    assert (await stands(items_url))[1] == "N"
    async with psql(items_url) as connection:
        await connection.execute(
            "INSERT INTO stockshift.migration_run (kind, driver, started_at, state)"
            " VALUES ('online', 'x', now(), 'PAUSED')"
        )
    assert (await scheduled(items_url))["MIGRATE"].against == (
        "run 2 is PAUSED, 0 of 0 items are copied; `stockshift migrate` goes on",
    )
    await done(items_url, "CUT_OVER", items=["item-Sold"])
    assert (await scheduled(items_url))["WEEK_1"].against == ("the copy of all items is not finished",)


async def test_after_a_rollback_the_weeks_begin_anew_and_after_its_undoing_they_go_on(items_url: str) -> None:
    await migrate(items_url)
    await done(items_url, "BACKED_UP")
    await done(items_url, "ROLLED_BACK")
    assert await stands(items_url) == "NNLLLLL"
    await done(items_url, "ROLLBACK_UNDONE")
    assert await stands(items_url) == "DDNLLLL"


async def test_it_takes_the_same_statements_however_much_has_happened(items_url: str) -> None:
    async def statements(engine: AsyncEngine) -> int:
        sent: list[str] = []
        async with engine.connect() as connection:
            status = await read_status(connection, None)
            with at_statements(engine, lambda sql, _: sent.append(sql)):
                await read_schedule(connection, status)
        return len(sent)

    await migrate(items_url)
    async with engine_on(items_url) as engine:
        before = await statements(engine)
        for _ in range(3):
            await verified(items_url)
            await done(items_url, "CUT_OVER")
        assert before == await statements(engine)


@pytest.mark.parametrize("state", ["RUNNING", "FAILED"])
async def test_a_verification_that_did_not_end_does_not_count_as_the_latest(items_url: str, state: str) -> None:
    await migrate(items_url)
    async with psql(items_url) as connection:
        await connection.execute("INSERT INTO stockshift.verification (state, finished_at) VALUES ($1, now())", state)
    assert bool((await scheduled(items_url))["TEST_ONE_ITEM"].against) == (state == "FAILED")
