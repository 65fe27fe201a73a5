"""Histograms hold what they are given; each end has one cause."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.container import Life
from supervisor.counts import CAUSES, Counts, Histogram, cause
from supervisor.phases import Phase


@given(st.lists(st.floats(0, 100), max_size=50))
def test_a_histogram_counts_each_value_under_its_bound(values):
    histogram = Histogram((0.5, 1.0, 50.0))
    for value in values:
        histogram.note(value)
    assert histogram.cumulative == [
        *(sum(value <= bound for value in values) for bound in (0.5, 1.0, 50.0)),
        len(values),
    ]
    assert histogram.total == pytest.approx(sum(values))


@pytest.mark.parametrize(
    ("life", "expected"),
    [
        (Life(), "success"),
        (Life(exit_code=3), "failure"),
        (Life(exit_code=137, signal=9), "signal"),
        (Life(exit_code=137, signal=9, oom_killed=True), "oom"),
        (Life(exit_code=137, oom_killed=True), "oom"),  # a shell's command
        (Life(exit_code=137, oom_killed=True, stopped_by_request=True), "stopped"),
        (Life(exit_code=1, oom_killed=True), "failure"),
        (Life(oom_killed=True), "success"),
        (Life(exit_code=143, signal=15, stopped_by_request=True), "stopped"),
        (Life(exit_code=0, stopped_by_request=True), "stopped"),
        (Life(exit_code=255, error="its end was not seen"), "unknown"),
    ],
)
def test_the_cause_of_an_end(life, expected):
    assert cause(life) == expected
    assert expected in CAUSES


def test_an_end_is_counted_with_its_log():
    class Log:
        read_bytes, written_bytes, dropped_bytes = 10, 30, 5

    counts = Counts()
    counts.ended(Life(exit_code=1), [Phase("run", 0, 2_000_000_000)], Log)
    counts.ended(Life(exit_code=1), [], Log)
    assert counts.exits == {"failure": 2}
    assert (counts.log_read, counts.log_written, counts.log_dropped) == (20, 60, 10)
    assert counts.phases["run"].total == 2
