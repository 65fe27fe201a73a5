"""From the options of `run` and `create` to the request's Healthcheck. Pure."""

from __future__ import annotations

from typing import Any

from mdocker.container_options import ContainerOptions
from mdocker.errors import UsageError
from mdocker.units import parse_duration


def health_check(options: ContainerOptions) -> dict[str, Any]:
    """Return the Healthcheck that was asked for; empty where the image's is to be used.

    Raises:
        UsageError: A duration is none or negative, or the options contradict each other.
    """
    check: dict[str, Any] = {
        "Interval": _nanoseconds(options.health_interval, "--health-interval"),
        "Timeout": _nanoseconds(options.health_timeout, "--health-timeout"),
        "StartPeriod": _nanoseconds(options.health_start_period, "--health-start-period"),
        "StartInterval": _nanoseconds(options.health_start_interval, "--health-start-interval"),
        "Retries": options.health_retries,
        "OnFailure": options.health_on_failure,
    }
    if options.health_retries < 0:
        raise UsageError("--health-retries cannot be negative")
    if options.health_cmd:
        check["Test"] = ["CMD-SHELL", options.health_cmd]
    check = {name: value for name, value in check.items() if value}
    if not options.no_healthcheck:
        return check
    if check:
        raise UsageError("--no-healthcheck conflicts with --health-* options")
    return {"Test": ["NONE"]}


def _nanoseconds(text: str, option: str) -> int:
    if not text:
        return 0
    duration = parse_duration(text)
    if duration is None:
        raise UsageError(
            f'invalid argument "{text}" for "{option}": not a duration such as 30s or 1m30s'
        )
    if duration < 0:
        raise UsageError(f"{option} cannot be negative")
    return duration
