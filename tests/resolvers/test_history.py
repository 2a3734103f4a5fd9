"""The audit in GraphQL: latest first, in pages; whole for who sees all companies, and for others what tells of none."""

import orjson
from sqlalchemy import text

from migration.audit import record
from migration.read_source import set_read_source
from migration.verify import verify
from resolvers.viewer import Role, Viewer
from tests.graphql_client import ADMIN, MANAGER, STAFF, Client, client_of
from tests.migration.support import engine_on

HISTORY = """
    query($first: Int = 50, $after: String) { migration { history(first: $first, after: $after) {
        totalCount pageInfo { hasNextPage endCursor }
        edges { node { id at action actor application role client details } }
    } } }
"""
ACME = Viewer("manager@acme.example", Role.MANAGER, "acme")


async def acts(client: Client, viewer: Viewer) -> list[dict[str, object]]:
    history = (await client.ask(HISTORY, viewer))["migration"]["history"]
    nodes = [edge["node"] for edge in history["edges"]]
    assert history["totalCount"] == len(nodes)
    return nodes


async def add_acts(url: str) -> None:
    """Of everybody, and of two companies by themselves; one of them does what only all may, or leaves out whose."""
    async with engine_on(url) as engine:
        for company in ("acme", "globex"):
            await verify(engine, company=company, requested_by=f"auditor of {company}")
        async with engine.begin() as connection:
            await connection.execute(text("SET LOCAL application_name = 'the way back'"))
            await set_read_source(connection, "AUTO", "dave")
            await record(connection, "CUT_OVER", "globex-admin", items=["globex-item"])
            await record(connection, "READ_SOURCE_SET", "globex-admin", to="AUTO", company="globex")


async def test_the_latest_act_comes_first_with_who_and_from_where(batches_url: str) -> None:
    await add_acts(batches_url)
    async with client_of(batches_url) as client:
        for viewer in (ADMIN, MANAGER):
            found = await acts(client, viewer)
            assert [act["action"] for act in found] == [
                *("READ_SOURCE_SET", "CUT_OVER", "READ_SOURCE_SET", "VERIFIED", "VERIFIED"),
                *("MIGRATION_ENDED", "VERIFIED", "MIGRATION_BEGUN"),
            ]
            set_ = found[2]
            assert (set_["actor"], set_["application"], set_["details"]) == ("dave", "the way back", {"to": "AUTO"})
            assert str(set_["at"]).endswith("Z")
            assert set_["role"]
        assert (await client.answer(HISTORY, STAFF)).codes == ["FORBIDDEN"]


async def test_it_is_paged_and_a_page_too_long_is_refused(batches_url: str) -> None:
    async with client_of(batches_url, most_rows=2) as client:
        first = (await client.ask(HISTORY, first=2))["migration"]["history"]
        assert first["pageInfo"]["hasNextPage"]
        rest = (await client.ask(HISTORY, first=2, after=first["pageInfo"]["endCursor"]))["migration"]["history"]
        assert [edge["node"]["id"] for page in (first, rest) for edge in page["edges"]] == ["3", "2", "1"]
        refused = await client.answer(HISTORY, first=3)
        assert refused.codes == ["BAD_REQUEST"]
        assert "3 rows are asked for" in refused.message
        assert (await client.answer(HISTORY, first=2, after="nonsense")).codes == ["BAD_REQUEST"]


async def test_who_sees_one_company_is_told_what_concerns_all_and_its_own(batches_url: str) -> None:
    await add_acts(batches_url)
    async with client_of(batches_url) as client:
        found = await acts(client, ACME)
    assert [(act["action"], act["actor"]) for act in found] == [
        ("READ_SOURCE_SET", "dave"),
        ("VERIFIED", "auditor of acme"),
        ("MIGRATION_ENDED", "test"),
        ("MIGRATION_BEGUN", "test"),
    ]
    own = [act for act in found if act["details"]]
    assert [act["action"] for act in own] == ["VERIFIED"]
    assert b"globex" not in orjson.dumps(found)


async def test_before_the_migration_there_is_none(stock_url: str) -> None:
    async with client_of(stock_url) as client:
        assert await acts(client, ADMIN) == await acts(client, ACME) == []


async def test_a_payload_has_the_history_with_what_was_just_done(batches_url: str) -> None:
    mutation = """mutation { setReadSource(source: LEGACY) {
        migration { latest: history(first: 1) { edges { node { action actor details } } } } errors { message } } }"""
    async with client_of(batches_url) as client:
        payload = (await client.ask(mutation))["setReadSource"]
    assert payload["migration"]["latest"]["edges"] == [
        {"node": {"action": "READ_SOURCE_SET", "actor": ADMIN.subject, "details": {"to": "LEGACY"}}}
    ]
