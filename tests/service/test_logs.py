"""What a process really prints once its logging is configured."""

import json
import os
import pty
import select
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

ROOT = Path(__file__).parents[2]
SECRET = "hunter2"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4iLCJyb2xlIjoiQURNSU4ifQ.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg"
JWT_CLAIMS = JWT.split(".")[1][:20]

PRELUDE = """
import logging, warnings
import structlog
from service.logs import configure_logging
from service.settings import load_settings

ours, theirs = structlog.get_logger("ours"), logging.getLogger("theirs")
configure_logging(load_settings())
"""


def environment(**settings: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("STOCKSHIFT_")}
    return {**inherited, **{f"STOCKSHIFT_{name.upper()}": value for name, value in settings.items()}}


def printed(script: str, **settings: str) -> str:
    """What a process that runs `script` writes to stderr; to stdout it must write nothing."""
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script],
        cwd=ROOT,
        env=environment(**settings),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == ""
    return done.stderr


def events(script: str, **settings: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed(script, log_format="json", **settings).splitlines()]


def test_our_lines_and_those_of_libraries_have_one_form() -> None:
    mine, other = events(
        "ours.info('%s made', 'batch', units=3, inner={'a': [1.5, None, {'b': True}]})\n"
        "theirs.warning('%s of %s', 1, 2)"
    )
    assert mine.pop("timestamp").endswith("Z")
    assert other.pop("timestamp").endswith("Z")
    inner = {"a": [1.5, None, {"b": True}]}
    assert mine == {"event": "batch made", "units": 3, "inner": inner, "level": "info", "logger": "ours"}
    assert other == {"event": "1 of 2", "level": "warning", "logger": "theirs"}


def test_handlers_that_the_server_came_with_are_gone() -> None:
    script = """
import logging.config, uvicorn.config
logging.config.dictConfig(uvicorn.config.LOGGING_CONFIG)
configure_logging(load_settings())
logging.getLogger("uvicorn.error").info("one")
logging.getLogger("uvicorn.access").info("two")
"""
    assert [event["event"] for event in events(script)] == ["one", "two"]


def test_times_are_in_utc_wherever_the_process_runs() -> None:
    [event] = events(
        "import datetime; ours.info('x', now=datetime.datetime.now(datetime.UTC).isoformat())",
    )
    logged = datetime.fromisoformat(event["timestamp"])
    assert logged.utcoffset() == timedelta(0)
    assert abs(logged - datetime.fromisoformat(event["now"])) < timedelta(minutes=1)


def test_what_is_below_the_level_is_not_printed() -> None:
    script = "for log in (ours, theirs):\n  log.debug('d'); log.info('i'); log.warning('w')"
    assert [event["event"] for event in events(script, log_level="warning")] == ["w", "w"]
    assert [event["event"] for event in events(script, log_level="debug")] == ["d", "i", "w"] * 2


def test_bound_context_is_on_every_line() -> None:
    made = events("structlog.contextvars.bind_contextvars(request='r1'); ours.info('x'); theirs.warning('y')")
    assert [event["request"] for event in made] == ["r1", "r1"]


def test_warnings_are_log_lines() -> None:
    [event] = events("warnings.warn('old')")
    assert (event["logger"], event["level"]) == ("py.warnings", "warning")


def test_without_a_terminal_the_lines_are_json() -> None:
    assert json.loads(printed("ours.info('x')", log_format="auto"))["event"] == "x"


def test_on_a_terminal_the_lines_are_for_eyes() -> None:
    terminal, end = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-c", PRELUDE + "ours.info('seen', item='a')"],
            cwd=ROOT,
            env=environment(log_format="auto"),
            stderr=end,
            check=True,
            timeout=60,
        )
        assert select.select([terminal], [], [], 10)[0]
        line = os.read(terminal, 10_000).decode()
    finally:
        os.close(terminal)
        os.close(end)
    assert "seen" in line
    assert not line.startswith("{")


