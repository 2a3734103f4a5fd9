"""Subscriptions, over a WebSocket and as events: who may, what they see, and that nothing is left of who has gone."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from resolvers.viewer import Role
from tests.conftest import CopyTemplate, MakeTemplate, fill_shop, url_of
from tests.migration.support import migrate, until
from tests.service.live import Live, bearer, events, live, opened, wired
from tests.service.processes import serving
from tests.support import Connection, insert_item, psql

PROGRESS = """
subscription {
  migrationProgress {
    phase done total rate secondsLeft waiting stage
    run { id kind state driver requestedBy startedAt finishedAt itemsTotal itemsCopied itemsHeldBack stage error }
  }
}
"""
STATE = "subscription { migrationProgress { done run { state } } }"
BEGIN = """
INSERT INTO stockshift.migration_run
    (kind, driver, started_at, items_total, items_copied, rate, stage, requested_by, place)
VALUES ('online', 'host:1', '2026-01-31 12:00:00Z', 100, 10, 45.0, 'copy', 'admin@test', 'command') RETURNING id
"""
LEASE = "INSERT INTO stockshift.driver (token, name, place) VALUES ('t', 'host:1', 'command')"
COPY = "UPDATE stockshift.migration_run SET items_copied = $1 WHERE state = 'RUNNING'"
FINISH = "UPDATE stockshift.migration_run SET state = 'FINISHED', finished_at = now() WHERE state = 'RUNNING'"


async def fill_migrated(connection: Connection, server_url: str) -> None:
    await fill_shop(connection)
    await insert_item(connection, "mug")
    await insert_item(connection, "globex-mug", companyId="globex", locationId="globex-main")
    await migrate(await url_of(connection, server_url))


@pytest.fixture(scope="module")
def migrated_template(make_template: MakeTemplate, server_url: str) -> str:
    return make_template(lambda connection: fill_migrated(connection, server_url))


@pytest.fixture
def migrated_url(copy_template: CopyTemplate, migrated_template: str) -> str:
    """A shop of two items, one of each company, which were migrated and verified; number 1."""
    return copy_template(migrated_template)


@pytest.fixture
async def service(migrated_url: str) -> AsyncIterator[Live]:
    async with live(migrated_url) as service:
        yield service


@pytest.fixture
async def shop(migrated_url: str) -> AsyncIterator[Connection]:
    async with psql(migrated_url) as connection:
        yield connection


@pytest.fixture
async def running(shop: Connection) -> Connection:
    """An online run of 100 items, driven by another process; 10 are copied."""
    await shop.execute(LEASE)
    await shop.execute(BEGIN)
    return shop


async def test_over_a_websocket_a_run_is_told_as_it_is_and_then_as_it_changes_until_it_ends(
    service: Live, running: Connection
) -> None:
    async with wired(service.address) as wire:
        id_ = await wire.subscribe(PROGRESS)
        seen = (await wire.data())["migrationProgress"]
        run = seen.pop("run")
        assert seen == {
            "phase": "COPYING", "done": 10, "total": 100, "rate": 45.0, "secondsLeft": 2.0, "waiting": None,
            "stage": "copy",
        }  # fmt: skip
        assert run == {
            "id": "2", "kind": "ONLINE", "state": "RUNNING", "driver": "host:1", "requestedBy": "admin@test",
            "startedAt": "2026-01-31T12:00:00.000Z", "finishedAt": None, "itemsTotal": 100, "itemsCopied": 10,
            "itemsHeldBack": 0, "stage": "copy", "error": None,
        }  # fmt: skip
        await running.execute(COPY, 60)
        assert (await wire.data())["migrationProgress"]["done"] == 60
        await running.execute(FINISH)
        last = (await wire.data())["migrationProgress"]
        assert (last["phase"], last["run"]["state"]) == ("DUAL_RUN", "FINISHED")
        assert await wire.hear() == {"id": id_, "type": "complete"}
    await until(service.idle, "nothing is looked at any more")


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_as_events_a_run_is_told_as_it_is_and_then_as_it_changes_until_it_ends(
    service: Live, running: Connection, method: str
) -> None:
    async with events(service.url, STATE, method=method) as heard:
        first = await anext(heard)
        assert (first.kind, first.data) == (
            "next",
            {"data": {"migrationProgress": {"done": 10, "run": {"state": "RUNNING"}}}},
        )
        await running.execute(COPY, 60)
        assert (await anext(heard)).data["data"]["migrationProgress"]["done"] == 60
        await running.execute(FINISH)
        assert (await anext(heard)).data["data"]["migrationProgress"]["run"]["state"] == "FINISHED"
        last = await anext(heard)
        assert (last.kind, last.data) == ("complete", None)
        assert [event async for event in heard] == []
    await until(service.idle, "nothing is looked at any more")


async def test_without_a_run_nothing_is_waited_for(shop_url: str) -> None:
    """Before the expansion as well."""
    none = {"migrationProgress": {"phase": "NOT_STARTED", "done": 0, "total": 0, "run": None}}
    query = "subscription { migrationProgress { phase done total run { id } } }"
    async with live(shop_url) as service:
        async with wired(service.address) as wire:
            await wire.subscribe(query)
            assert await wire.data() == none
            assert (await wire.hear())["type"] == "complete"
        async with events(service.url, query) as heard:
            assert [event.kind async for event in heard] == ["next", "complete"]


async def test_a_run_whose_driver_is_silent_reads_as_interrupted_and_its_watchers_see_it_driven_on(
    service: Live, running: Connection
) -> None:
    await running.execute("UPDATE stockshift.driver SET beat_at = now() - interval '31 s'")
    async with wired(service.address) as wire:
        await wire.subscribe(STATE)
        assert (await wire.data())["migrationProgress"]["run"]["state"] == "INTERRUPTED"
        await running.execute("UPDATE stockshift.driver SET beat_at = now()")
        assert (await wire.data())["migrationProgress"]["run"]["state"] == "RUNNING"


async def test_who_sees_one_company_is_told_of_its_own_items_alone(service: Live, running: Connection) -> None:
    await running.execute("UPDATE stockshift.migration_run SET waiting = 'globex-mug is locked', error = 'globex-mug'")
    async with wired(service.address) as of_all, wired(service.address, bearer(Role.MANAGER, "acme")) as wire:
        await of_all.subscribe(PROGRESS)
        assert (await of_all.data())["migrationProgress"]["total"] == 100
        await wire.subscribe(PROGRESS)
        seen = (await wire.data())["migrationProgress"]
    assert (seen["done"], seen["total"], seen["rate"], seen["secondsLeft"]) == (0, 1, None, None)
    assert (seen["run"]["itemsTotal"], seen["run"]["itemsCopied"]) == (1, 0)
    assert "globex" not in json.dumps(seen)


VERIFICATION = """
subscription ($id: ID!) {
  seen: verificationProgress(id: $id) {
    number: id state itemsChecked verification { id itemsMatched checks { name } }
  }
}
"""
MADE = "INSERT INTO stockshift.verification (company_id) VALUES ($1) RETURNING id::text"
PASS = "UPDATE stockshift.verification SET state = 'PASSED', items_checked = 7, items_matched = 7 WHERE id::text = $1"


async def test_a_verification_is_told_until_it_has_ended(service: Live, shop: Connection) -> None:
    id_ = await shop.fetchval(MADE, None)
    async with wired(service.address) as wire:
        await wire.subscribe(VERIFICATION, variables={"id": id_})
        assert await wire.data() == {
            "seen": {
                "number": id_, "state": "RUNNING", "itemsChecked": 0,
                "verification": {"id": id_, "itemsMatched": 0, "checks": []},
            }
        }  # fmt: skip
        await shop.execute(PASS, id_)
        seen = (await wire.data())["seen"]
        assert (seen["state"], seen["itemsChecked"], seen["verification"]["itemsMatched"]) == ("PASSED", 7, 7)
        assert (await wire.hear())["type"] == "complete"
    await until(service.idle, "nothing is looked at any more")


async def test_one_that_runs_in_the_service_is_told_of(service: Live, shop: Connection) -> None:
    run = "mutation { runVerification(input: { wait: false }) { verification { id } } }"
    async with shop.transaction():
        await shop.execute("LOCK TABLE stock_batches IN ACCESS EXCLUSIVE MODE")
        async with httpx.AsyncClient() as http:
            answer = await http.post(service.url, json={"query": run}, headers={"Authorization": bearer()})
        id_ = answer.json()["data"]["runVerification"]["verification"]["id"]
        query = f'subscription {{ verificationProgress(id: "{id_}") {{ state itemsChecked }} }}'
        stack = events(service.url, query)
        heard = await stack.__aenter__()
        assert (await anext(heard)).data["data"]["verificationProgress"] == {"state": "RUNNING", "itemsChecked": 0}
    last = (await anext(heard)).data["data"]["verificationProgress"]
    assert last == {"state": "PASSED", "itemsChecked": 2}
    assert (await anext(heard)).kind == "complete"
    await stack.__aexit__(None, None, None)


@pytest.mark.parametrize("whose", ["globex", None])
async def test_a_verification_that_one_may_not_see_is_as_one_that_is_not_there(
    service: Live, shop: Connection, whose: str | None
) -> None:
    theirs = await shop.fetchval(MADE, whose)
    async with wired(service.address, bearer(Role.MANAGER, "acme")) as wire:
        told = []
        for id_ in (theirs, "999"):
            await wire.subscribe(VERIFICATION, variables={"id": id_})
            refusal = await wire.refusal()
            assert refusal["extensions"] == {"code": "BAD_REQUEST"}
            told.append(refusal["message"].replace(id_, "N"))
            assert (await wire.hear())["type"] == "complete"
    assert told[0] == told[1]
    assert "there is no verification" in told[0]


# Who may.


@pytest.mark.parametrize("query", [STATE, 'subscription { verificationProgress(id: "1") { state } }'])
async def test_staff_may_not_subscribe(service: Live, query: str) -> None:
    async with wired(service.address, bearer(Role.STAFF)) as wire:
        await wire.subscribe(query)
        assert (await wire.refusal())["extensions"] == {"code": "FORBIDDEN"}
    async with events(service.url, query, bearer(Role.STAFF)) as heard:
        (error,) = (await anext(heard)).data["errors"]
        assert error["extensions"] == {"code": "FORBIDDEN"}
        assert (await anext(heard)).kind == "complete"
    await until(service.idle, "nothing is looked at")


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (None, "no Authorization header"),
        ({}, "no Authorization header"),
        ({"Authorization": 5}, "no Authorization header"),
        ({"Authorization": "Basic abc"}, "not of the form"),
        ({"Authorization": "Bearer nonsense"}, "not valid"),
        ({"Authorization": bearer(ttl=timedelta(hours=-1))}, "expired"),
    ],
)
async def test_nobody_is_let_in_without_a_token(service: Live, payload: Any, why: str) -> None:
    async with opened(service.address) as wire:
        await wire.send(type="connection_init", **({} if payload is None else {"payload": payload}))
        code, reason = await wire.closed()
        assert code == 4403
        assert reason.startswith("Forbidden: ")
        assert why in reason
    headers = {name: str(value) for name, value in (payload or {}).items()}
    async with httpx.AsyncClient() as http:
        answer = await http.post(service.url, json={"query": STATE}, headers={**headers, "Accept": "text/event-stream"})
    assert answer.status_code == 401
    assert answer.json()["errors"][0]["extensions"] == {"code": "UNAUTHENTICATED"}


async def test_nothing_is_answered_before_the_token_is_there(service: Live, running: Connection) -> None:
    async with opened(service.address) as wire:
        await wire.subscribe(STATE)
        assert await wire.closed() == (4401, "Unauthorized")


@pytest.mark.parametrize("name", ["Authorization", "authorization", "AUTHORIZATION"])
async def test_the_token_may_be_under_its_name_in_any_case(service: Live, running: Connection, name: str) -> None:
    async with opened(service.address) as wire:
        await wire.send(type="connection_init", payload={name: bearer(Role.MANAGER)})
        assert (await wire.hear())["type"] == "connection_ack"
        await wire.subscribe(STATE)
        assert (await wire.data())["migrationProgress"]["done"] == 10


async def test_the_token_may_come_with_the_handshake_as_it_does_over_http(service: Live, running: Connection) -> None:
    async with opened(service.address, additional_headers={"Authorization": bearer(Role.MANAGER)}) as wire:
        await wire.send(type="connection_init")
        assert (await wire.hear())["type"] == "connection_ack"
        await wire.subscribe(STATE)
        assert (await wire.data())["migrationProgress"]["done"] == 10


async def test_a_subscription_ends_with_its_token(service: Live, running: Connection) -> None:
    """Thirty seconds are allowed for clocks that differ; two are left of this one."""
    brief = bearer(ttl=timedelta(seconds=-28))
    async with wired(service.address, brief) as wire, events(service.url, STATE, brief) as heard:
        await wire.subscribe(STATE)
        assert (await wire.data())["migrationProgress"]["done"] == 10
        assert (await anext(heard)).data["data"]["migrationProgress"]["done"] == 10
        code, reason = await wire.closed()
        assert code == 4403
        assert "the token expired at" in reason
        (error,) = (await anext(heard)).data["errors"]
        assert error["extensions"] == {"code": "UNAUTHENTICATED"}
        assert "the token expired at" in error["message"]
        assert (await anext(heard)).kind == "complete"
    await until(service.idle, "nothing is looked at any more")


async def refused(address: str, **options: Any) -> int:
    with pytest.raises(InvalidStatus) as error:
        async with opened(address, **options):
            pass
    return error.value.response.status_code


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1.evil.example"])
async def test_a_page_of_another_origin_may_not_open_a_websocket(service: Live, origin: str) -> None:
    assert await refused(service.address, origin=origin) == 403


async def test_the_page_of_the_service_itself_may(service: Live, running: Connection) -> None:
    async with wired(service.address, origin=f"http://{service.address}") as wire:
        await wire.subscribe(STATE)
        assert (await wire.data())["migrationProgress"]["done"] == 10


async def test_a_host_that_is_not_ours_gets_no_websocket(migrated_url: str) -> None:
    async with live(migrated_url, allowed_hosts=("127.0.0.1",)) as service:
        host, _, port = service.address.partition(":")
        assert await refused(f"evil.example:{port}", host=host, port=int(port)) == 400
        async with wired(service.address):
            pass


async def test_another_subprotocol_is_not_spoken(service: Live) -> None:
    async with opened(service.address, subprotocols=["graphql-ws"]) as wire:
        assert (await wire.closed())[0] == 4406


# What is asked.


LIMITS = [
    ("subscription {", {}, "Syntax Error"),
    ("subscription { nothing }", {}, "nothing"),
    ("subscription { migrationProgress { phase } verificationProgress(id: 1) { id } }", {}, "only one"),
    (
        "subscription A { migrationProgress { phase } } subscription B { migrationProgress { done } }",
        {},
        "operationName",
    ),
    ("subscription { migrationProgress { phase } }", {"operationName": "C"}, "C"),
    ("subscription { migrationProgress { run { state } } }", {"max_depth": 1}, "2 levels deep"),
    ("subscription { migrationProgress { a: phase b: phase } }", {"max_aliases": 1}, "aliases"),
    ("subscription { migrationProgress { phase done total } }", {"max_tokens": 5}, "5 tokens"),
    ("subscription { migrationProgress { run { state } } }", {"max_cost": 1}, "costs 2"),
    ('subscription { verificationProgress(id: "\\u0000") { id } }', {}, "NUL"),
]


@pytest.mark.parametrize(("query", "given", "why"), LIMITS)
async def test_what_is_wrong_with_a_subscription_is_said_as_for_a_query(
    migrated_url: str, query: str, given: dict[str, Any], why: str
) -> None:
    members = {name: given[name] for name in given if name == "operationName"}
    settings = {name: given[name] for name in given if name != "operationName"}
    async with live(migrated_url, **settings) as service, wired(service.address) as wire:
        await wire.subscribe(query, **members)
        over_websocket = await wire.refusal()
        async with httpx.AsyncClient() as http:
            answer = await http.post(
                service.url,
                json={"query": query, **members},
                headers={"Authorization": bearer(), "Accept": "text/event-stream"},
            )
    assert why in over_websocket["message"]
    assert over_websocket["extensions"] == {"code": "BAD_REQUEST"}
    assert why in answer.text
    assert "BAD_REQUEST" in answer.text


OPERATIONS = ["{ migration { phase } }", "mutation { setReadSource(source: LEGACY) { errors { code } } }"]


@pytest.mark.parametrize("query", OPERATIONS)
async def test_a_query_or_a_mutation_is_not_answered_over_a_websocket_and_nothing_is_done(
    service: Live, shop: Connection, query: str
) -> None:
    async with wired(service.address) as wire:
        await wire.subscribe(query)
        told = await wire.refusal()
        assert told["extensions"] == {"code": "BAD_REQUEST"}
        assert "only a subscription" in told["message"]
        await wire.subscribe(STATE)
        assert (await wire.data())["migrationProgress"]["run"]["state"] == "FINISHED"
    assert await shop.fetchval("SELECT count(*) FROM stockshift.setting WHERE read_source = 'LEGACY'") == 0


@pytest.mark.parametrize("query", OPERATIONS)
async def test_a_query_or_a_mutation_is_answered_as_json_also_to_who_takes_events(service: Live, query: str) -> None:
    async with httpx.AsyncClient() as http:
        for accept in ("text/event-stream", "application/json, text/event-stream"):
            headers = {"Authorization": bearer(), "Accept": accept}
            for _ in range(2):  # the second may have a plan
                answer = await http.post(service.url, json={"query": query}, headers=headers)
                assert answer.status_code == 200
                assert answer.headers["content-type"] == "application/json"
                assert "errors" not in answer.json()


async def test_a_subscription_to_who_takes_no_events_is_refused_with_how_to_subscribe(service: Live) -> None:
    async with httpx.AsyncClient() as http:
        for method in ("GET", "POST"):
            how: dict[str, Any] = {"params": {"query": STATE}} if method == "GET" else {"json": {"query": STATE}}
            answer = await http.request(method, service.url, headers={"Authorization": bearer()}, **how)
            assert answer.status_code == 406
            assert "text/event-stream" in answer.json()["errors"][0]["message"]
            assert "graphql-transport-ws" in answer.json()["errors"][0]["message"]


async def test_with_trusted_documents_only_those_may_be_subscribed_to(
    migrated_url: str, running: Connection, tmp_path: Path
) -> None:
    (tmp_path / "trusted.json").write_text(json.dumps({"state": STATE}))
    async with (
        live(migrated_url, trusted_documents=tmp_path / "trusted.json") as service,
        wired(service.address) as wire,
    ):
        await wire.subscribe(PROGRESS)
        assert (await wire.refusal())["extensions"] == {"code": "UNTRUSTED_DOCUMENT"}
        for asked in (
            {"query": STATE},
            {"documentId": "state"},
            {"extensions": {"persistedQuery": {"sha256Hash": "state"}}},
        ):
            await wire.send(id="1", type="subscribe", payload=asked)
            assert (await wire.data())["migrationProgress"]["done"] == 10
            await wire.send(id="1", type="complete")
        async with events(service.url, STATE) as heard:
            assert (await anext(heard)).data["data"]["migrationProgress"]["done"] == 10
        async with httpx.AsyncClient() as http:
            headers = {"Authorization": bearer(), "Accept": "text/event-stream"}
            answer = await http.post(service.url, json={"query": PROGRESS}, headers=headers)
            assert answer.json()["errors"][0]["extensions"] == {"code": "UNTRUSTED_DOCUMENT"}


async def test_a_connection_has_a_bounded_number_of_subscriptions(service: Live, running: Connection) -> None:
    async with wired(service.address) as wire:
        for _ in range(20):
            await wire.subscribe(STATE)
            await wire.data()
        assert service.runtime.polls.running == 1, "one look for all who watch the same"
        await wire.subscribe(STATE)
        told = await wire.refusal()
        assert told["extensions"] == {"code": "BAD_REQUEST"}
        assert "20 subscriptions" in told["message"]
        await wire.send(id="1", type="complete")
        await wire.subscribe(STATE)
        assert (await wire.data())["migrationProgress"]["done"] == 10


JUNK = ["[]", "5", "null", '"x"', "{}", '{"type": 5}', '{"type": "start"}', '{"type": "subscribe"}', "{", "",
        '{"type": "subscribe", "id": 1, "payload": {"query": "{ a }"}}',
        '{"type": "subscribe", "id": "1", "payload": 5}',
        '{"type": "subscribe", "id": "1", "payload": {"query": 5}}',
        '{"type": "subscribe", "id": "1", "payload": {"query": "{ a }", "variables": []}}',
        '{"type": "complete"}', '{"type": "complete", "id": []}', b"\x00"]  # fmt: skip


@pytest.mark.parametrize("junk", JUNK)
async def test_a_message_that_is_none_of_the_protocol_closes_the_connection(service: Live, junk: str | bytes) -> None:
    async with wired(service.address) as wire:
        await wire.connection.send(junk)
        assert (await wire.closed())[0] == 4400


async def test_who_uses_an_id_twice_is_sent_away(service: Live, running: Connection) -> None:
    async with wired(service.address) as wire:
        await wire.send(id="1", type="subscribe", payload={"query": STATE})
        await wire.data()
        await wire.send(id="1", type="subscribe", payload={"query": STATE})
        assert (await wire.closed())[0] == 4409
    await until(service.idle, "nothing is looked at any more")


# Who leaves, and what ends.


async def test_who_leaves_is_polled_for_no_more(service: Live, running: Connection) -> None:
    async with wired(service.address) as wire, events(service.url, STATE) as heard:
        id_ = await wire.subscribe(STATE)
        await wire.data()
        await anext(heard)
        await wire.send(id=id_, type="complete")
        await wire.send(type="ping")
        assert (await wire.hear())["type"] == "pong"
        assert service.runtime.polls.running == 1, "the events go on"
    await until(service.idle, "nothing is looked at any more")
    async with wired(service.address) as wire:
        await wire.subscribe(STATE)
        await wire.data()
        wire.connection.transport.abort()
    await until(service.idle, "nothing is looked at any more")


async def test_no_connection_is_held_between_two_looks(migrated_url: str, running: Connection) -> None:
    """Twice as many subscribers to different things as the pool has connections."""
    async with live(migrated_url, pool_size=2) as service:
        ids = [await running.fetchval(MADE, None) for _ in range(4)]
        async with wired(service.address) as wire:
            for id_ in ids:
                await wire.subscribe(VERIFICATION, variables={"id": id_})
            seen = [await wire.data() for _ in ids]
            assert sorted(each["seen"]["number"] for each in seen) == ids
            async with httpx.AsyncClient() as http:
                answer = await http.post(
                    service.url, json={"query": "{ migration { phase } }"}, headers={"Authorization": bearer()}
                )
            assert answer.json()["data"]["migration"]["phase"] == "COPYING"
        await until(service.idle, "nothing is looked at any more")


async def test_a_database_that_goes_away_ends_a_subscription_with_an_error_that_tells_nothing_of_it(
    service: Live, running: Connection
) -> None:
    async with wired(service.address) as wire, events(service.url, STATE) as heard:
        await wire.subscribe(STATE)
        await wire.data()
        await anext(heard)
        await running.execute("ALTER TABLE stockshift.migration_run RENAME TO hidden_away")
        told = await wire.refusal()
        (error,) = (await anext(heard)).data["errors"]
        assert (await wire.hear())["type"] == "complete"
        assert (await anext(heard)).kind == "complete"
    for one in (told, error):
        assert one["extensions"]["code"] == "FAULT"
        assert "migration_run" not in json.dumps(one)
    await until(service.idle, "nothing is looked at any more")


async def test_a_service_that_stops_ends_its_subscriptions_at_once(migrated_url: str, running: Connection) -> None:
    with serving(migrated_url) as service:
        address = service.url.removeprefix("http://")
        async with wired(address) as wire, events(f"{service.url}/graphql", STATE) as heard:
            await wire.subscribe(STATE)
            await wire.data()
            await anext(heard)
            service.command.process.send_signal(signal.SIGTERM)
            assert (await wire.closed())[0] == 1012
            assert [event async for event in heard] == [], "no `complete`: the client may ask again"
        assert await asyncio.to_thread(service.command.ends) in (0, -signal.SIGTERM)
        assert "timeout graceful shutdown exceeded" not in service.command.output
        assert "Traceback" not in service.command.output


async def test_several_processes_stop_as_well(migrated_url: str, running: Connection) -> None:
    with serving(migrated_url, "--workers", "2") as service:
        async with events(f"{service.url}/graphql", STATE) as heard:
            await anext(heard)
            service.command.process.send_signal(signal.SIGTERM)
            assert [event async for event in heard] == []
        await asyncio.to_thread(service.command.ends)
        assert "timeout graceful shutdown exceeded" not in service.command.output


async def test_a_message_that_is_too_long_is_not_read(migrated_url: str) -> None:
    with serving(migrated_url, env={"STOCKSHIFT_MAX_BODY_BYTES": "1000"}) as service:
        async with wired(service.url.removeprefix("http://")) as wire:
            await wire.subscribe(STATE + " " * 1000)
            assert (await wire.closed())[0] == 1009
