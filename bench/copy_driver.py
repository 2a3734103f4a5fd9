"""The driver of an online copy, in a process of its own: `python -m bench.copy_driver URL [THROTTLE ...]`.

It prints an event a line, as JSON (bench/copy_run.py reads them), and last what came of the run.
"""

import asyncio
import os
import sys
import time
from dataclasses import asdict

import orjson
import stamina

from bench.processes import Process
from db.engine import create_engine
from db.errors import StockshiftError
from db.url import DatabaseUrl
from migration.online import Outcome, migrate_online
from migration.options import Options
from migration.progress import Progress
from migration.throttle import Throttle

SELF = Process(os.getpid(), port=0)


async def drive(url: str, throttle: Throttle) -> Outcome:
    engine = create_engine(DatabaseUrl.parse(url), application_name="bench driver", pool_size=2, statement_timeout_ms=0)
    try:
        tell(Progress("plan", 0, 0))
        return await migrate_online(engine, driver="bench", options=Options(throttle=throttle), progress=tell)
    finally:
        await engine.dispose()


def tell(progress: Progress) -> None:
    _say({"at": time.time(), "resident_mb": SELF.resident_mb, **asdict(progress)})


def _say(what: dict[str, object]) -> None:
    sys.stdout.buffer.write(orjson.dumps(what) + b"\n")
    sys.stdout.flush()


if __name__ == "__main__":
    stamina.instrumentation.set_on_retry_hooks([])  # they print
    try:
        outcome = asyncio.run(drive(sys.argv[1], Throttle.parse(sys.argv[2:])))
    except StockshiftError as error:
        sys.exit(error.message)
    _say({"at": time.time(), "resident_mb": SELF.resident_mb, "outcome": asdict(outcome)})
