"""The plan of weeks in GraphQL: for who sees all companies."""

from resolvers.viewer import Role, Viewer
from tests.graphql_client import MANAGER, client_of

SCHEDULE = "{ migration { schedule { name state what since against } } }"


async def test_the_plan_of_weeks_is_for_who_sees_all_companies(batches_url: str) -> None:
    async with client_of(batches_url) as client:
        stages = (await client.ask(SCHEDULE, MANAGER))["migration"]["schedule"]
        assert await client.ask(SCHEDULE, Viewer("m", Role.MANAGER, "acme")) == {"migration": {"schedule": []}}
    assert [(stage["name"], stage["state"]) for stage in stages][:3] == [
        ("BACKUP", "NEXT"),
        ("MIGRATE", "DONE"),
        ("TEST_ONE_ITEM", "NEXT"),
    ]
    assert stages[1]["since"].endswith("Z")
    assert stages[0]["since"] is None
    assert all(stage["what"] for stage in stages)
