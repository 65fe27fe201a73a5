"""Moments: as people type them for --since and --until, and as Docker prints them. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from mdocker.errors import FAILED, UsageError
from mdocker.units import parse_duration

_MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:T(\d\d:\d\d(?::\d\d)?)(?:[.,](\d{1,9})\d*)?)?(Z|[+-]\d\d:?\d\d)?",
    re.ASCII,
)
_UNIX = re.compile(r"(\d+)(?:\.(\d{1,9}))?", re.ASCII)


def parse_moment(text: str, option: str, now_ns: int) -> str:
    """Turn a moment into what the API takes: seconds since the epoch, with nine decimals.

    Args:
        text: RFC 3339 (`2026-01-02T15:04:05Z`; without a zone in local time), seconds since
            the epoch, or how long ago as a Go duration (`10m`).
        option: For the error.
        now_ns: The present, ns since the epoch.

    Raises:
        UsageError: It is none of these.
    """
    if match := _UNIX.fullmatch(text):
        return f"{match[1]}.{(match[2] or '').ljust(9, '0')}"
    if (ago := parse_duration(text)) is not None:
        return _spell(now_ns - ago)
    if match := _MOMENT.fullmatch(text):
        day, time, fraction, zone = match.groups()
        try:
            moment = datetime.fromisoformat(f"{day}T{time or '00:00'}{zone or ''}")
            seconds = int(moment.timestamp())
        except (ValueError, OverflowError):
            pass
        else:
            return _spell(seconds * 10**9 + int((fraction or "").ljust(9, "0")))
    raise UsageError(
        f'invalid argument "{text}" for "{option}": not a time such as 2026-01-02T15:04:05Z, '
        "1767366245 or 10m",
        FAILED,
    )


def _spell(ns: int) -> str:
    ns = max(ns, 0)
    return f"{ns // 10**9}.{ns % 10**9:09d}"


def from_rfc3339(text: str) -> int:
    """Return ns since the epoch of an API time; 0 for Go's zero time and for no time."""
    match = _MOMENT.fullmatch(text)
    if match is None or text.startswith("0001-"):
        return 0
    day, time, fraction, zone = match.groups()
    seconds = int(datetime.fromisoformat(f"{day}T{time or '00:00'}{zone or '+00:00'}").timestamp())
    return seconds * 10**9 + int((fraction or "").ljust(9, "0"))


def to_rfc3339_local(ns: int) -> str:
    """Print a moment in local time with ns, as `docker events` does."""
    moment = datetime.fromtimestamp(ns // 10**9).astimezone()
    zone = moment.strftime("%z")
    # As Go has it: an offset of nothing is Z, whatever the zone is called.
    offset = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ns % 10**9:09d}{offset}"


def to_go_string(seconds: int) -> str:
    """Print a moment as Go's time.String does (`2026-01-02 15:04:05 +0100 CET`)."""
    moment = datetime.fromtimestamp(seconds).astimezone()
    return f"{moment:%Y-%m-%d %H:%M:%S %z} {moment.tzname()}"


def to_ansic(text: str) -> str:
    """Print an API time as `docker version` does (`Fri Jan  2 15:04:05 2026`)."""
    ns = from_rfc3339(text)
    if not ns:
        return text
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=ns // 10**9)
    return f"{moment:%a %b} {moment.day:2d} {moment:%H:%M:%S %Y}"
