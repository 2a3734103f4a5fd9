"""From nothing: a fresh clone, make, and a Python. Slow, so asked for by STOCKSHIFT_TEST_FROM_CLONE=1, as CI does."""

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.service.processes import ROOT, environment, until

pytestmark = pytest.mark.skipif(
    os.environ.get("STOCKSHIFT_TEST_FROM_CLONE") != "1", reason="slow; STOCKSHIFT_TEST_FROM_CLONE=1 runs it"
)

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MINUTES = 10 * 60

# What another project's shell may have set; none of it may reach this project's environment.
FOREIGN = {
    "VIRTUAL_ENV": "/nowhere/venv",
    "CONDA_PREFIX": "/nowhere/conda",
    "PYTHONHOME": "/nowhere/python",
    "PYTHONPATH": "/nowhere/packages",
    "PIP_USER": "1",
    "PIP_TARGET": "/nowhere/target",
    "UV_PROJECT_ENVIRONMENT": "/nowhere/environment",
    "UV_PYTHON": "3.7",
    "UV_FROZEN": "1",
    "UV_NO_SYNC": "1",
    "UV_NO_DEV": "1",
    "UV_MANAGED_PYTHON": "1",
}


class Clone:
    """A clone that belongs to somebody, and make as he runs it."""

    def __init__(self, folder: Path, account: dict[str, Any], home: Path) -> None:
        self.folder = folder
        self.account = account
        self.home = home

    def start(self, *arguments: str, env: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
        variables = {"PATH": SYSTEM_PATH, "HOME": str(self.home), **(env or {})}
        return subprocess.Popen(
            ["make", *arguments],
            cwd=self.folder,
            env=environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            **self.account,
        )

    def make(self, *arguments: str, env: Mapping[str, str] | None = None, code: int = 0) -> str:
        running = self.start(*arguments, env=env)
        said, _ = running.communicate(timeout=MINUTES)
        assert running.returncode == code, said
        return said

    @contextmanager
    def demo(self, port: str) -> Iterator[str]:
        """What a demo printed by the time that it serves; it is killed, with all that make started, at the end."""
        running = self.start("demo", env={"STOCKSHIFT_PORT": port})
        lines: list[str] = []
        assert running.stdout is not None
        reader = threading.Thread(target=lines.extend, args=[running.stdout], daemon=True)
        reader.start()
        try:
            until(lambda: running.poll() is not None or "startup complete" in "".join(lines), "the demo", MINUTES)
            assert running.poll() is None, "".join(lines)
            yield "".join(lines)
        finally:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
            reader.join()
            running.stdout.close()


@pytest.fixture(params=["as ourselves", "as an ordinary user", "below root's home"])
def clone(request: pytest.FixtureRequest) -> Iterator[Clone]:
    if request.param != "as ourselves" and os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    parent = Path.home() if request.param == "below root's home" else Path(tempfile.gettempdir())
    with tempfile.TemporaryDirectory(prefix="stockshift-clone-", dir=parent, ignore_cleanup_errors=True) as name:
        base = Path(name)
        folder = base / "Læden & søn's winkel"
        home = base / "home"
        home.mkdir()
        subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", ROOT, folder], check=True)
        account: dict[str, Any] = {}
        if request.param == "as an ordinary user":
            entry = pwd.getpwnam("nobody")
            account = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
            base.chmod(0o755)
            for path in (base, home, folder, *folder.rglob("*")):
                os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)
        yield Clone(folder, account, home)
        if (link := folder / ".stockshift" / "postgres").is_symlink():  # root's server keeps its files elsewhere
            shutil.rmtree(link.resolve(), ignore_errors=True)


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return str(probe.getsockname()[1])


def test_two_words_from_a_clone_to_a_shop_that_is_served_and_to_tests_that_pass(clone: Clone) -> None:
    with clone.demo(free_port()) as said:
        assert "A shop of 5,000 items was made" in said
    with clone.demo(free_port()) as said:  # the first was killed
        assert "kept as it is" in said
    for _ in range(2):
        assert "passed" in clone.make("test", "ARGS=tests/service/test_settings.py tests/db/test_url.py", "WORKERS=0")


@pytest.fixture
def installed(clone: Clone) -> Clone:
    clone.make("install", env=FOREIGN)
    return clone


def runs(clone: Clone) -> bool:
    command = ["/bin/sh", "-c", ".venv/bin/stockshift --version"]
    done = subprocess.run(
        command, cwd=clone.folder, env=environment(), capture_output=True, check=False, **clone.account
    )
    return done.returncode == 0


def half(clone: Clone) -> None:
    """What a kill in the middle of the first install leaves."""
    (clone.folder / ".venv" / "installed").unlink()
    for package in ("click", "uv"):
        (site,) = (clone.folder / ".venv" / "lib").glob("python3*/site-packages")
        shutil.rmtree(site / package)


def pythonless(clone: Clone) -> None:
    for python in (clone.folder / ".venv" / "bin").glob("python*"):
        python.unlink()


def moved(clone: Clone) -> None:
    """The programs of an environment name the folder it was made in."""
    clone.folder = clone.folder.rename(clone.folder.with_name("elsewhere"))


@pytest.mark.parametrize("clone", ["as ourselves"], indirect=True)
@pytest.mark.parametrize("damage", [half, pythonless, moved])
def test_an_environment_that_is_damaged_is_made_anew(installed: Clone, damage: Callable[[Clone], None]) -> None:
    assert runs(installed)
    damage(installed)
    assert not runs(installed)
    installed.make("install")
    assert runs(installed)
    assert installed.make("install") == "make: Nothing to be done for 'install'.\n"


@pytest.mark.parametrize("clone", ["as ourselves", "as an ordinary user"], indirect=True)
def test_an_old_python_that_comes_first_is_passed_over_and_a_home_that_is_closed_does_no_harm(clone: Clone) -> None:
    old = clone.home / "bin"
    old.mkdir()
    (old / "python3").write_text("#!/bin/sh\nexit 1\n")  # what it answers to: are you 3.11 or later?
    (old / "python3").chmod(0o755)
    (old / "python3.11").symlink_to("/usr/bin/python3")
    clone.home.chmod(0o755)
    clone.make("install", env={"PATH": f"{old}:{SYSTEM_PATH}", "HOME": "/nonexistent"})
    assert runs(clone)


@pytest.mark.parametrize("clone", ["as ourselves"], indirect=True)
def test_without_a_python_that_is_new_enough_one_line_says_so(clone: Clone) -> None:
    said = clone.make("install", "PYTHON=/bin/false", code=2)
    assert re.match(r"stockshift needs Python 3.11 or later on PATH", said)
    assert not (clone.folder / ".venv").exists()
