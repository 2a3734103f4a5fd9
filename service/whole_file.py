"""A file that appears whole, or not at all."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from db.errors import StockshiftError


class NotWritable(StockshiftError):
    """The file cannot be written: name another one."""


@contextmanager
def whole_file(path: str | None) -> Iterator[BinaryIO | None]:
    """A file to write to, which gets its name when the block ends well; None for no path, stdout for "-".

    NotWritable: it cannot be opened, which is known before the block runs, or cannot be completed.
    """
    if path is None:
        yield None
    elif path == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    else:
        target = Path(path).resolve()  # a link stays, and what it points to is written
        with replacing(target) if target.is_file() or not target.exists() else _opened(target) as file:
            yield file


@contextmanager
def replacing(target: Path, *, private: bool = False) -> Iterator[BinaryIO]:
    """A file that has another name until it is complete. `private`: for its owner's eyes alone. Raises NotWritable."""
    with _told(target):
        number, name = tempfile.mkstemp(dir=target.parent, prefix=".stockshift-")
    partial = Path(name)
    try:
        with os.fdopen(number, "wb") as file:
            yield file
        with _told(target):
            if not private:  # as it was made
                partial.chmod(target.stat().st_mode if target.exists() else 0o666 & ~_umask())
            partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _opened(target: Path) -> Iterator[BinaryIO]:
    """A device or a pipe, which cannot be replaced."""
    with _told(target):
        file = target.open("wb")
    with file:
        yield file


@contextmanager
def _told(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NotWritable(f"cannot write {target} ({error.strerror}); name a file in a folder you may write") from error


def _umask() -> int:
    umask = os.umask(0o077)
    os.umask(umask)
    return umask
