"""`stockshift demo`: a shop from nothing, kept, for this machine alone."""

import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from resolvers.viewer import Role
from tests.service.processes import Running, execute, running, stockshift, until

READY = "Application startup complete"
ITEM = '{ item(id: "demo-item-1") { name totalQuantity usingBatchSystem } items { totalCount } }'


class Demo:
    """A demo that serves: its address, its database, its tokens by their name in what it prints."""

    def __init__(self, command: Running) -> None:
        command.says(READY)
        self.command = command
        self.address = command.says(r"GraphiQL\s+(http://\S+)/graphql")[1]
        self.database = command.says(r"export DATABASE_URL='?([^\s']+)")[1]
        self.tokens = dict(re.findall(r"^  (\w+) .*?(ey\S+)$", command.output, re.MULTILINE))
        self.client = httpx.Client(base_url=self.address, timeout=60, trust_env=False)

    def __enter__(self) -> "Demo":
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def ask(self, document: str, name: str = "ADMIN") -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.tokens[name]}"}
        return self.client.post("/graphql", json={"query": document}, headers=headers)


def arguments(data: Path, items: int = 50) -> list[str]:
    return ["demo", "--port", "0", "--items", str(items), "--data", str(data)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    data = tmp_path_factory.mktemp("demo") / "Læden & søn's"
    env = {"DATABASE_URL": "postgresql://nobody@localhost:1/shop", "STOCKSHIFT_HOST": "0.0.0.0"}  # noqa: S104 - refused
    with running(*arguments(data), env=env) as command, Demo(command) as demo:
        yield demo


def test_it_serves_a_shop_that_is_not_migrated(demo: Demo) -> None:
    assert demo.ask(ITEM).json() == {
        "data": {
            "item": {"name": 'Tropica Desk Fan 12", White', "totalQuantity": 10, "usingBatchSystem": False},
            "items": {"totalCount": 50},
        }
    }


def test_it_leaves_the_environments_database_alone_and_says_so(demo: Demo) -> None:
    assert "DATABASE_URL is left alone" in demo.command.output


@pytest.mark.parametrize("role", Role)
def test_it_prints_a_token_of_each_role(demo: Demo, role: Role) -> None:
    answer = demo.ask("{ migration { phase } }", role.name).json()
    assert ("data" in answer and answer["data"] is not None) == (role >= Role.MANAGER), answer


def test_it_is_for_this_machine_alone(demo: Demo) -> None:
    port = int(demo.address.rpartition(":")[2])
    listening = {
        line.split()[1]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[1].endswith(f":{port:04X}")
    }
    assert listening == {f"0100007F:{port:04X}"}


def test_a_page_of_elsewhere_cannot_reach_it_under_a_name_of_its_own(demo: Demo) -> None:
    """DNS rebinding: the name is the attacker's, the address is ours, and the page holds a token."""
    for host in ("rebound.example", "localhost.rebound.example"):
        answer = demo.client.get("/graphql", headers={"Host": host, "Accept": "text/html"})
        assert answer.status_code == 400
        assert "eyJ" not in answer.text
    page = demo.client.get("/graphql", headers={"Host": "localhost:8000", "Accept": "text/html"})
    assert demo.tokens["ADMIN"] in page.text


def test_what_it_says_to_try_works(demo: Demo) -> None:
    tried = re.findall(r"^  (\S+stockshift) (\w+(?: --yes)?) ", demo.command.output, re.MULTILINE)
    assert [command for _, command in tried] == ["plan", "migrate --yes", "verify"]
    for _, command in tried:
        done = stockshift(*command.split(), env={"DATABASE_URL": demo.database})
        assert done.returncode == 0, done.stderr
    assert demo.ask(ITEM).json()["data"]["item"] == {
        "name": 'Tropica Desk Fan 12", White',
        "totalQuantity": 10,
        "usingBatchSystem": True,
    }


def test_the_shop_is_kept_after_a_kill_and_whole_if_that_came_while_it_was_made(tmp_path: Path) -> None:
    with running(*arguments(tmp_path, 400_000)) as loading:
        socket_folder = until(lambda: next(tmp_path.rglob("url"), None), "the server").read_text()
        until(lambda: has_database(socket_folder, "shop_loading"), "the shop to be in the making")
        loading.ends(told=signal.SIGKILL)
    with running(*arguments(tmp_path, 20)) as second, Demo(second) as made:
        assert "A shop of 20 items was made" in second.output
        assert made.ask(ITEM).json()["data"]["items"]["totalCount"] == 20
        second.ends(told=signal.SIGKILL)
    with running(*arguments(tmp_path, 30)) as third, Demo(third) as kept:
        assert "kept as it is" in third.output
        assert kept.ask(ITEM).json()["data"]["items"]["totalCount"] == 20
        assert third.ends(told=signal.SIGTERM) == 0
    assert not (tmp_path / "url").exists()


def has_database(url: str, name: str) -> bool:
    try:
        return bool(execute(url.replace("/shop?", "/postgres?"), f"SELECT FROM pg_database WHERE datname = '{name}'"))
    except OSError:
        return False


@pytest.mark.parametrize("told", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop_while_the_shop_is_made_it_stops(tmp_path: Path, told: signal.Signals) -> None:
    with running(*arguments(tmp_path, 3_000_000)) as loading:
        url = until(lambda: next(tmp_path.rglob("url"), None), "the server").read_text()
        until(lambda: has_database(url, "shop_loading"), "the shop to be in the making")
        assert "3,000,000 items takes a while" in loading.output
        assert loading.ends(told=told) == 128 + told
        assert "Traceback" not in loading.output
        assert "what was not finished was undone" in loading.output


def test_a_shop_without_an_item_is_a_shop(empty_database_url: str) -> None:
    with running("demo", "--port", "0", "--items", "0", "--database-url", empty_database_url) as command:
        command.says(READY)
        address = command.says(r"GraphiQL\s+(http://\S+)")[1]
        token = command.says(r"ADMIN\s+(ey\S+)")[1]
        answer = httpx.post(
            address, json={"query": "{ items { totalCount } }"}, headers={"Authorization": f"Bearer {token}"}
        )
        assert answer.json() == {"data": {"items": {"totalCount": 0}}}
        assert empty_database_url not in command.output


def test_a_database_with_tables_is_no_place_for_a_demo(shop_url: str) -> None:
    done = stockshift("demo", "--port", "0", "--database-url", shop_url)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "already has" in line
    assert "Load the demo shop into an empty database" in line


def test_two_demos_of_one_folder_are_not_mixed_up(demo: Demo) -> None:
    data = re.search(r"the shop is kept in (.+)\.\n", demo.command.output)
    assert data
    with running(*arguments(Path(data[1]))) as second:
        assert second.ends() == 2
        assert "already run by process" in second.output


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with running(*arguments(tmp_path / "file" / "data")) as command:
        assert command.ends() == 2
        assert command.output.count("\n") == 1
        assert "STOCKSHIFT_DATA" in command.output


def test_the_demo_port_of_the_environment_is_used() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = stockshift("demo", env={"STOCKSHIFT_PORT": port})
    assert done.returncode == 2
    assert port in done.stderr
