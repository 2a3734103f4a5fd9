"""`stockshift status --history`: who did what, for a person and for a program."""

import json

from tests.service.processes import add_items, stockshift


def test_the_history_is_told_a_line_an_act_and_as_json(shop_url: str) -> None:
    env = {"DATABASE_URL": shop_url}
    assert stockshift("status", "--history", env=env).stdout == "Nothing was done yet.\n"
    add_items(shop_url, 2)
    assert stockshift("migrate", "--yes", env=env).returncode == 0
    assert stockshift("read-source", "legacy", env=env).returncode == 0
    lines = stockshift("status", "--history", env=env).stdout.splitlines()
    acts = json.loads(stockshift("status", "--history", "--json", env=env).stdout)
    assert [act["action"] for act in acts] == ["MIGRATION_BEGUN", "VERIFIED", "MIGRATION_ENDED", "READ_SOURCE_SET"]
    assert len(lines) == len(acts)
    last, line = acts[-1], lines[-1]
    assert (last["details"], last["application"]) == ({"to": "LEGACY"}, "stockshift read-source")
    assert line.endswith(" UTC  READ_SOURCE_SET  by " + last["actor"] + ": to LEGACY")
    assert "run 1, state FINISHED, copied 2, held_back 0" in lines[2]


def test_the_history_is_not_watched(shop_url: str) -> None:
    refused = stockshift("status", "--history", "--watch", env={"DATABASE_URL": shop_url})
    assert refused.returncode == 2
    assert "--history and --watch exclude each other" in refused.stderr
