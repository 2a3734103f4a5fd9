"""Whom the embedded server runs as, and where it keeps its files so that this account reaches them.

PostgreSQL refuses to run as root. Started by root it runs as an ordinary account, which often cannot enter root's
folders: what it needs is then kept under SHARED, and no permission of anybody's folder is touched.
"""

import hashlib
import os
import pwd
import stat
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from db.errors import StockshiftError

SHARED = Path("/var/lib/stockshift")

# Accounts that root lends to the server, the first that exists.
_LENT = ("postgres", "nobody")


class EmbeddedServerError(StockshiftError):
    """The embedded PostgreSQL server cannot be used: set DATABASE_URL to a server of your own."""


class PlaceError(EmbeddedServerError):
    """The embedded server's files cannot be kept there: set STOCKSHIFT_DATA to another folder."""


class Identity(TypedDict, total=False):
    """Arguments of subprocess that make a child run as somebody else."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class Account:
    """The account that PostgreSQL runs as."""

    name: str
    uid: int
    gid: int

    @property
    def identity(self) -> Identity:
        if self.uid == os.geteuid():
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def reaches(self, folder: Path) -> bool:
        """Whether it can enter the folder. The kernel is asked, as the account: it knows of ACLs."""
        enter = ["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)]
        done = subprocess.run(  # noqa: S603 - the path is an argument, not part of the script
            enter, cwd="/", env={}, stderr=subprocess.DEVNULL, check=False, **self.identity
        )
        return done.returncode == 0

    def own(self, path: Path) -> None:
        """Take over what root has just made."""
        if self.uid != os.geteuid():
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def account_for(directory: Path) -> Account:
    """Ourselves; for root the owner of what is there, else an account that is there for such things."""
    if os.geteuid() != 0:
        return _account(os.geteuid(), os.getegid())
    for place in (directory / "postgres", directory):
        with suppress(OSError):
            found = place.stat()
            if found.st_uid != 0:
                return _account(found.st_uid, found.st_gid)
    for name in _LENT:
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise EmbeddedServerError(
        f"PostgreSQL does not run as root, and there is no account {' or '.join(_LENT)}: run as an ordinary user."
    )


def _account(uid: int, gid: int) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return Account(str(uid), uid, gid)
    return Account(entry.pw_name, uid, entry.pw_gid)


def home_for(directory: Path, account: Account) -> Path:
    """The server's own folder, made if need be: `directory`/postgres, or what that link points to.

    Errors: PlaceError when it belongs to another account, cannot be reached or cannot be made.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        home = _home(directory.resolve(), account)
        owner = home.stat().st_uid
    except OSError as error:
        raise PlaceError(
            f"The embedded server's files cannot be kept in {directory} ({error.strerror}):"
            " make that folder writable, or set STOCKSHIFT_DATA to another one."
        ) from error
    if owner != account.uid:
        name = _account(owner, -1).name
        raise PlaceError(
            f"{home} belongs to the account {name}, not to {account.name}: run as {name},"
            " or set STOCKSHIFT_DATA to another folder."
        )
    if not account.reaches(home):
        raise PlaceError(
            f"The account {account.name} cannot enter {home}, which belongs to it: let it enter the folders above,"
            " or set STOCKSHIFT_DATA to another folder."
        )
    return home


def _home(directory: Path, account: Account) -> Path:
    home = directory / "postgres"
    if home.is_symlink():
        target = home.resolve()
        if not target.is_dir():
            raise PlaceError(
                f"{home} points to {target}, which is gone: put it back, or remove the link to start empty."
            )
        return target
    if home.exists() or account.reaches(directory):
        make_private_folder(home, account)
        return home
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    target = shared_folder() / name
    make_private_folder(target, account)
    with suppress(FileExistsError):  # root started twice at once: both made the same link
        home.symlink_to(target)
    return target


def make_private_folder(folder: Path, account: Account) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid == 0:
        account.own(folder)


def shared_folder() -> Path:
    """SHARED, which everybody can enter and only root can write. For root only."""
    try:
        SHARED.mkdir(parents=True)
        SHARED.chmod(0o755)  # whatever the umask was
    except FileExistsError:
        pass
    found = SHARED.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o022:
        raise PlaceError(f"{SHARED} must be a folder of root's that nobody else can write: check it, and remove it.")
    return SHARED


def open_private(path: Path, account: Account) -> int:
    """A descriptor for reading and appending, of a file that only the account can read, made if need be.

    The folder may belong to an account that is less trusted than we are: neither a link nor a pipe is followed.
    Errors: PlaceError.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        file = os.open(path, flags, 0o600)
    except OSError as error:
        raise PlaceError(
            f"{path} cannot be opened ({error.strerror}): check its folder, or set STOCKSHIFT_DATA to another one."
        ) from error
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        os.close(file)
        raise PlaceError(f"{path} is not a plain file: check what made it, and remove it.")
    if found.st_uid == 0 != account.uid:
        os.fchown(file, account.uid, account.gid)
    return file
