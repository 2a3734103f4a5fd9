"""Positions in the primary's write-ahead log: what a client has written, and has to be shown at least."""

import logging
import re
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

log = logging.getLogger("stockshift.replica")

# Not what was written to disk: where commits do not wait for that, they are before this position all the same.
POSITION = text("SELECT CAST(pg_current_wal_insert_lsn() - '0/0' AS bigint)")


@dataclass
class Consistency:
    """What one request has to be shown, and what became of it; positions are numbers of bytes.

    `at_least` is a position that must be seen, `written` one after all that the request committed; `read_from` is the
    server that was read last.
    """

    at_least: int = 0
    written: int | None = None
    read_from: Literal["replica", "primary"] | None = None


def parse_lsn(written: str) -> int | None:
    """A position as PostgreSQL writes it, such as 16/B374D848; None if it is none."""
    found = re.fullmatch(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})", written, re.ASCII)
    return None if found is None else (int(found[1], 16) << 32) + int(found[2], 16)


def format_lsn(position: int) -> str:
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


async def note_written(consistency: Consistency, connection: AsyncConnection) -> None:
    """After a commit on this connection. What was committed stays so if the position cannot be had."""
    try:
        consistency.written = await connection.scalar(POSITION)
    except DBAPIError as error:
        log.warning("the position after a commit is not known: %s", error.orig)
