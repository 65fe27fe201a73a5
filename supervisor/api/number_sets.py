"""Sets of CPUs and of memory nodes, as "0-2,5" writes them (cpuset(7), "List format"). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from supervisor.errors import BadParameter

_PART = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")

_HIGHEST = 8192
"""Linux can't be built for more CPUs (CONFIG_NR_CPUS)."""


def numbers(text: str) -> frozenset[int] | None:
    """Return the numbers that a list means; None where it is no list."""
    found: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            return None
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last <= _HIGHEST:
            return None
        found.update(range(first, last + 1))
    return frozenset(found)


def written(found: Iterable[int]) -> str:
    """Return the shortest list that means these numbers."""
    runs: list[tuple[int, int]] = []
    for number in sorted(found):
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def checked_set(text: str, available: frozenset[int], option: str, noun: str) -> str:
    """Return a list that was asked for, if this machine has all of it.

    Args:
        option: Docker's name of the option, and `noun` of what is listed, for the texts.

    Raises:
        BadParameter: It is no list, or names what is not there (Docker's texts).
    """
    if not text:
        return ""
    asked = numbers(text)
    if asked is None:
        raise BadParameter(
            f"Invalid value {text[:64]} for {option}: invalid format: {text[:64]}; "
            "give a list such as 0-2,5"
        )
    if not asked <= available:
        raise BadParameter(
            f"Requested {noun} are not available - requested {text[:64]}, "
            f"available: {written(available)}"
        )
    return text
