"""What a .dockerignore leaves out of a context, once its lines are taken apart. Pure.

A pattern is a list of expressions, one for each part of a path; None is any number of parts. They
are compared part by part, so that no pattern takes long.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Rule = tuple[bool, list[str | None]]
    """Whether it keeps what it matches, and the pattern."""


class Rules:
    """The lines of a file; of all that match a path, or one above it, the last one decides."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = [
            (keeps, [None if part is None else re.compile(part, re.DOTALL) for part in parts])
            for keeps, parts in rules
        ]

    @property
    def keep_some(self) -> bool:
        """Whether something below what is left out may be kept."""
        return any(keeps for keeps, _ in self._rules)

    def nothing_matched(self) -> list[bool]:
        """What `matched` begins with at the top."""
        return [False] * len(self._rules)

    def matched(self, path: str, above: list[bool]) -> list[bool]:
        """Which of them match a path, or one above it.

        Args:
            above: Which match the directory that it is in.
        """
        names = path.split("/")
        return [
            before or _fits(pattern, names)
            for before, (_, pattern) in zip(above, self._rules, strict=True)
        ]

    def excludes(self, matched: list[bool]) -> bool:
        """Whether a path that these match is left out."""
        for (keeps, _), does in zip(reversed(self._rules), reversed(matched), strict=True):
            if does:
                return not keeps
        return False


def _fits(pattern: Sequence[re.Pattern[str] | None], names: Sequence[str]) -> bool:
    """Whether a path's names fit a pattern, all of it."""
    at = _skipped(pattern, {0})
    for name in names:
        after = set()
        for place in at:
            if place == len(pattern):
                continue
            part = pattern[place]
            if part is None:
                after.add(place)
            elif part.fullmatch(name):
                after.add(place + 1)
        at = _skipped(pattern, after)
    return len(pattern) in at


def _skipped(pattern: Sequence[object], places: set[int]) -> set[int]:
    """Places in a pattern, with those behind parts that stand for nothing."""
    found = set()
    for place in places:
        found.add(place)
        while place < len(pattern) and pattern[place] is None:
            place += 1
            found.add(place)
    return found
