"""What a reader sees of a copy, and of what it costs the shop."""

from bench.copy_run import CopyRun, Meter
from bench.copying import Beside, Cell, Copying, Floor, Way
from bench.copying_report import render_copying
from bench.selling import Served, Write, Written
from tests.bench.copies import copied
from tests.bench.test_report import line

STEADY = copied((0.0, 0), (9.0, 1_000))
"""10 s as it is judged."""
RATE = "items/s of the copy, against the floor"
WRITES = "a legacy write in a migrated shop, against before; durable"


def reported(*runs: CopyRun, floor_seconds: float = 7.5, migrated_ms: float = 1.2) -> str:
    latency = {Way.LEGACY: 1.0, Way.EXPANDED: 1.1, Way.MIGRATED: migrated_ms}
    writes = [
        (Cell(way, write, clients, durable), Written(ms, 1_000 / ms, ms / 10))
        for way, ms in latency.items()
        for write in Write
        for clients in (1, 8)
        for durable in (True, False)
    ]
    served = Served(480.0, [1.0] * 98 + [20.0, 30.0])
    beside = Beside(500, None, served, served, served, {"copy": served}, STEADY)
    floors = [Floor({"the rows": floor_seconds}, Meter(50_000_000, 1.0))]
    return render_copying(Copying(1_000, 200, floors, runs or [STEADY], writes, [beside], {"machine": "a machine"}))


def test_a_copy_is_judged_by_the_phases_that_the_floor_has() -> None:
    report = reported()
    assert line(report, "Goals", RATE).endswith("| at least 0.7 | 0.75 | met |")
    assert line(report, "Copying 1,000 items", "the copy, as judged") == (
        "| the copy, as judged | 10.0 | 100 | 0.75 | 200 | 4.0 |"
    )
    assert line(report, "Copying 1,000 items", "the whole migration") == (
        "| the whole migration | 12.0 | 83 | 0.62 | 300 | 6.0 |"
    )
    assert line(report, "Copying 1,000 items", "sweep") == "| sweep | 1.00 | 100 | 2.0 | yes |"
    assert line(report, "Copying 1,000 items", "verification") == "| verification | 2.00 | 100 | 2.0 |  |"
    assert "- machine: a machine" in report


def test_rates_are_of_the_medians_over_the_rounds() -> None:
    slow, fast = copied((0.0, 0), (19.0, 1_000)), copied((0.0, 0), (4.0, 1_000))
    assert line(reported(slow, STEADY, fast), "Goals", RATE).endswith("| 0.75 | met |")
    assert line(reported(slow, slow, fast), "Goals", RATE).endswith("| 0.38 | missed |")


def test_a_copy_that_slows_down_misses_the_goal() -> None:
    slowing = copied((0.0, 0), (4.0, 500), (9.0, 1_000))
    assert line(reported(slowing), "Goals", "items/s of the last tenth, against the first").endswith(
        "| 0.80 | missed |"
    )
    assert line(reported(slowing), "Copying 1,000 items", "items/s").startswith("| items/s | 125 | 125 |")


def test_a_legacy_write_is_held_against_one_before_the_migration() -> None:
    assert line(reported(), "Goals", WRITES).endswith("| at most 1.25 | 1.20 sale, 8 connections | met |")
    report = reported(migrated_ms=1.32)
    assert line(report, "Goals", WRITES).endswith("| 1.32 sale, 8 connections | missed |")
    assert line(report, "A legacy write, in a shop of 200 items", "move, 1 connection, durable: latency") == (
        "| move, 1 connection, durable: latency | 1.000 | 1.100 | 1.320 | 1.20 | 1.32 |"
    )


def test_sales_are_told_with_their_slowest() -> None:
    heading = "Selling beside a copy of 200 items, at 8 connections"
    assert line(reported(), heading, "500 a second, no throttle").endswith("| alone | 480 | 1.00 | 30.00 | 30.00 |  |")
    assert "| 500 a second, no throttle | - | - | 480, 1.00 / 30.00 / 30.00 | - | - | - | - |" in reported()