LEAKS = f"""
class Thing:
    def __repr__(self):
        return "Thing(postgres://ann:hunter2@db.example/shop)"

LEAKS = [
    "refused {JWT}",
    "/x?a=b%20{JWT}&c",
    "cut short: {JWT[:60]}",
    "with a long header: eyJ" + "hunter2" * 40 + ".x.y",
    "got Bearer hunter2hunter2hunter2",
    "to postgres://ann:hunter2@db.example/shop",
    "to postgresql+asyncpg://ann:hunter2/x:y@z@db.example/shop now",
    "redis://:hunter2@cache.example",
    "postgres://ann:" + "%2F" * 700 + "hunter2@db.example/shop",
    "host=db.example password=hunter2 user=ann",
    "host=db.example password = 'x hunter2' user=ann",
    "/graphql?access_token=hunter2&x=1",
    "STOCKSHIFT_JWT_SECRET=hunter2",
    "> Authorization: Basic hunter2",
    str([(b"host", b"x"), (b"authorization", b"Basic hunter2")]),
    str({{"password": "x hunter2", "user": "ann"}}),
    '{{"secret":"hunter2"}}',
    Thing(),
    b"postgres://ann:hunter2@db.example/shop",
    {{"a": [{{"b": ("postgres://ann:hunter2@db.example/shop", Thing())}}, {{Thing()}}]}},
    {{"a": [{{"Authorization": "hunter2"}}]}},
    {{"jwt_secret": "hunter2", "PGPASSWORD": b"hunter2"}},
    {{"token": ["x", "hunter2"]}},
]

def our_event(leak):
    ours.info(leak)

def our_value(leak):
    ours.info("x", value=leak)

def our_argument(leak):
    ours.info("x %s", leak)

def their_event(leak):
    theirs.warning(leak)

def their_argument(leak):
    theirs.warning("x %s", leak)

def our_error(leak):
    try:
        raise ValueError(leak)
    except ValueError:
        ours.exception("failed")

def their_error(leak):
    try:
        raise ValueError(leak)
    except ValueError:
        theirs.exception("failed")

def cause(leak):
    try:
        try:
            raise KeyError(leak)
        except KeyError as error:
            raise ValueError("y") from error
    except ValueError:
        ours.error("failed", exc_info=True)

ways = [our_event, our_value, our_argument, their_event, their_argument, our_error, their_error, cause]
for way in ways:
    for leak in LEAKS:
        way(leak)
"""
TIMES_A_LEAK_IS_LOGGED = 8 * 23


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_secret_is_printed(log_format: str) -> None:
    output = printed(LEAKS, log_format=log_format)
    assert [line for line in output.splitlines() if SECRET in line or JWT_CLAIMS in line] == []
    assert output.count("[redacted]") >= TIMES_A_LEAK_IS_LOGGED
    for harmless in ("db.example", "user=ann", "host=db", "failed", "Traceback"):
        assert harmless in output


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_an_error_is_printed_without_the_variables_of_its_functions(log_format: str) -> None:
    script = """
def divide(password):
    return 1 / 0
try:
    divide("hunter" + str(2))
except ArithmeticError:
    ours.exception("failed")
    theirs.exception("failed")
"""
    output = printed(script, log_format=log_format)
    assert SECRET not in output
    assert output.count("ZeroDivisionError") == 2
    assert "Warning" not in output


def test_a_line_that_cannot_be_formatted_is_not_printed_as_it_is() -> None:
    assert SECRET not in printed("theirs.warning('%d', 'password=hunter2')")


def test_the_value_of_a_key_that_names_a_secret_is_not_printed() -> None:
    keys = ["authorization", "password", "secret", "token", "jwt_secret", "PGPASSWORD", "Authorization"]
    [event] = events(f"ours.info('x', **dict.fromkeys({keys}, 'hunter2'))")
    assert {event[key] for key in keys} == {"[redacted]"}


def test_what_is_no_secret_stays() -> None:
    texts = [
        "the token expired at 2026-01-01T00:00:00+00:00: ask for a new one",
        "invalid token: signature is wrong",
        'password authentication failed for user "ann"',
        "listening on http://127.0.0.1:8000 (max_tokens=2000)",
        "mail ann@example.com, see https://example.com/a:b",
        "postgres://ann@db.example:5432/shop",
        "12:30 → é",
    ]
    made = events(f"for text in {texts}: ours.info(text, max_tokens=2000); theirs.warning('%s', text)")
    assert [event["event"] for event in made] == [text for text in texts for _ in range(2)]
    assert made[0]["max_tokens"] == 2000


def test_hostile_text_does_not_stop_the_process() -> None:
    """Text of 2 MB on which a careless pattern would take many minutes; the process is given one."""
    parts = ["eyJ", "://", "://:", "://a:@", "bearer ", 'token="', "token='", "token=[ ", "password:", "a.", "@"]
    made = events(f"for part in {parts}: ours.info('x', text=part * (2_000_000 // len(part)))")
    assert len(made) == len(parts)


SERVER = """
import asyncio, socket, sys
import uvicorn

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})
    elif scope["path"] == "/fail":
        raise RuntimeError("cannot reach postgres://ann:hunter2@db.example/shop")
    else:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

listener = socket.socket()
listener.bind(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
config = uvicorn.Config(app, log_config=None, lifespan="off", http=sys.argv[1], log_level=sys.argv[2])
uvicorn.Server(config).run(sockets=[listener])
"""


@pytest.mark.parametrize("level", ["info", "debug"])
@pytest.mark.parametrize("implementation", ["h11", "httptools"])
def test_the_server_prints_what_was_asked_without_the_query(implementation: str, level: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PRELUDE + SERVER, implementation, level],
        cwd=ROOT,
        env=environment(log_format="json", log_level=level),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            at = f"127.0.0.1:{server.stdout.readline().strip()}"
            transport = httpx.HTTPTransport(retries=10)
            with httpx.Client(base_url=f"http://{at}", transport=transport, trust_env=False) as client:
                for path in ("/graphql", "/fail"):
                    client.get(f"{path}?name=hunter2", headers={"Authorization": f"Bearer {JWT}"})
            with connect(f"ws://{at}/socket?name=hunter2", additional_headers={"Authorization": f"Bearer {JWT}"}):
                pass
        finally:
            server.terminate()
            _, output = server.communicate(timeout=30)
    assert SECRET not in output
    assert JWT_CLAIMS not in output
    said = [json.loads(line) for line in output.splitlines()]
    lines = [f"{event['logger']}: {event['event']}" for event in said]
    assert any(line.startswith("uvicorn.access:") and '"GET /graphql HTTP/1.1" 204' in line for line in lines)
    assert any('"WebSocket /socket" [accepted]' in line for line in lines)
    assert any("cannot reach postgres://ann:[redacted]@db.example/shop" in e.get("exception", "") for e in said)
