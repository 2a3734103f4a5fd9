"""What is made of what pgbench says."""

from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.selling import Sale, Sales, Write, Written, read_logs, read_report

SAID = """\
transaction type: script.sql
number of transactions actually processed: 2000
number of failed transactions: 0 (0.000%)
latency average = 0.731 ms
tps = 1367.260000 (without initial connection time)
statement latencies in milliseconds and failures:
         0.002           0 \\set number random(1, :items)
         0.061           0 SELECT id FROM bench.id WHERE number = :number \\gset
         0.540           0 {update}
"""


@pytest.mark.parametrize("write", Write)
def test_the_latency_is_the_updates_alone(write: Write) -> None:
    assert read_report(SAID.format(update=write.value), 0.5) == Written(0.540, 1_367.26, 0.25)


def test_before_version_15_there_is_no_column_of_failures() -> None:
    assert read_report(SAID.format(update="").rstrip() + f"\n 0.540  {Write.SALE.value}\n", 0.5).latency_ms == 0.540


def test_a_pgbench_that_did_nothing_is_no_measurement() -> None:
    with pytest.raises(BenchError, match="measured nothing"):
        read_report(SAID.format(update=Write.SALE.value).replace("processed: 2000", "processed: 0"), 0.5)


@pytest.mark.parametrize("lag", ["", " 130"])
def test_a_log_has_when_each_sale_ended_and_how_long_it_took(tmp_path: Path, lag: str) -> None:
    (tmp_path / "log.1").write_text(f"0 1 4821 0 1769000000 250000{lag}\n3 2 700 0 1769000001 500000{lag}\n")
    assert read_logs(tmp_path) == [Sale(1769000000.25, 4.821), Sale(1769000001.5, 0.7)]


def test_a_sale_belongs_to_the_time_in_which_it_ended() -> None:
    served = Sales([Sale(1.0, 3.0), Sale(2.5, 9.0), Sale(2.0, 1.0), Sale(3.0, 5.0)]).between(1.0, 3.0)
    assert served.per_second == 1.5
    assert [served.quantile(share) for share in (0.5, 0.99, 1.0)] == [3.0, 9.0, 9.0]


def test_nothing_sold_has_no_latency() -> None:
    assert Sales().between(1.0, 3.0).quantile(0.5) is None
