"""Times as Docker's clients show and parse them."""

from __future__ import annotations

import time

NEVER = "0001-01-01T00:00:00Z"
"""Go's zero time, which clients take for "never"."""


def rfc3339_nano(ns: int) -> str:
    """Return a time (ns since the epoch) as Go prints it: UTC, the fraction without end zeros."""
    if ns <= 0:
        return NEVER
    seconds, fraction = divmod(ns, 10**9)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    if not fraction:
        return f"{whole}Z"
    return f"{whole}.{fraction:09d}".rstrip("0") + "Z"


def human(seconds: float) -> str:
    """Return a duration in the words of `docker ps`."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = whole // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    days = hours // 24
    if days < 14:
        return f"{days} days"
    if days < 60:
        return f"{days // 7} weeks"
    if days < 730:
        return f"{days // 30} months"
    return f"{days // 365} years"
