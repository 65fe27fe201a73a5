"""What the results of health checks mean, against a model in Docker's own words; and when."""

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from supervisor import health
from supervisor.container import Health, HealthCheck, Probe

S = 10**9
START = 1_000 * S


def probe(at_s, code, took_s=0):
    began = START + int(at_s * S)
    return Probe(began, began + int(took_s * S), code)


def after(check, results, known=None):
    known = known or Health()
    for result in results:
        known = health.after(check, known, result, START)
    return known


def test_the_first_success_makes_it_healthy_and_one_failure_does_not_make_it_ill():
    check = HealthCheck(("CMD", "x"))
    known = after(check, [probe(30, 0), probe(60, 1)])
    assert (known.status, known.failing_streak) == ("healthy", 1)
    assert after(check, [probe(90, 0)], known).failing_streak == 0


def test_failures_in_a_row_make_it_unhealthy_and_a_success_well_again():
    check = HealthCheck(("CMD", "x"), retries=2)
    assert after(check, [probe(1, 1)]).status == "starting"
    ill = after(check, [probe(1, 1), probe(2, -1)])
    assert (ill.status, ill.failing_streak) == ("unhealthy", 2)
    assert after(check, [probe(3, 0)], ill) == Health("healthy", 0, (*ill.probes, probe(3, 0)))


def test_three_failures_are_docker_s_default():
    failures = [probe(n, 1) for n in range(3)]
    assert after(HealthCheck(("CMD", "x")), failures[:2]).status == "starting"
    assert after(HealthCheck(("CMD", "x")), failures).status == "unhealthy"


def test_failures_of_the_start_period_do_not_count_until_it_was_healthy_once():
    check = HealthCheck(("CMD", "x"), retries=1, start_period=60 * S)
    early = after(check, [probe(59, 1)])
    assert (early.status, early.failing_streak, len(early.probes)) == ("starting", 0, 1)
    assert after(check, [probe(60, 1)]).status == "unhealthy"
    assert after(check, [probe(1, 0), probe(2, 1)]).status == "unhealthy"


@given(
    st.lists(st.tuples(st.integers(0, 100), st.sampled_from([0, 1, 2, -1, 137])), max_size=30),
    st.integers(0, 5),
    st.integers(0, 100),
)
def test_any_results_come_out_as_a_model_says(results, retries, period_s):
    check = HealthCheck(("CMD", "x"), retries=retries, start_period=period_s * S)
    known, status, streak, log = Health(), "starting", 0, []
    for at_s, code in sorted(results):
        result = probe(at_s, code)
        known = health.after(check, known, result, START)
        log.append(result)
        if code == 0:
            status, streak = "healthy", 0
        elif not (status == "starting" and at_s < period_s):
            streak += 1
            if streak >= (retries or 3):
                status = "unhealthy"
        assert (known.status, known.failing_streak) == (status, streak)
        assert list(known.probes) == log[-5:]


def test_the_interval_is_shorter_while_it_starts():
    check = HealthCheck(("CMD", "x"), interval=30 * S, start_period=60 * S, start_interval=2 * S)
    assert health.interval_ns(check, Health(), 0) == 2 * S
    assert health.interval_ns(check, Health(), 60 * S) == 30 * S
    assert health.interval_ns(check, Health("healthy"), 0) == 30 * S
    default = HealthCheck(("CMD", "x"), start_period=1)
    assert health.interval_ns(default, Health(), 0) == 5 * S
    assert health.interval_ns(default, Health(), 1) == 30 * S


def test_the_next_is_due_an_interval_after_the_start_or_the_last_end():
    check = HealthCheck(("CMD", "x"), interval=10 * S)
    assert health.wait_ns(check, Health(), START, START) == 10 * S
    assert health.wait_ns(check, Health(), START, START + 4 * S) == 6 * S
    known = after(check, [probe(10, 0, took_s=3)])
    assert health.wait_ns(check, known, START, START + 13 * S) == 10 * S


def test_one_that_is_overdue_as_after_a_death_is_run_at_once():
    check = HealthCheck(("CMD", "x"), interval=10 * S)
    known = after(check, [probe(10, 0)])
    assert health.wait_ns(check, known, START, START + 500 * S) == 0


def test_a_clock_that_was_set_back_puts_nothing_off_for_long():
    check = HealthCheck(("CMD", "x"), interval=10 * S)
    known = after(check, [probe(10**6, 0)])
    assert health.wait_ns(check, known, START, START) == 10 * S


def test_old_probes_of_an_earlier_run_stay_to_be_read_but_say_nothing_of_the_next_one():
    check = HealthCheck(("CMD", "x"), interval=10 * S)
    before = after(check, [probe(n, 1) for n in range(9)])
    fresh = health.afresh(check, before)
    assert (fresh.status, fresh.failing_streak) == ("starting", 0)
    assert fresh.probes == before.probes
    assert health.wait_ns(check, fresh, START + 100 * S, START + 100 * S) == 10 * S
    assert health.afresh(HealthCheck(("NONE",)), before) is None
    assert health.afresh(None, before) is None


def test_the_words_to_execute():
    assert health.argv(HealthCheck(("CMD", "a", "b c"))) == ("a", "b c")
    assert health.argv(HealthCheck(("CMD-SHELL", "a | b"))) == ("/bin/sh", "-c", "a | b")
    bash = HealthCheck(("CMD-SHELL", "a"), shell=("/bin/bash", "-euc"))
    assert health.argv(bash) == ("/bin/bash", "-euc", "a")


def test_a_thousand_probes_that_are_due_at_once_are_kept_apart():
    pace = health.Pace()
    pace.watched = 1000
    turns = [5.0 + pace.wait_s(5.0, 30) for _ in range(1000)]
    gaps = {round(b - a, 6) for a, b in itertools.pairwise(turns)}
    assert turns[0] == 5.0
    assert gaps == {health.GAP_S}
    assert pace.wait_s(5.0 + 100, 30) == 0


@given(st.integers(1, 5000), st.floats(0.001, 3600))
def test_keeping_apart_delays_nobody_by_more_than_half_of_its_interval(watched, interval_s):
    pace = health.Pace()
    pace.watched = watched
    waits = [pace.wait_s(0.0, interval_s) for _ in range(watched)]
    assert max(waits) <= interval_s / 2 or math.isclose(max(waits), interval_s / 2)
