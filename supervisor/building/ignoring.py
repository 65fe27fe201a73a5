"""The lines of a .dockerignore, as expressions that a process in the context understands. Pure.

The last line that matches a path, or a directory above it, decides; one that begins with ! keeps.
`**` is any number of directories (https://docs.docker.com/build/concepts/context/).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence

from supervisor import path_patterns
from supervisor.errors import BadParameter

Rule = tuple[bool, str]
"""Whether it keeps what it matches, and its regular expression for the whole path."""


def rules(data: bytes) -> list[Rule]:
    """Read a file.

    Raises:
        BadParameter: A line is no pattern.
    """
    found = []
    text = data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    for line in text.splitlines():
        pattern = line.strip()
        if line.startswith("#") or not pattern:
            continue
        keeps = pattern.startswith("!")
        cleaned = posixpath.normpath("/" + pattern.removeprefix("!").strip()).lstrip("/")
        if not cleaned:
            continue
        try:
            found.append((keeps, _expression(cleaned)))
        except BadParameter as error:
            raise BadParameter(f".dockerignore: {line.strip()}: {error}") from None
    return found


def among(found: Sequence[Rule], names: Iterable[str]) -> list[Rule]:
    """Rules for those of some paths alone that are left out."""
    return [(False, re.escape(name)) for name in names if excludes(found, name)]


def excludes(found: Sequence[Rule], path: str) -> bool:
    """Whether a path is left out."""
    parts = path.split("/")
    paths = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
    out = False
    for keeps, expression in found:
        pattern = re.compile(expression, re.DOTALL)
        if any(pattern.fullmatch(one) for one in paths):
            out = not keeps
    return out


def _expression(pattern: str) -> str:
    found = ""
    *above, last = pattern.split("/")
    for part in above:
        found += "(?:.*/)?" if part == "**" else _part(part) + "/"
    return found + (".*" if last == "**" else _part(last))


def _part(part: str) -> str:
    return ".*".join(path_patterns.compiled(one).pattern for one in part.split("**"))
