"""`stockshift serve`: starting, stopping, and a database that comes and goes."""

import asyncio
import os
import re
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from db.embedded import embedded_server
from tests.conftest import FAST, LEGACY
from tests.service.processes import (
    DEADLINE_SECONDS,
    SECRET,
    add_items,
    execute,
    running,
    serving,
    stockshift,
    token,
    until,
)
from tests.support import psql

TOTAL = "{ items { totalCount } }"
KEYS = {"STOCKSHIFT_JWT_SECRET": SECRET}


def waiting_for_a_lock(url: str) -> bool:
    return bool(
        execute(
            url,
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'stockshift serve'"
            " AND datname = current_database()",
        )
    )


class ItemsLocked:
    """Somebody else has the items to himself."""

    def __init__(self, url: str) -> None:
        self._locked, self._unwanted = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=[self._hold(url)], daemon=True)
        self._thread.start()
        assert self._locked.wait(DEADLINE_SECONDS)

    async def _hold(self, url: str) -> None:
        async with psql(url) as connection, connection.transaction():
            await connection.execute("LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
            self._locked.set()
            await asyncio.to_thread(self._unwanted.wait, DEADLINE_SECONDS)

    def release(self) -> None:
        self._unwanted.set()
        self._thread.join()


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_it_does_not_start_without_a_way_to_check_tokens(shop_url: str) -> None:
    done = stockshift("serve", "--port", "0", "--database-url", shop_url)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "nobody could be let in: set STOCKSHIFT_JWT_SECRET or STOCKSHIFT_JWKS_URL" in line


@pytest.mark.parametrize("command", [["serve"], ["demo", "--items", "0"]])
def test_a_port_that_is_taken_is_told_before_anything_is_done(command: list[str], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = stockshift(*command, "--port", port, env=KEYS, cwd=tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"cannot listen on 127.0.0.1 port {port} (Address already in use)" in line
    assert "--port" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "value"), [("--host", "no-such-host.invalid"), ("--host", "203.0.113.7"), ("--port", "99999")]
)
def test_an_address_that_is_none_is_one_line(shop_url: str, option: str, value: str) -> None:
    done = stockshift("serve", option, value, "--database-url", shop_url, env=KEYS)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert value in line


def test_a_stop_waits_for_the_request_that_is_under_way(shop_url: str) -> None:
    add_items(shop_url, 3)
    with serving(shop_url) as service, ThreadPoolExecutor(1) as threads:
        assert service.ready()
        lock = ItemsLocked(shop_url)
        answer = threads.submit(service.ask, TOTAL)
        until(lambda: waiting_for_a_lock(shop_url), "the request to wait for the lock")
        service.command.process.send_signal(signal.SIGTERM)
        service.command.says("Waiting for connections to close|Shutting down")
        lock.release()
        assert answer.result() == {"data": {"items": {"totalCount": 3}}}
        assert service.command.ends() == 0
        assert "Traceback" not in service.command.output


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_in_peace_when_told_to(shop_url: str, told: signal.Signals) -> None:
    with serving(shop_url) as service:
        assert service.command.ends(told=told) == 0
        assert "Traceback" not in service.command.output


def test_it_starts_without_its_database_and_answers_when_that_comes_back(tmp_path: Path) -> None:
    with embedded_server(tmp_path, settings=FAST) as server:
        url = server.url("postgres")
        execute(url, LEGACY, "SELECT 1")
    with serving(url) as service:
        assert service.client.get("/healthz").status_code == 200
        assert service.client.get("/readyz").status_code == 503
        (error,) = service.ask(TOTAL)["errors"]
        assert error["extensions"]["code"] == "UNAVAILABLE"
        for _ in range(2):
            with embedded_server(tmp_path, settings=FAST):
                until(service.ready, "the service to be ready")
                assert service.ask(TOTAL) == {"data": {"items": {"totalCount": 0}}}
            assert service.client.get("/readyz").status_code == 503
            assert service.ask(TOTAL)["errors"][0]["extensions"]["code"] == "UNAVAILABLE"
        assert "Traceback" not in service.command.output


def test_who_waits_too_long_for_a_connection_is_told_to_try_again(shop_url: str) -> None:
    separator = "&" if "?" in shop_url else "?"
    with (
        serving(f"{shop_url}{separator}connection_limit=1&pool_timeout=1") as service,
        ThreadPoolExecutor(1) as threads,
    ):
        assert service.ready()
        lock = ItemsLocked(shop_url)
        first = threads.submit(service.ask, TOTAL)
        until(lambda: waiting_for_a_lock(shop_url), "the first request to hold the only connection")
        (error,) = service.ask(TOTAL)["errors"]
        assert error["extensions"]["code"] == "UNAVAILABLE"
        assert "try again" in error["message"]
        lock.release()
        assert first.result() == {"data": {"items": {"totalCount": 0}}}


def worker_pids(output: str) -> list[int]:
    return [int(pid) for pid in re.findall(r"Started server process \[(\d+)\]", output)]


def test_several_workers_answer_and_all_of_them_stop(shop_url: str) -> None:
    with serving(shop_url, "--workers", "2") as service:
        until(lambda: service.command.output.count("Application startup complete") == 2, "two workers")
        workers = worker_pids(service.command.output)
        assert len(set(workers)) == 2
        for worker in workers:  # whoever answers while one is stopped is the other
            os.kill(worker, signal.SIGSTOP)
            with httpx.Client(trust_env=False, timeout=DEADLINE_SECONDS) as client:
                assert client.get(f"{service.url}/healthz").json() == {"status": "ok"}
            os.kill(worker, signal.SIGCONT)
        assert service.command.ends(told=signal.SIGTERM) == 0
        assert not any(map(alive, workers))


def test_workers_do_not_outlive_a_parent_that_was_killed(shop_url: str) -> None:
    with serving(shop_url, "--workers", "2") as service:
        until(lambda: service.command.output.count("Application startup complete") == 2, "two workers")
        workers = worker_pids(service.command.output)
        service.command.process.kill()
        until(lambda: not any(map(alive, workers)), "the workers to end")


def test_no_secret_is_in_the_log_or_in_the_list_of_processes(shop_url: str) -> None:
    with serving(shop_url, "--workers", "2", env={"STOCKSHIFT_LOG_LEVEL": "debug"}) as service:
        until(lambda: service.command.output.count("Application startup complete") == 2, "two workers")
        service.ask(TOTAL)
        for pid in (service.command.process.pid, *worker_pids(service.command.output)):
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
            assert SECRET not in arguments
            assert shop_url not in arguments
        assert SECRET not in service.command.output
        assert token() not in service.command.output


def test_a_demo_and_a_service_can_share_a_folder(tmp_path: Path) -> None:
    """The service finds the demo's server, and the shop in it."""
    data = str(tmp_path / "data")
    with running("demo", "--port", "0", "--items", "7", "--data", data) as demo:
        demo.says("startup complete")
        variables = {**KEYS, "STOCKSHIFT_DATA": data}
        with running("serve", "--port", "0", env=variables) as service:
            service.says("startup complete")
        assert stockshift("status", env={"STOCKSHIFT_DATA": data}).stdout.count("7") == 1
