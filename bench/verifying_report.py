"""VERIFY.md: the goal first, then what each way takes."""

import statistics
from collections.abc import Callable, Iterable, Sequence

from bench.report import number, table
from bench.verifying import Shop, Taken, Verifying, Way

LIMIT = 3.0
"""All checks against the recipe's one query."""
RECIPES = (Way.PLANNED, Way.HASHED)


def render_verifying(verifying: Verifying) -> str:
    preface = (
        "Written by `python -m bench --verify`; [README.md](README.md) says how it measures. Medians over the rounds."
        " Compare ratios: absolute numbers are this machine's, and of that hour."
    )
    parts = [
        "# Verify",
        preface,
        "\n".join(f"- {name}: {value}" for name, value in verifying.machine.items()),
        "## Goals",
        table(["goal", "wanted", "measured", ""], _goals(verifying)),
        f"## Verifying {verifying.items:,} items",
        table(["", *(shop.value for shop in Shop)], _rows(verifying)),
    ]
    return "\n\n".join(parts) + "\n"


def _goals(verifying: Verifying) -> Iterable[Sequence[str]]:
    ratio = _ratio(verifying, Shop.COPIED, _seconds)
    met = "met" if ratio <= LIMIT else "missed"
    yield f"all checks, against the recipe's query: {Shop.COPIED.value}", f"at most {LIMIT}", number(ratio, 2), met


def _rows(verifying: Verifying) -> Iterable[Sequence[str]]:
    for title, pick in {"s": _seconds, "CPU of PostgreSQL, s": _cpu}.items():
        for way in Way:
            yield f"{way.value}: {title}", *(number(_of(verifying, shop, way, pick), 2) for shop in Shop)
        yield f"all checks against the faster: {title}", *(number(_ratio(verifying, shop, pick), 2) for shop in Shop)


def _ratio(verifying: Verifying, shop: Shop, pick: Callable[[Taken], float]) -> float:
    return _of(verifying, shop, Way.VERIFY, pick) / min(_of(verifying, shop, way, pick) for way in RECIPES)


def _of(verifying: Verifying, shop: Shop, way: Way, pick: Callable[[Taken], float]) -> float:
    return statistics.median(pick(taken) for where, by, taken in verifying.taken if (where, by) == (shop, way))


def _seconds(taken: Taken) -> float:
    return taken.seconds


def _cpu(taken: Taken) -> float:
    return taken.cpu
