"""Patterns of names as Go's path.Match has them, in which a star does not go across a slash.

    *   any letters but slashes      [a-z]   one of these
    ?   any letter but a slash       [^a-z]  one, but none of these
    \\x  the letter x, whatever it means elsewhere

Source: https://pkg.go.dev/path#Match
"""

from __future__ import annotations

import functools
import re

from supervisor.errors import BadParameter

LONGEST = 1024
_BAD = "syntax error in pattern"


@functools.lru_cache(maxsize=256)
def compiled(pattern: str) -> re.Pattern[str]:
    """Return what `fullmatch` is asked of.

    What stands between two stars is looked for once, from the left, and never again further on
    (atomic groups): a star takes whatever comes then, so no pattern takes long.

    Raises:
        BadParameter: It is no pattern; Docker's text.
    """
    if len(pattern) > LONGEST:
        raise BadParameter(f"a pattern of more than {LONGEST} letters")
    chunks = [""]
    at = 0
    while at < len(pattern):
        letter = pattern[at]
        at += 1
        if letter == "*":
            chunks.append("")
        elif letter == "?":
            chunks[-1] += "[^/]"
        elif letter == "[":
            words, at = _class(pattern, at)
            chunks[-1] += words
        else:
            if letter == "\\":
                letter, at = _escaped(pattern, at)
            chunks[-1] += re.escape(letter)
    first, *others = chunks
    middle = "".join(f"(?>[^/]*?{chunk})" for chunk in others[:-1])
    last = f"[^/]*{others[-1]}" if others else ""
    return re.compile(first + middle + last, re.DOTALL)


def _class(pattern: str, at: int) -> tuple[str, int]:
    """What stands behind a bracket, and where it ends."""
    none = pattern.startswith("^", at)
    at += none
    ranges = ""
    while not (ranges and pattern.startswith("]", at)):
        low, at = _member(pattern, at)
        high = low
        if pattern.startswith("-", at):
            high, at = _member(pattern, at + 1)
        # One that runs backwards is allowed, and has nothing in it.
        ranges += f"{re.escape(low)}-{re.escape(high)}" if low <= high else "\x00-\x00"
    return f"[{'^' if none else ''}{ranges}]", at + 1


def _member(pattern: str, at: int) -> tuple[str, int]:
    letter = pattern[at : at + 1]
    if letter in ("", "-", "]"):
        raise BadParameter(_BAD)
    return _escaped(pattern, at + 1) if letter == "\\" else (letter, at + 1)


def _escaped(pattern: str, at: int) -> tuple[str, int]:
    if at >= len(pattern):
        raise BadParameter(_BAD)
    return pattern[at], at + 1
