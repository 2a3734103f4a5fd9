"""What a reader sees of costs in shops of several sizes."""

from bench.growth import Cost, Growth
from bench.growth_cases import At, Case
from bench.growth_report import render_growth
from tests.bench.test_report import line

PAGE = Case("page by NAME ASC", at=At.LAST, steady=True)
SUMMARY = Case("stockSummary")
GOAL = "shared buffers of what must not grow, largest shop against smallest"


def grown(small: Cost, large: Cost) -> str:
    costs = {(PAGE, 1_000): small, (PAGE, 100_000): large}
    costs |= {(SUMMARY, 1_000): Cost(600, 1, 3.0), (SUMMARY, 100_000): Cost(60_000, 1, 270.0)}
    return render_growth(Growth((1_000, 100_000), costs, {}))


def test_only_what_must_not_grow_is_held_to_the_goal() -> None:
    report = grown(Cost(300, 1, 2.0), Cost(390, 1, 2.2))
    assert line(report, "Goals", GOAL).endswith("| at most 1.5 | 1.30 | met |")
    steady = "What must not grow: pages by NAME and CREATED_AT, and an item"
    assert line(report, steady, "page by NAME ASC, last").endswith("| 300 / 2.00 | 390 / 2.20 | 1.3 / 1.1 |")
    growing = "What may grow: pages by TOTAL_QUANTITY, filtered pages, and sums over all items"
    assert line(report, growing, "stockSummary").endswith("| 600 / 3.00 | 60,000 / 270.00 | 100.0 / 90.0 |")


def test_a_cost_that_grows_misses_the_goal() -> None:
    assert line(grown(Cost(300, 1, 2.0), Cost(480, 1, 2.0)), "Goals", GOAL).endswith("| 1.60 | missed |")


def test_a_page_that_failed_misses_the_goal_and_is_said() -> None:
    report = grown(Cost(300, 1, 2.0), Cost(failed="it took too long"))
    assert line(report, "Goals", GOAL).endswith("| failed | missed |")
    assert "## Failed\n\n- it took too long" in report
