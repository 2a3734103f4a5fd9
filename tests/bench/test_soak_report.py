"""What a reader sees of memory over many requests."""

from bench.soak import Sample, Soak
from bench.soak_report import render_soak
from tests.bench.test_report import line


def soaked(*resident_mb: float) -> Soak:
    samples = [Sample(number * 100, memory) for number, memory in enumerate(resident_mb)]
    return Soak(samples, documents=120, seconds=2.0, server_cpu_ms=0.3, database_cpu_ms=0.1, machine={})


def test_memory_is_held_against_what_it_was_after_warming_up() -> None:
    """What the first tenth of the requests take is for caches that are to be filled."""
    report = render_soak(soaked(60, 100, 101, 104, 103, 102, 102, 102, 102, 102, 102))
    assert line(report, "Goal", "the most memory after the first 10% of the requests, against then").endswith(
        "| 1.04 | met |"
    )
    assert line(report, "Resident memory, MB", "start") == "| start | 0 | 60.0 | 0.60 |"
    assert line(report, "Resident memory, MB", "after warming up") == "| after warming up | 100 | 100.0 | 1.00 |"
    assert line(report, "Resident memory, MB", "half") == "| half | 500 | 102.0 | 1.02 |"
    assert line(report, "Resident memory, MB", "end") == "| end | 1,000 | 102.0 | 1.02 |"
    assert "1,000 requests at 16 connections, 500/s" in report


def test_memory_that_grows_in_between_is_no_flat_memory() -> None:
    report = render_soak(soaked(60, 100, 101, 104, 113, 102, 102, 102, 102, 102, 102))
    assert line(report, "Goal", "the most memory after the first 10% of the requests, against then").endswith(
        "| 1.13 | missed |"
    )
