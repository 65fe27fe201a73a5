"""The filters of the prunes: `label`, `label!` and `until`, for whatever has labels and an age."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

from supervisor.api import filters as filtering
from supervisor.api.filters import Filters
from supervisor.api.parameters import parse_moment, shown
from supervisor.errors import BadParameter

LABELS = frozenset({"label", "label!"})
LABELS_AND_TIME = LABELS | {"until"}

Fits: TypeAlias = Callable[[Mapping[str, str], int], bool]
"""Takes a thing's labels, and when it was made, in ns since the epoch."""

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9,
          "h": 3600 * 10**9}  # fmt: skip
_LOCAL = re.compile(r"(\d{4}-\d{2}-\d{2})(?:T(\d{2})(?::(\d{2})(?::(\d{2})(\.\d{1,9})?)?)?)?")


def fits(filters: Filters, now_ns: int) -> Fits:
    """Return the test for what a prune is about.

    Raises:
        BadParameter: `until` is no time.
    """
    wanted, unwanted = filters.get("label", []), filters.get("label!", [])
    until = _until(filters["until"], now_ns) if "until" in filters else None

    def chosen(labels: Mapping[str, str], created_ns: int) -> bool:
        return (
            filtering.labels_match(wanted, labels)
            and not (unwanted and filtering.labels_match(unwanted, labels))
            and (until is None or created_ns <= until)
        )

    return chosen


def _until(values: list[str], now_ns: int) -> int:
    """A moment, or how long ago ("24h", "1h30m"), as Go writes durations; in ns."""
    if len(values) > 1:
        raise BadParameter("more than one until filter specified")
    text = values[0]
    if _DURATION.sub("", text) == "" and text:
        ago = sum(float(n) * _UNITS[unit] for n, unit in _DURATION.findall(text))
        return now_ns - int(ago)
    local = _LOCAL.fullmatch(text)
    try:
        if local is not None:
            # As in Docker, a time without a zone is one of the engine's.
            day, hour, minute, second, fraction = local.groups("0")
            moment = datetime.datetime.fromisoformat(f"{day}T{hour:0>2}:{minute:0>2}:{second:0>2}")
            return int(moment.timestamp()) * 10**9 + int(fraction[1:].ljust(9, "0"))
        return parse_moment(text, "until filter") or 0
    except (BadParameter, ValueError, OverflowError, OSError):
        raise BadParameter(
            f"failed to parse value as time or duration: {shown(text)}: give a duration such as "
            "24h or 1h30m, a date, UNIX seconds or RFC 3339"
        ) from None
