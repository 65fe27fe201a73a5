"""--restart, --restart-delay and --restart-max-delay, as the API's RestartPolicy. Pure."""

from __future__ import annotations

import re
from typing import Any

from mdocker.errors import REFUSED, UsageError
from mdocker.units import parse_duration


def restart_policy(
    policy: str, delay: str = "", max_delay: str = "", *, code: int = REFUSED
) -> dict[str, Any]:
    """Return the RestartPolicy of a request; empty where nothing is asked.

    Args:
        policy: NAME or NAME:MAX, as Docker writes it; the engine knows which names there are.
        delay: A duration such as 500ms.
        max_delay: The same.
        code: The exit code of a mistake: `run` has another one than `update`.

    Raises:
        UsageError: What is typed can't be read (Docker's texts).
    """
    asked: dict[str, Any] = {}
    if policy:
        name, _, count = policy.partition(":")
        if not name:
            raise UsageError("invalid restart policy format: no policy provided before colon", code)
        asked["Name"] = name
        if count:
            if not re.fullmatch(r"[+-]?\d{1,18}", count, re.ASCII):
                raise UsageError(
                    "invalid restart policy format: maximum retry count must be an integer", code
                )
            asked["MaximumRetryCount"] = int(count)
    for key, text, option in (
        ("DelayMs", delay, "--restart-delay"),
        ("MaxDelayMs", max_delay, "--restart-max-delay"),
    ):
        if text:
            asked[key] = _milliseconds(text, option, code)
    return asked


def _milliseconds(text: str, option: str, code: int) -> int:
    duration = parse_duration(text)
    if duration is None or duration < 10**6:
        raise UsageError(
            f'invalid argument "{text}" for "{option}": not a duration such as 500ms or 1m30s '
            "(1ms at least)",
            code,
        )
    return duration // 10**6
