"""The container, as far as it can be tried without an engine: its files are linted, its commands run."""

import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are not among our dependencies

from db.url import DatabaseUrl
from tests.service.processes import DEADLINE_SECONDS, ROOT, SECRET, environment, until
from tests.support import missing

DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", "")
BIN = Path(sys.executable).parent
COPIED = ["pyproject.toml", "uv.lock", "README.md", "db", "migration", "resolvers", "schema", "service"]


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} +(.*)$", DOCKERFILE, re.MULTILINE)


def test_the_dockerfile_passes_its_linter() -> None:
    done = subprocess.run([BIN / "hadolint", "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_nothing_is_fetched_by_a_name_that_moves() -> None:
    images = [*instructions("FROM"), *re.findall(r"--from=(\S+/\S+)", DOCKERFILE)]
    for image in images:
        assert re.search(r":\d+\.\d+", image), image


def test_the_image_has_what_the_wheel_is_built_of() -> None:
    """A package that pyproject.toml names and the Dockerfile forgets would be found missing only in production."""
    packages = re.findall(r"module-name = (\[.*\])", (ROOT / "pyproject.toml").read_text())
    for package in json.loads(packages[0]):
        assert f"{package} {package}" in instructions("COPY")
        assert f"!{package}" in (ROOT / ".dockerignore").read_text().splitlines()


@pytest.fixture(scope="module")
def account() -> dict[str, Any]:
    """An ordinary user to be; ourselves, unless we are root."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam("nobody")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def python_for(account: dict[str, Any]) -> str:
    """A Python that the user reaches; root's own may be in root's home."""
    suits = "import sys; sys.exit(sys.version_info < (3, 11))"
    for python in (str(Path(sys.executable).resolve()), "/usr/bin/python3", "/usr/local/bin/python3"):
        try:
            if subprocess.run([python, "-c", suits], cwd="/", check=False, **account).returncode == 0:
                return python
        except OSError:
            continue
    missing("a Python >= 3.11 that an ordinary user reaches")
    raise AssertionError


@pytest.fixture(scope="module")
def image(account: dict[str, Any]) -> Iterator[Path]:
    """What the build leaves: /app, made by the commands of the Dockerfile, and beside it the user's /data."""
    python = python_for(account)
    with tempfile.TemporaryDirectory(prefix="stockshift-image-") as folder:
        root = Path(folder)
        root.chmod(0o755)
        app, data = root / "app", root / "data"
        app.mkdir()
        data.mkdir()
        if account:
            os.chown(data, account["user"], account["group"])
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, app / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, app)
        for command in instructions("RUN uv"):
            subprocess.run(
                ["/bin/sh", "-euc", f"uv {command}"],
                cwd=app,
                env=environment(PATH=f"{BIN}:{os.environ['PATH']}", UV_PYTHON=python, VIRTUAL_ENV=""),
                check=True,
            )
        yield root


def start(image: Path, account: dict[str, Any], arguments: list[str], **variables: str) -> "subprocess.Popen[str]":
    (entrypoint,) = map(json.loads, instructions("ENTRYPOINT"))
    bin_folder = image / "app" / ".venv" / "bin"
    return subprocess.Popen(
        [str(bin_folder / entrypoint[0]), *entrypoint[1:], *arguments],
        cwd=image / "app",
        env={
            "PATH": f"{bin_folder}:/usr/bin:/bin",
            "PYTHONUNBUFFERED": "1",
            "STOCKSHIFT_DATA": str(image / "data"),
            **variables,
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **account,
    )


def healthy(image: Path, account: dict[str, Any], port: str) -> bool:
    (command,) = map(json.loads, re.findall(r"^HEALTHCHECK .*?CMD (\[.*\])$", DOCKERFILE, re.MULTILINE))
    bin_folder = image / "app" / ".venv" / "bin"
    done = subprocess.run(
        command,
        env={"PATH": f"{bin_folder}:/usr/bin:/bin", "STOCKSHIFT_PORT": port},
        stderr=subprocess.DEVNULL,
        timeout=DEADLINE_SECONDS,
        check=False,
        **account,
    )
    return done.returncode == 0


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return str(probe.getsockname()[1])


def test_the_entry_point_serves_as_an_ordinary_user_and_stops_on_sigterm(image: Path, account: dict[str, Any]) -> None:
    (command,) = map(json.loads, instructions("CMD"))
    port = free_port()
    assert not healthy(image, account, port)
    variables = {"DATABASE_URL": "postgresql://localhost:1/shop", "STOCKSHIFT_JWT_SECRET": SECRET}
    service = start(image, account, command, STOCKSHIFT_PORT=port, **variables)
    try:
        until(lambda: service.poll() is not None or healthy(image, account, port), "the health check to pass")
        assert service.poll() is None, service.communicate()[0]
        service.send_signal(signal.SIGTERM)
        assert service.wait(DEADLINE_SECONDS) == 0
    finally:
        service.kill()
        service.communicate()


def test_it_does_not_serve_without_a_secret(image: Path, account: dict[str, Any]) -> None:
    service = start(image, account, ["serve"], STOCKSHIFT_PORT="0", DATABASE_URL="postgresql://localhost:1/shop")
    said, _ = service.communicate(timeout=DEADLINE_SECONDS)
    assert service.returncode == 2
    assert "set STOCKSHIFT_JWT_SECRET" in said


def test_a_demo_runs_in_it_as_an_ordinary_user(image: Path, account: dict[str, Any]) -> None:
    port = free_port()
    demo = start(image, account, ["demo", "--items", "10", "--port", port])
    try:
        until(lambda: demo.poll() is not None or healthy(image, account, port), "the health check to pass")
        assert demo.poll() is None, demo.communicate()[0]
        demo.send_signal(signal.SIGTERM)
        assert demo.wait(DEADLINE_SECONDS) == 0
    finally:
        demo.kill()
        demo.communicate()


def test_the_services_of_compose_wait_for_each_other_and_have_no_secret_of_their_own() -> None:
    text = (ROOT / "compose.yaml").read_text()
    services = yaml.safe_load(text)["services"]
    assert services["stockshift"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert "pg_isready" in services["postgres"]["healthcheck"]["test"]
    for service in services.values():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:")
    secrets = set(re.findall(r"\$\{(\w+)", text))
    assert secrets == {"POSTGRES_PASSWORD", "STOCKSHIFT_JWT_SECRET"}
    assert all(f"${{{name}:?" in text and f"${{{name}}}" not in text for name in secrets)


def test_compose_gives_the_service_a_url_that_it_understands() -> None:
    given = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["stockshift"]["environment"]
    url = DatabaseUrl.parse(re.sub(r"\$\{[^}]*\}", "from-env", given["DATABASE_URL"]))
    assert (url.hosts, url.user, url.password, url.database) == ((("postgres", 5432),), "shop", "from-env", "shop")
