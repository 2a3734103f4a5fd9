"""SOAK.md: memory over many requests."""

from collections.abc import Iterable, Sequence

from bench.report import number, table
from bench.soak import CONNECTIONS, WARM_SHARE, Soak

MOST = 1.1


def render_soak(soak: Soak) -> str:
    preface = (
        "Written by `python -m bench --soak`; [README.md](README.md) says how it measures. Resident memory of the"
        " service's one process, read between slices of load while it is idle."
    )
    mixed = (
        f"{soak.requests:,} requests at {CONNECTIONS} connections, {soak.requests / soak.seconds:,.0f}/s:"
        f" 19 in 20 an item with its batches, others pages, and a few each of {soak.documents:,} documents that were"
        f" new to it. CPU of a request: {soak.server_cpu_ms:.2f} ms of the service, {soak.database_cpu_ms:.2f} ms of"
        " PostgreSQL."
    )
    verdict = "met" if soak.growth <= MOST else "missed"
    goal = [f"the most memory after the first {WARM_SHARE:.0%} of the requests, against then", f"at most {MOST}"]
    parts = [
        "# Soak",
        preface,
        "\n".join(f"- {name}: {value}" for name, value in soak.machine.items()),
        "## Goal",
        table(["goal", "wanted", "measured", ""], [[*goal, number(soak.growth, 2), verdict]]),
        mixed,
        "## Resident memory, MB",
        table(["", "requests", "MB", "against after warming up"], _points(soak)),
        "## Every sample",
        table(["requests", "MB"], ([f"{one.requests:,}", number(one.resident_mb, 1)] for one in soak.samples)),
    ]
    return "\n\n".join(parts) + "\n"


def _points(soak: Soak) -> Iterable[Sequence[str]]:
    named = {"start": 0.0, "after warming up": WARM_SHARE, "a quarter": 0.25, "half": 0.5, "three quarters": 0.75}
    for name, share in (*named.items(), ("end", 1.0)):
        one = soak.after(share)
        yield name, f"{one.requests:,}", number(one.resident_mb, 1), number(one.resident_mb / soak.warm.resident_mb, 2)
