"""The restart policy's decisions: Docker's rules, and limits that no history can break."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.container import Life, RestartPolicy
from supervisor.restart_policy import (
    RESET_AFTER_NS,
    after_end,
    after_reboot,
    next_delay_ms,
    remaining_ns,
    spread_ns,
    still_wanted,
)

SECOND = 10**9
NAMES = ("no", "on-failure", "always", "unless-stopped")

policies = st.builds(
    lambda name, retries, first, more: RestartPolicy(
        name, retries if name == "on-failure" else 0, first, first + more
    ),
    st.sampled_from(NAMES),
    st.integers(0, 5),
    st.integers(1, 10_000),
    st.integers(0, 100_000),
)


@pytest.mark.parametrize(
    ("name", "code", "follows"),
    [
        *((name, code, True) for name in ("always", "unless-stopped") for code in (0, 1, 137)),
        *(("no", code, False) for code in (0, 1)),
        ("on-failure", 0, False),
        ("on-failure", 1, True),
        ("on-failure", 137, True),
    ],
)
def test_what_each_policy_says_of_an_exit_code(name, code, follows):
    attempt = after_end(RestartPolicy(name), Life(), code, SECOND, 0.5)
    assert (attempt is not None) == follows


@pytest.mark.parametrize("name", NAMES)
def test_a_stop_is_stronger_than_any_policy_and_than_the_wish_for_another_run(name):
    life = Life(stopped_by_request=True, restart_asked=True)
    assert after_end(RestartPolicy(name), life, 1, SECOND, 0.5) is None


def test_another_run_that_was_asked_for_follows_without_any_policy():
    attempt = after_end(RestartPolicy("no"), Life(restart_asked=True), 0, SECOND, 0.0)
    assert (attempt.count, attempt.delay_ms) == (1, 100)


def test_dockers_delays():
    """100 ms doubled up to a minute, and 100 ms again after ten seconds of running."""
    policy, delay, seen = RestartPolicy("always"), 0, []
    for _ in range(12):
        delay = next_delay_ms(policy, delay, SECOND)
        seen.append(delay)
    assert seen == [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000]
    assert next_delay_ms(policy, delay, RESET_AFTER_NS - 1) == 60000
    assert next_delay_ms(policy, delay, RESET_AFTER_NS) == 100


@given(policies, st.lists(st.tuples(st.integers(0, 255), st.integers(0, 20)), max_size=30))
def test_a_life_under_a_policy(policy, ends):
    """Whatever it does: counts go up by one, retries are bounded, delays keep in limits."""
    life = Life()
    for code, seconds in ends:
        attempt = after_end(policy, life, code, seconds * SECOND, 0.7)
        if attempt is None:
            assert policy.name in ("no", "on-failure")
            assert policy.name == "no" or code == 0 or life.restart_count == policy.max_retries > 0
            return
        assert policy.name != "no"
        assert attempt.count == life.restart_count + 1
        assert not policy.max_retries or attempt.count <= policy.max_retries
        assert policy.delay_ms <= attempt.delay_ms <= policy.max_delay_ms
        if seconds >= 10:
            assert attempt.delay_ms == policy.delay_ms
        elif life.restart_delay_ms:
            assert attempt.delay_ms == min(2 * life.restart_delay_ms, policy.max_delay_ms)
        life = Life(restart_count=attempt.count, restart_delay_ms=attempt.delay_ms, exit_code=code)
        assert still_wanted(policy, life)


@given(policies, st.integers(0, 20), st.floats(0, 1, exclude_max=True))
def test_the_spread_keeps_within_the_limits_and_near_the_delay(policy, doublings, chance):
    delay = min(policy.delay_ms << doublings, policy.max_delay_ms)
    wait = spread_ns(policy, delay, chance) / 1e6
    assert policy.delay_ms - 1e-6 <= wait <= policy.max_delay_ms
    assert 0.8 * delay - 1e-3 <= wait <= 1.25 * delay
    if delay * 1.25 <= policy.max_delay_ms:
        assert wait >= delay - 1e-6, "it never comes earlier than it was asked to"


def test_many_that_ended_at_once_do_not_come_back_at_once():
    policy = RestartPolicy("always")
    for delay in (100, 60_000):
        waits = {spread_ns(policy, delay, n / 100) for n in range(100)}
        assert len(waits) == 100
        assert max(waits) - min(waits) > 0.15 * delay * 10**6


def test_a_delay_that_is_asked_for_exactly_is_exact():
    policy = RestartPolicy("always", delay_ms=500, max_delay_ms=500)
    assert {spread_ns(policy, 500, n / 10) for n in range(10)} == {500 * 10**6}


@pytest.mark.parametrize(
    ("name", "stopped", "ended_with_it", "comes_back"),
    [
        ("always", False, True, True),
        ("always", True, False, True),
        ("unless-stopped", False, True, True),
        ("unless-stopped", False, False, True),
        ("unless-stopped", True, False, False),
        ("unless-stopped", True, True, False),
        ("on-failure", False, True, True),
        ("on-failure", False, False, False),
        ("on-failure", True, True, False),
        ("no", False, True, False),
        ("no", False, False, False),
    ],
)
def test_who_comes_back_after_a_reboot(name, stopped, ended_with_it, comes_back):
    life = Life(stopped_by_request=stopped)
    assert after_reboot(RestartPolicy(name), life, ended_with_it) == comes_back


@given(policies, st.integers(0, 2**62), st.integers(0, 2**62))
def test_what_is_left_of_a_delay_is_never_longer_than_the_longest(policy, at, now):
    left = remaining_ns(policy, at, now)
    assert 0 <= left <= policy.max_delay_ms * 10**6
    assert left == 0 or left <= at - now
