"""What .dockerignore keeps out of a build's context. Pure.

The rules are Docker's (docs.docker.com, "Dockerignore files": Go's filepath.Match, and `**` for
any number of directories). The last line that matches a path decides; what matched a directory
holds for all that is in it, where it was this line that made a difference there. So `!src` behind
`src/tests` brings nothing back (moby/patternmatcher, MatchesUsingParentResults).

Beyond Docker's old builder, and as in BuildKit, what an exception names with a `**` is found below
directories that are left out, too.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from typing import NamedTuple

from mdocker.errors import CliError

_BOM = "\ufeff"


class BadPattern(CliError):
    """A line is no pattern; the text says which."""


class _Rule(NamedTuple):
    """One line.

    Attributes:
        exception: It began with `!`: what matches is kept after all.
        whole: What the path must be.
        parts: The same for each part of it that stands before a `**`.
        open: Whether there is a `**`, so that paths below `parts` may match at any depth.
    """

    exception: bool
    whole: re.Pattern[str] | _Walk
    parts: tuple[re.Pattern[str] | _Walk, ...]
    open: bool


class Rules:
    """All lines of a file."""

    def __init__(self, lines: Iterable[str], name: str = ".dockerignore") -> None:
        """Read them.

        Args:
            lines: With or without their ends.
            name: The file's, for words about a bad line.

        Raises:
            BadPattern: One of them can't be read.
        """
        self._rules: list[_Rule] = []
        self._above = ""
        self._held: frozenset[int] = frozenset()
        for number, line in enumerate(lines, 1):
            try:
                rule = _rule(line.removeprefix(_BOM) if number == 1 else line)
            except ValueError as error:
                raise BadPattern(
                    f"{name}, line {number}: {line.strip()!r}: syntax error in pattern: {error}"
                ) from None
            if rule is not None:
                self._rules.append(rule)

    def excludes(self, path: str) -> bool:
        """Whether a path of the context, such as `src/a.o`, is left out."""
        above = path.rpartition("/")[0]
        if above != self._above:
            # Files of a directory come one after the other: the last one is all that is kept.
            held: frozenset[int] = frozenset()
            for end in (at for at, letter in enumerate(f"{above}/") if letter == "/"):
                _, held = self._judge(above[:end], held)
            self._above, self._held = above, held
        return self._judge(path, self._held)[0]

    def _judge(self, path: str, held: frozenset[int]) -> tuple[bool, frozenset[int]]:
        """Whether a path is left out, and by which rules (their numbers).

        Args:
            path: It.
            held: The rules that hold for the directory above.
        """
        out = False
        holding = set()
        for number, rule in enumerate(self._rules):
            # A line that would change nothing is not looked at, and so does not hold below.
            if number in held or (rule.exception is out and rule.whole.fullmatch(path)):
                holding.add(number)
                out = not rule.exception
        return out, frozenset(holding)

    def may_keep_below(self, path: str) -> bool:
        """Whether something below a directory that is left out may be kept after all."""
        parts = path.split("/")
        return any(rule.exception and _may_match_below(rule, parts) for rule in self._rules)


def _may_match_below(rule: _Rule, parts: list[str]) -> bool:
    if len(rule.parts) <= len(parts) and not rule.open:
        return False
    return all(one.fullmatch(part) for one, part in zip(rule.parts, parts, strict=False))


def _rule(line: str) -> _Rule | None:
    """Read a line; None where it says nothing.

    Raises:
        ValueError: It is no pattern.
    """
    if line.startswith("#"):
        return None
    pattern = line.strip()
    exception = pattern.startswith("!")
    pattern = pattern.removeprefix("!").strip()
    if not pattern:
        if exception:
            raise ValueError("there is nothing behind the !")
        return None
    # Cleaned, and seen from the context, wherever it seems to begin.
    pattern = "/" + pattern.lstrip("/") if pattern.startswith("/") else pattern
    pattern = posixpath.normpath(pattern)
    if len(pattern) > 1:
        pattern = pattern.removeprefix("/")
    if pattern == ".":
        return None
    head, stars, _ = pattern.partition("**")
    # Of a**/b the a is no whole part.
    closed = head.rpartition("/")[0] if stars else pattern
    parts = tuple(_compiled(part) for part in closed.split("/") if part)
    return _Rule(exception, _compiled(pattern), parts, bool(stars))


def _compiled(pattern: str) -> re.Pattern[str] | _Walk:
    """The pattern, so that no name takes for ever; `re` tries all ways to share out the stars.

    Raises:
        ValueError: It is none.
    """
    pieces = _pieces(pattern)
    if sum(bool(piece.wild) for piece in pieces) > _MOST_STARS:
        return _Walk(pieces)
    return re.compile("".join(piece.expression for piece in pieces))


def _pieces(pattern: str) -> list[_Piece]:
    """The pattern as regular expressions of its pieces.

    Raises:
        ValueError: It is none.
    """
    # `**name` is, as in Docker, every path that ends so, also within a name.
    if pattern.startswith("**") and not pattern.startswith("**/") and not _SPECIAL(pattern, 2):
        return [_ALL, *(_Piece(re.escape(letter)) for letter in pattern[2:])]
    found = []
    index = 0
    while index < len(pattern):
        letter = pattern[index]
        index += 1
        if letter == "*" and pattern[index : index + 1] == "*":
            index += 2 if pattern[index + 1 : index + 2] == "/" else 1
            found.append(_DIRECTORIES if index < len(pattern) else _ALL)
        elif letter == "*":
            found.append(_STAR)
        elif letter == "?":
            found.append(_Piece("[^/]"))
        elif letter == "[":
            spelled, index = _letters(pattern, index)
            found.append(_Piece(spelled))
        elif letter == "\\":
            if index == len(pattern):
                raise ValueError("it ends in a \\")
            found.append(_Piece(re.escape(pattern[index])))
            index += 1
        else:
            found.append(_Piece(re.escape(letter)))
    return found


class _Piece(NamedTuple):
    """What stands for a letter or, if it is wild, for any number of them.

    Attributes:
        expression: It, as a regular expression.
        wild: One letter of those; empty for what is one letter.
        closed: A slash must follow them, unless there are none.
    """

    expression: str
    wild: str = ""
    closed: bool = False


_STAR = _Piece("[^/]*", "[^/]")
_ALL = _Piece(".*", ".")
_DIRECTORIES = _Piece("(?:.*/)?", ".", closed=True)

_MOST_STARS = 3


class _Walk:
    """A pattern with many stars: all ways at once, letter by letter."""

    def __init__(self, pieces: Iterable[_Piece]) -> None:
        # Of each step the letter that it needs; whether it may be taken again; and how many steps
        # further one stands without a letter.
        self._steps: list[tuple[re.Pattern[str] | None, bool, tuple[int, ...]]] = []
        for piece in pieces:
            if piece.closed:
                self._steps.append((None, False, (1, 3)))
            if piece.wild:
                self._steps.append((re.compile(piece.wild), True, (1,)))
            if piece.closed or not piece.wild:
                self._steps.append(
                    (re.compile("/" if piece.closed else piece.expression), False, ())
                )

    def fullmatch(self, name: str) -> bool:
        """Whether all of it matches."""
        at = self._reached({0})
        for letter in name:
            beyond = set()
            for number in at - {len(self._steps)}:
                needed, again, _ = self._steps[number]
                if needed is not None and needed.fullmatch(letter):
                    beyond.add(number if again else number + 1)
            at = self._reached(beyond)
        return len(self._steps) in at

    def _reached(self, numbers: set[int]) -> set[int]:
        """Where one stands as well, as what is wild may stand for nothing."""
        found = set(numbers)
        new = list(numbers)
        while new:
            number = new.pop()
            if number < len(self._steps):
                further = {number + by for by in self._steps[number][2]} - found
                found |= further
                new += further
        return found


_SPECIAL = re.compile(r"[*?\[\\]").search


def _letters(pattern: str, index: int) -> tuple[str, int]:
    """Read a set of letters behind its bracket; return its expression and where it ends."""
    negated = pattern[index : index + 1] == "^"
    index += negated
    ranges: list[str] = []
    while pattern[index : index + 1] != "]" or not ranges:
        low, index = _letter(pattern, index)
        high = low
        if pattern[index : index + 1] == "-":
            high, index = _letter(pattern, index + 1)
        if high < low:
            raise ValueError(f"{low}-{high} is no range")
        ranges.append(f"{re.escape(low)}-{re.escape(high)}")
    return f"[{'^' if negated else ''}{''.join(ranges)}]", index + 1


def _letter(pattern: str, index: int) -> tuple[str, int]:
    """Read one letter of a set."""
    letter = pattern[index : index + 1]
    if letter == "\\":
        index += 1
        letter = pattern[index : index + 1]
    elif letter in ("-", "]"):
        raise ValueError(f"{letter} in a set of letters must follow a \\")
    if not letter:
        raise ValueError("a [ is not closed")
    return letter, index + 1
