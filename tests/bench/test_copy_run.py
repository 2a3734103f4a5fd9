"""What is made of the lines that a driver tells."""

import asyncio
import sys
import tempfile

import orjson
import pytest

from bench.copy_run import JUDGED, CopyRun, Event, Meter, Span, follow, phase_of
from bench.errors import BenchError
from migration.capture import Captured
from migration.expand import Existing, indexes_to_make, keys_to_validate
from tests.bench.copies import FINISHED, copied, told


async def heard(*lines: dict[str, object], ends_with: int = 0, errors: bytes = b"") -> CopyRun:
    """What is made of a process that prints these lines; log and CPU of the server grow by 10 and 1 at each look."""
    looks = 0

    async def meter() -> Meter:
        nonlocal looks
        looks += 1
        return Meter(10 * looks, 1.0 * looks)

    output = b"".join(orjson.dumps(line) + b"\n" for line in lines)
    script = f"import sys; sys.stdout.buffer.write({output!r});"
    with tempfile.TemporaryFile() as file:
        file.write(errors)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", f"{script} sys.exit({ends_with})", stdout=asyncio.subprocess.PIPE
        )
        return await follow(process, file, meter)


async def test_a_phase_lasts_until_the_next_is_told_of() -> None:
    run = await heard(
        told(100, "plan"), told(102, "expand"), told(103, "copy"), told(113, "copy", 500), told(114, "sweep", 500),
        told(115, "keys", 500), told(118, "verify", 500), {"at": 120, "resident_mb": 61, "outcome": FINISHED},
    )  # fmt: skip
    assert [(span.phase, span.seconds) for span in run.spans] == [
        ("plan", 2), ("expand", 1), ("copy", 11), ("sweep", 1), ("keys", 3), ("verify", 2),
    ]  # fmt: skip
    assert run.seconds(*JUDGED) == 16
    assert run.cost(*JUDGED) == Meter(40, 4.0)
    assert run.copied == 500


async def test_a_copy_that_did_not_copy_everything_right_is_no_measurement() -> None:
    for wrong in ({"mismatched": 1}, {"held_back": 1}, {"state": "PAUSED"}):
        with pytest.raises(BenchError, match="did not end as it must"):
            await heard(told(100, "plan"), {"at": 120, "resident_mb": 61, "outcome": FINISHED | wrong})


async def test_a_driver_that_failed_is_quoted() -> None:
    with pytest.raises(BenchError, match="ended with 3: no such database"):
        await heard(told(100, "plan"), ends_with=3, errors=b"Traceback\nno such database\n")


def test_only_validation_of_keys_belongs_to_the_keys() -> None:
    none: frozenset[str] = frozenset()
    there = Existing(True, none, none, none, frozenset({"a_key"}), none, none, Captured(none, none, none), True)
    assert {phase_of("keys", step.why) for step in keys_to_validate(there)} == {"keys"}
    assert {phase_of("keys", step.why) for step in indexes_to_make(there)} == {"indexes"}
    assert phase_of("keys", None) == "keys"
    assert phase_of("copy", "locked by others") == "copy"


def test_the_rate_of_each_tenth_is_between_chunks_as_if_items_came_one_by_one() -> None:
    """100 items in 10 s, and then 100 in 5 s: the two chunks have five tenths each."""
    assert copied((0.0, 0), (10.0, 100), (15.0, 200)).rates() == pytest.approx([10] * 5 + [20] * 5)


def test_the_longest_chunk_copied_something() -> None:
    assert copied((0.0, 0), (2.0, 100), (2.5, 200), (9.0, 200)).longest_chunk() == (2.0, 100)


def test_memory_is_the_drivers_after_a_tenth_and_then_the_most_and_at_the_end() -> None:
    told = {0: 90.0, 10: 40.0, 20: 50.0, 100: 60.0, 200: 55.0}
    events = [Event(float(done), "copy", done, memory) for done, memory in told.items()]
    run = CopyRun(events, [Span("copy", 0.0, 200.0, Meter(0, 0.0))], 200)
    assert run.memory == (50.0, 60.0, 55.0)
