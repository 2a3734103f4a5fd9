"""The command line and the service as processes of their own."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from resolvers.viewer import Role
from service.tokens import issue_token, parse_ttl
from tests.service.forks import run_forked
from tests.support import psql

ROOT = Path(__file__).parents[2]
STOCKSHIFT = Path(sys.executable).parent / "stockshift"
SECRET = "a-secret-of-the-tests-that-is-long-enough"
DEADLINE_SECONDS = 60.0


def environment(**variables: str) -> dict[str, str]:
    """Ours, without anything that would change what a command does, or would have Python compile it every time."""
    ours = (
        *(
            "DATABASE_URL",
            "DATABASE_REPLICA_URL",
            "DIRECT_URL",
            "STOCKSHIFT_",
            "TEST_DATABASE_URL",
            "PYTEST_",
            "PYTHONDONTWRITEBYTECODE",
        ),
        *("MAKE", "MFLAGS"),  # what `make test` tells the makes below it
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, **variables}


def stockshift(
    *arguments: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    """Runs a command to its end, in a process of its own. Bytes that are not UTF-8 come back escaped."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        code = run_forked(arguments, environment(**(env or {})), cwd, out.fileno(), err.fileno(), DEADLINE_SECONDS)
        said = []
        for stream in (out, err):
            stream.seek(0)
            said.append(stream.read().decode("utf-8", "backslashreplace"))
    return subprocess.CompletedProcess(arguments, code, *said)


def started(
    *arguments: str, env: Mapping[str, str] | None = None, **options: Any
) -> "subprocess.CompletedProcess[str]":
    """The same as a user starts it."""
    return subprocess.run(
        [STOCKSHIFT, *arguments],
        env=environment(**(env or {})),
        stdin=options.pop("stdin", subprocess.DEVNULL),
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="backslashreplace",
        timeout=DEADLINE_SECONDS,
        check=False,
        **options,
    )


def until(condition: Callable[[], Any], what: str, seconds: float = DEADLINE_SECONDS) -> Any:
    """The first answer of a condition that counts as true; fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.02)
    return answer


class Running:
    """A command that runs; its output is gathered as it comes."""

    def __init__(self, *arguments: str, env: Mapping[str, str] | None = None, **options: Any) -> None:
        self.process = subprocess.Popen(
            [STOCKSHIFT, *arguments],
            env=environment(PYTHONUNBUFFERED="1", **(env or {})),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **options,
        )
        self._output = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        while chunk := os.read(self.process.stdout.fileno(), 65_536):
            self._output += chunk

    @property
    def output(self) -> str:
        return self._output.decode(errors="backslashreplace")

    def says(self, pattern: str) -> "re.Match[str]":
        """Waits until the output has it; fails when the command ends without saying it."""

        def said() -> "re.Match[str] | None":
            found = re.search(pattern, self.output)
            if found is None and self.process.poll() is not None:
                self._reader.join()
                found = re.search(pattern, self.output)
                assert found, f"it ended with {self.process.returncode} and never said {pattern!r}: {self.output}"
            return found

        match: re.Match[str] = until(said, f"{pattern!r} in {self.output[-2000:]!r}")
        return match

    def ends(self, *, told: signal.Signals | None = None) -> int:
        """The exit status, after a signal if one is to be sent."""
        if told is not None:
            self.process.send_signal(told)
        code = self.process.wait(DEADLINE_SECONDS)
        self._reader.join(DEADLINE_SECONDS)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(DEADLINE_SECONDS)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def running(*arguments: str, env: Mapping[str, str] | None = None, **options: Any) -> Iterator[Running]:
    command = Running(*arguments, env=env, **options)
    try:
        yield command
    finally:
        command.close()


class Service:
    """A service that answers, and a client for it."""

    def __init__(self, command: Running, url: str) -> None:
        self.command = command
        self.url = url
        self.client = httpx.Client(base_url=url, timeout=DEADLINE_SECONDS, trust_env=False)

    def ask(self, document: str, *, bearer: str | None = None, **variables: Any) -> dict[str, Any]:
        response = self.client.post(
            "/graphql",
            json={"query": document, "variables": variables},
            headers={"Authorization": f"Bearer {bearer or token()}"},
        )
        answer: dict[str, Any] = response.json()
        return answer

    def ready(self) -> bool:
        return self.client.get("/readyz").status_code == 200

    @property
    def logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.command.output.splitlines() if line.startswith("{")]


def token(role: Role = Role.ADMIN, company: str | None = None) -> str:
    return issue_token(SECRET, role=role, company=company, ttl=parse_ttl("1h"), subject=f"test-{role.name.lower()}")


@contextmanager
def serving(url: str, *arguments: str, env: Mapping[str, str] | None = None, **options: Any) -> Iterator[Service]:
    """`stockshift serve` on a free port, when it listens."""
    variables = {"DATABASE_URL": url, "STOCKSHIFT_JWT_SECRET": SECRET, **(env or {})}
    with running("serve", "--port", "0", *arguments, env=variables, **options) as command:
        address = command.says(r"listening on (http://[^\s\"]+)")[1]
        service = Service(command, address)
        command.says("Application startup complete")
        with service.client:
            yield service


def execute(url: str, *statements: str) -> list[Any]:
    """Runs SQL past everything of ours; the rows of the last statement."""

    async def run() -> list[Any]:
        async with psql(url) as connection:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return list(await connection.fetch(statements[-1]))

    return asyncio.run(run())


def add_items(url: str, count: int) -> None:
    """Items of the shop of tests, as its ORM would have written them."""
    execute(
        url,
        f"""
        INSERT INTO items (id, name, status, "quantityInStock", "costPerUnitUSD", "sellingPriceSRD", "updatedAt",
                           "companyId", "locationId")
        SELECT 'item-' || n, 'Item ' || n, 'Arrived', n % 50, 1.5, 60, '2026-01-02', 'acme', 'acme-main'
        FROM generate_series(1, {count}) n
        """,
    )


def fingerprint(url: str) -> str:
    """Every relation of the database that is not PostgreSQL's, and every item: what must be as it was."""
    (row,) = execute(
        url,
        """
        SELECT md5(coalesce(
            (SELECT string_agg(oid::regclass::text, ' ' ORDER BY oid) FROM pg_class
             WHERE relnamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname ~ '^pg_|^information_schema$')), '')
            || (SELECT string_agg(attname, ' ' ORDER BY attnum) FROM pg_attribute
                WHERE attrelid = 'items'::regclass AND NOT attisdropped)
            || (SELECT string_agg(i::text, ' ' ORDER BY id) FROM items i)) AS md5
        """,
    )
    answer: str = row["md5"]
    return answer
