"""The gates of contract in GraphQL: each open or closed and why, for who sees all companies."""

from migration.gates import gates
from resolvers.viewer import Role, Viewer
from tests.graphql_client import MANAGER, client_of

GATES = "{ migration { gates { name open reason } } }"


async def test_the_gates_are_shown_to_who_sees_all_companies(batches_url: str) -> None:
    async with client_of(batches_url) as client:
        shown = (await client.ask(GATES, MANAGER))["migration"]["gates"]
        assert await client.ask(GATES, Viewer("m", Role.MANAGER, "acme")) == {"migration": {"gates": []}}
        async with client.engine.connect() as connection:
            assert shown == [vars(gate) for gate in await gates(connection)]
    assert {gate["open"] for gate in shown} == {True, False}


async def test_before_the_migration_one_gate_is_closed(stock_url: str) -> None:
    async with client_of(stock_url) as client:
        (gate,) = (await client.ask(GATES))["migration"]["gates"]
    assert not gate["open"]
