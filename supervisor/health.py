"""What the results of health checks mean, and when the next one is due. Pure.

    starting ──success──▶ healthy ──`retries` failures in a row──▶ unhealthy ──success──▶ healthy
        └────────────────`retries` failures in a row──────────────────▲

Failures within the start period don't count while the container is still `starting`; the first
success ends that. Docker's rules and defaults.
"""

from __future__ import annotations

import msgspec

from supervisor.container import Health, HealthCheck, Probe

STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"

DEFAULT_INTERVAL_NS = 30_000_000_000
DEFAULT_TIMEOUT_NS = 30_000_000_000
DEFAULT_START_INTERVAL_NS = 5_000_000_000
DEFAULT_RETRIES = 3

REMEMBERED = 5
"""Probes that are kept."""

NOT_RUN = -1
"""The exit code of a probe that was not run to its end."""

GAP_S = 0.01
"""Between the starts of two probes, where many are due at once."""


def interval_ns(check: HealthCheck, health: Health, since_start_ns: int) -> int:
    """From the end of a probe (or the start of the container) to the next."""
    if health.status == STARTING and since_start_ns < check.start_period:
        return check.start_interval or DEFAULT_START_INTERVAL_NS
    return check.interval or DEFAULT_INTERVAL_NS


def timeout_ns(check: HealthCheck) -> int:
    """How long a probe may take."""
    return check.timeout or DEFAULT_TIMEOUT_NS


def wait_ns(check: HealthCheck, health: Health, started_ns: int, now_ns: int) -> int:
    """How long to wait for the next probe; 0 if it is overdue, as after a supervisor's death.

    Args:
        started_ns: When the container was started.
    """
    last_ns = max(health.probes[-1].finished_ns if health.probes else 0, started_ns)
    interval = interval_ns(check, health, last_ns - started_ns)
    # A clock that was set back must not put off the next one for ever.
    return min(max(last_ns + interval - now_ns, 0), interval)


def after(check: HealthCheck, health: Health, probe: Probe, started_ns: int) -> Health:
    """What is known of a container once `probe` has ended."""
    probes = (*health.probes, probe)[-REMEMBERED:]
    if probe.exit_code == 0:
        return Health(HEALTHY, 0, probes)
    in_start_period = probe.started_ns - started_ns < check.start_period
    if health.status == STARTING and in_start_period:
        return msgspec.structs.replace(health, probes=probes)
    streak = health.failing_streak + 1
    status = UNHEALTHY if streak >= (check.retries or DEFAULT_RETRIES) else health.status
    return Health(status, streak, probes)


def afresh(check: HealthCheck | None, health: Health | None) -> Health | None:
    """What is known of a container that starts now: as in Docker, old probes stay to be read."""
    if check is None or not check.is_on:
        return None
    return Health(STARTING, 0, health.probes if health else ())


def argv(check: HealthCheck) -> tuple[str, ...]:
    """The words to execute."""
    kind, *words = check.test
    return (*check.shell, *words) if kind == "CMD-SHELL" else tuple(words)


class Pace:
    """Keeps the starts of probes a little apart, so that a thousand don't come at once.

    As the next probe is due an interval after the end of the last, they stay apart from then on.

    Attributes:
        watched: How many containers are probed.
    """

    def __init__(self) -> None:
        self.watched = 0
        self._next = 0.0

    def wait_s(self, now: float, interval_s: float) -> float:
        """Take a turn; returns how long to wait for it.

        Args:
            now: On any clock that never runs backwards, in seconds.
            interval_s: The prober's own: all together are spread over half of it at most.
        """
        at = max(now, self._next)
        self._next = at + min(GAP_S, interval_s / 2 / max(self.watched, 1))
        return at - now
