"""How an online copy holds back: what is measured between two chunks, and how long to wait for it.

| word | waits |
|---|---|
| sleep=R | R times as long as the last chunk took |
| lag=S | while a replica is more than S seconds behind |
| active=N | while more than N other sessions are at work |
| wal=M | so that the database writes no more than M MB of log a second, whoever writes |
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from db.errors import StockshiftError

POLL_SECONDS = 0.5

MEASURE = text(
    """
    SELECT
        (SELECT max(extract(epoch FROM replay_lag)) FROM pg_catalog.pg_stat_replication)::float8 AS lag,
        (SELECT count(*) FROM pg_catalog.pg_stat_activity
         WHERE state = 'active' AND backend_type = 'client backend' AND pid <> pg_backend_pid())::int AS active,
        pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint AS written,
        extract(epoch FROM clock_timestamp())::float8 AS at
    """
)


class UnknownThrottle(StockshiftError):
    """A throttle is a word, = and a number above 0."""


@dataclass(frozen=True)
class Measured:
    """`lag` in seconds, None without a replica; `written` bytes of log so far; `at` in seconds."""

    lag: float | None
    active: int
    written: int
    at: float


@dataclass(frozen=True)
class Throttle:
    """None: not asked for. `sleep` is a ratio, `lag` in seconds, `active` sessions, `wal` in MB a second."""

    sleep: float | None = None
    lag: float | None = None
    active: float | None = None
    wal: float | None = None

    @classmethod
    def parse(cls, words: Iterable[str]) -> "Throttle":
        """Such as `sleep=0.5`; several may stand in one word, with commas. Raises UnknownThrottle."""
        known = [field.name for field in fields(cls)]
        asked: dict[str, float] = {}
        for word in ",".join(words).split(","):
            if not word.strip():
                continue
            name, _, value = word.strip().partition("=")
            try:
                number = float(value)
            except ValueError:
                number = 0
            if name not in known or not 0 < number < float("inf"):
                raise UnknownThrottle(
                    f"{word.strip()!r} is no throttle; give one of {', '.join(known)}, = and a number above 0,"
                    " such as sleep=0.5"
                )
            asked[name] = number
        return cls(**asked)

    def to_json(self) -> dict[str, float]:
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> "Throttle":
        return cls(**kept)

    @property
    def measures(self) -> bool:
        """The database has to be looked at."""
        return any(value is not None for value in (self.lag, self.active, self.wal))

    def wait(self, now: Measured, before: Measured | None) -> tuple[float, str] | None:
        """For how many seconds to wait at least, and what for; None: go on. `before` is of the chunk's start."""
        if self.lag is not None and (now.lag or 0) > self.lag:
            return POLL_SECONDS, f"a replica is {now.lag:.1f} s behind, more than lag={self.lag:g}"
        if self.active is not None and now.active > self.active:
            return POLL_SECONDS, f"{now.active} other sessions are at work, more than active={self.active:g}"
        if self.wal is not None and before is not None:
            due = (now.written - before.written) / (self.wal * 1e6) - (now.at - before.at)
            if due > 0:
                return due, f"more than {self.wal:g} MB of log a second are written"
        return None


async def measure(connection: AsyncConnection) -> Measured:
    return Measured(*(await connection.execute(MEASURE)).one())
