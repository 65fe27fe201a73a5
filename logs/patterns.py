"""Regular expressions of strangers, matched in a time that can't explode.

Python's own matcher tries one way after the other, so `(a+)+$` takes for ever on a text that nearly
fits, and nothing can interrupt it. This one follows all ways at once, as Go's does: the time grows
with the text and with the pattern, not beyond. As in Go there are no references back and no looks
around. Only what one place of the text may be (a letter, `.`, `\\d`, a class) is left to `re`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

MOST_STATES = 2000

_QUANTIFIER = re.compile(r"([*+?])|\{(\d{1,4})(?:(,)(\d{1,4})?)?\}")
_CLASS = re.compile(r"\[\^?\]?(?:[^\]\\]|\\.)*\]", re.DOTALL)
_SIGNS = re.compile(r"(?<!\\)[\[&~|]")
"""In a class they stand for themselves, and may mean more to `re` one day."""
_ESCAPE = re.compile(r"\\(?:x[0-9a-fA-F]{2}|[dDwWsStnrfv]|[^0-9A-Za-z])", re.DOTALL)
_GROUP = re.compile(r"\((?:\?:|\?P?<\w+>)?")
_ENDS = {"^": "begin", "$": "end", r"\A": "begin", r"\z": "end", r"\b": "edge", r"\B": "inside"}


class PatternError(ValueError):
    """No regular expression, or one that is not done."""


class _State(NamedTuple):
    """Where matching may be: it goes to `ways`, after a letter if there is a `letter` to fit."""

    letter: re.Pattern[str] | None
    place: str
    ways: tuple[int, ...]


Emit = Callable[[int], int]
"""Adds the states of a part of the pattern in front of a state; returns the first one."""


class Pattern:
    """A pattern, compiled.

    The text that it is to be found in may hold anything, and be as long as it likes.
    """

    def __init__(self, text: str) -> None:
        """Compile it. Raises PatternError."""
        self._states: list[_State] = [_State(None, "", ())]
        self._text = text
        self._at = 0
        self._flags = re.ASCII
        if text.startswith("(?i)"):
            self._at, self._flags = 4, re.ASCII | re.IGNORECASE
        try:
            whole = self._either()
            if self._at < len(text):
                raise PatternError(f"nothing opens the ) at {self._at}")
            self._first = whole(0)
        except RecursionError:
            raise PatternError("too many groups in groups") from None

    def found_in(self, text: str) -> bool:
        """Whether it fits anywhere in a text."""
        steps: dict[tuple[frozenset[int], str, str], frozenset[int] | None] = {}
        before = ""
        active = frozenset[int]()
        for at in range(len(text) + 1):
            after = text[at] if at < len(text) else ""
            step = (active, before, after)
            if step not in steps:
                steps[step] = self._step(*step)
            following = steps[step]
            if following is None:
                return True
            active, before = following, after
        return False

    def _step(self, active: frozenset[int], before: str, after: str) -> frozenset[int] | None:
        """The states behind the letter `after`; None where all of the pattern has been found."""
        reached = self._closure(active | {self._first}, before, after)
        if 0 in reached:
            return None
        return frozenset(self._states[one].ways[0] for one in reached if self._fits(one, after))

    def _fits(self, state: int, letter: str) -> bool:
        wanted = self._states[state].letter
        return wanted is not None and letter != "" and wanted.fullmatch(letter) is not None

    def _closure(self, states: frozenset[int], before: str, after: str) -> frozenset[int]:
        """All that is reached without a letter, between these two ("" for none)."""
        found: set[int] = set()
        left = list(states)
        while left:
            number = left.pop()
            if number in found:
                continue
            found.add(number)
            state = self._states[number]
            if state.letter is None and _holds(state.place, before, after):
                left += state.ways
        return frozenset(found)

    # ── from text to states ─────────────────────────────────────────────────────────────────

    def _add(self, *ways: int, letter: re.Pattern[str] | None = None, place: str = "") -> int:
        if len(self._states) >= MOST_STATES:
            raise PatternError("it is too long, or repeats too much")
        self._states.append(_State(letter, place, ways))
        return len(self._states) - 1

    def _either(self) -> Emit:
        ways = [self._row()]
        while self._text.startswith("|", self._at):
            self._at += 1
            ways.append(self._row())
        if len(ways) == 1:
            return ways[0]
        return lambda then: self._add(*[way(then) for way in ways])

    def _row(self) -> Emit:
        row: list[Emit] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            row.append(self._repeated(self._one()))

        def emit(then: int) -> int:
            for part in reversed(row):
                then = part(then)
            return then

        return emit

    def _repeated(self, one: Emit) -> Emit:
        found = _QUANTIFIER.match(self._text, self._at)
        if found is None:
            return one
        self._at = found.end()
        if self._text.startswith("?", self._at):
            self._at += 1  # which of several matches does not matter here
        if _QUANTIFIER.match(self._text, self._at):
            raise PatternError(f"two repeats in a row at {self._at}")
        sign, least, comma, most = found.groups()
        if sign:
            low, high = {"*": (0, -1), "+": (1, -1), "?": (0, 1)}[sign]
        else:
            low = int(least)
            high = low if not comma else int(most) if most else -1
        if 0 <= high < low:
            raise PatternError(f"{{{low},{high}}} is the wrong way round")

        def emit(then: int) -> int:
            first = then
            if high < 0:
                again = self._add(then)
                self._states[again] = self._states[again]._replace(ways=(one(again), then))
                first = again
            for _ in range(high - low):
                first = self._add(one(first), then)
            for _ in range(low):
                behind, first = first, one(first)
                if first == behind:
                    break  # it is empty, and stays so
            return first

        return emit

    def _one(self) -> Emit:
        text, at = self._text, self._at
        for sign, place in _ENDS.items():
            if text.startswith(sign, at):
                self._at += len(sign)
                return lambda then: self._add(then, place=place)
        if text[at] == "(":
            group = _GROUP.match(text, at)
            assert group is not None
            self._at = group.end()
            if text.startswith("?", self._at):
                raise PatternError(f"the group at {at} is of a kind that is not done")
            inner = self._either()
            if not text.startswith(")", self._at):
                raise PatternError(f"nothing closes the ( at {at}")
            self._at += 1
            return inner
        if text[at] in "*+?":
            raise PatternError(f"nothing to repeat at {at}")
        if text[at] == "[":
            piece = _CLASS.match(text, at)
        elif text[at] == "\\":
            piece = _ESCAPE.match(text, at)
        else:
            piece = re.compile(".", re.DOTALL).match(text, at)
        if piece is None:
            raise PatternError(f"{text[at : at + 8]!r} at {at} is not done, or has no end")
        self._at = piece.end()
        word = piece[0]
        if word[0] == "[":
            if "[:" in word or "--" in word:
                raise PatternError(f"the class {word[:32]} is of a kind that is not done")
            word = "[" + _SIGNS.sub(r"\\\g<0>", word[1:])
        elif word[0] not in "\\.":
            word = re.escape(word)
        try:
            letter = re.compile(word, self._flags)
        except re.error as error:
            raise PatternError(str(error)) from None
        return lambda then: self._add(then, letter=letter)


def _holds(place: str, before: str, after: str) -> bool:
    if place == "begin":
        return not before
    if place == "end":
        return not after
    if place:
        return (_in_word(before) != _in_word(after)) == (place == "edge")
    return True


def _in_word(letter: str) -> bool:
    return letter != "" and letter.isascii() and (letter.isalnum() or letter == "_")
