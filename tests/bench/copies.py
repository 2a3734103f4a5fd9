"""Copies that were never made, for reports of them."""

from bench.copy_run import CopyRun, Event, Meter, Span

FINISHED = {"run": 1, "state": "FINISHED", "copied": 500, "held_back": 0, "mismatched": 0}


def told(at: float, stage: str, done: int = 0, waiting: str | None = None) -> dict[str, object]:
    """A line of a driver's."""
    return {"at": at, "resident_mb": 60, "stage": stage, "done": done, "total": 500, "waiting": waiting, "chunk": None}


def copied(*points: tuple[float, int], megabytes: int = 100, resident_mb: float = 60.0) -> CopyRun:
    """By seconds and items done; a second of sweeping before, and a verification of two behind."""
    end = points[-1][0]
    cost = Meter(megabytes * 1_000_000, 2.0)
    spans = [
        Span("copy", points[0][0], end, cost),
        Span("sweep", end, end + 1, cost),
        Span("verify", end + 1, end + 3, cost),
    ]
    events = [Event(at, "copy", done, resident_mb) for at, done in points]
    return CopyRun([*events, Event(end + 3, "end", points[-1][1], resident_mb)], spans, points[-1][1])
