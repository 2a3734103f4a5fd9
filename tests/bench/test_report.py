"""What a reader sees of given measurements."""

from bench.load import Measurement
from bench.operations import Operation
from bench.report import render
from bench.results import Results
from bench.variations import ORDERS, first_page, last_page

TITLES = {"service": "this service", "floor": "the floor", "postgraphile-tuned": "PostGraphile"}


def measured(contestant: str, per_second: float, connections: int = 32, p99_ms: float = 20.0) -> Measurement:
    return Measurement(
        contestant,
        Operation.PAGE_50,
        connections,
        per_second=per_second,
        p50_ms=10.0,
        p99_ms=p99_ms,
        database_cpu_ms=0.8,
        server_cpu_ms=0.3,
        start_mb=100.0,
        end_mb=104.0,
    )


def line(report: str, heading: str, title: str) -> str:
    """The row of a table below a heading."""
    section = report.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return next(row for row in section.splitlines() if row.startswith(f"| {title} |"))


def test_ratios_are_of_the_medians_over_the_rounds() -> None:
    rounds = [measured("service", rate) for rate in (900, 1_210, 1_100)]
    report = render(Results(TITLES, [*rounds, measured("floor", 1_000)]))
    assert line(report, "Requests/s, against the floor", "this service").startswith("| this service | 1.10 |")
    assert line(report, "Requests/s", "this service").startswith("| this service | 1,100 |")
    assert line(report, "Latency: p50 / p99, ms", "this service").startswith("| this service | 10.00 / 20.00 |")
    assert line(report, "CPU per request: server / PostgreSQL, ms", "this service").startswith(
        "| this service | 0.30 / 0.80 |"
    )
    assert line(report, "Memory of the server, MB", "this service") == "| this service | 100 | 104 |"


def test_a_goal_is_met_or_missed_where_it_was_worst() -> None:
    measurements = [
        measured("service", 1_000, connections=8),
        measured("service", 700, p99_ms=31.0),
        measured("floor", 900, connections=8),
        measured("floor", 1_000),
        measured("postgraphile-tuned", 400),
    ]
    report = render(Results(TITLES, measurements))
    assert line(report, "Goals", "a page, against the floor").endswith("| 0.70 page of 50, 32 connections | missed |")
    assert line(report, "Goals", "everything, against PostGraphile with hand-tuned SQL").endswith(
        "| 1.75 page of 50, 32 connections | met |"
    )
    assert line(report, "Goals", "p99 at 32 connections, against p50").endswith(
        "| 3.10 page of 50, 32 connections | missed |"
    )
    assert line(report, "Goals", "memory at the end, against after warming up").endswith("| 1.04 | met |")


def test_variations_are_held_against_random_places_and_ends_of_the_list_against_each_other() -> None:
    titles = [page(order) for order in ORDERS for page in (first_page, last_page)]
    rates = dict(zip(titles, (1_250, 1_000, 900, 1_000), strict=True))
    measurements = [measured("service", 1_000), *(measured(title, rate) for title, rate in rates.items())]
    report = render(Results(TITLES, measurements, variations=dict.fromkeys(titles, Operation.PAGE_50)))
    assert line(report, "The service elsewhere", "first page by NAME").startswith(
        "| first page by NAME | 1.25 | 1,250 |"
    )
    assert line(report, "Goals", "requests/s of the first page, against the last page").endswith(
        "| 1.25 by NAME | missed |"
    )


def test_who_was_not_measured_is_said_with_the_reason() -> None:
    titles = {"service": "this service", "floor": "the floor"}
    results = Results(
        titles, [measured("service", 1_000), measured("floor", 1_000)], {"PostGraphile": "npm is not on PATH"}
    )
    report = render(results)
    assert "## Not measured\n\n- PostGraphile: npm is not on PATH" in report
    assert line(report, "Goals", "everything, against PostGraphile with hand-tuned SQL").endswith(
        "| - | not measured |"
    )
    assert line(report, "Goals", "one item, against the floor").endswith("| - | not measured |")


def test_no_goal_is_met_when_the_service_was_too_slow_to_be_measured_somewhere() -> None:
    measurements = [
        measured("service", 1_000, connections=8),
        measured("floor", 900, connections=8),
        measured("floor", 900),
    ]
    report = render(Results(TITLES, measurements))
    assert line(report, "Goals", "a page, against the floor").endswith("| - | not measured |")
