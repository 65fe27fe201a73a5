"""The lines of a .dockerignore, taken apart for who compares them with paths. Pure.

The last line that matches a path, or a directory above it, decides; one that begins with ! keeps.
`**` is any number of directories (https://docs.docker.com/build/concepts/context/).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence

from runtime.building.ignoring import Rules
from supervisor import path_patterns
from supervisor.errors import BadParameter

MOST_RULES = 10_000

_ANYTHING = "[^/]*"
_MOST_WITHIN = 4

Pattern = list[str | None]
Rule = tuple[bool, Pattern]


def rules(data: bytes) -> list[Rule]:
    """Read a file, for `runtime.building.ignoring.Rules`.

    Raises:
        BadParameter: A line is no pattern, or there are too many.
    """
    found: list[Rule] = []
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
            found += [(keeps, one) for one in _patterns(cleaned.split("/"))]
        except BadParameter as error:
            raise BadParameter(f".dockerignore: {line.strip()}: {error}") from None
        if len(found) > MOST_RULES:
            raise BadParameter(f".dockerignore: it has more than {MOST_RULES} lines")
    return found


def among(found: Sequence[Rule], names: Iterable[str]) -> list[Rule]:
    """Rules for those of some paths alone that are left out."""
    return [
        (False, [re.escape(part) for part in name.split("/")])
        for name in names
        if excludes(found, name)
    ]


def excludes(found: Sequence[Rule], path: str) -> bool:
    """Whether a path is left out."""
    compared = Rules(found)
    matched = compared.nothing_matched()
    parts = path.split("/")
    for end in range(1, len(parts) + 1):
        matched = compared.matched("/".join(parts[:end]), matched)
    return compared.excludes(matched)


def _patterns(parts: Sequence[str]) -> list[Pattern]:
    """What a line's parts mean; one that has ** within a name means two things."""
    within = [number for number, part in enumerate(parts) if "**" in part and part != "**"]
    if len(within) > _MOST_WITHIN:
        raise BadParameter(f"** within more than {_MOST_WITHIN} names")
    if within:
        number = within[0]
        before, _, behind = parts[number].partition("**")
        behind = behind.replace("**", "*")
        above, below = parts[:number], parts[number + 1 :]
        deep = [*([f"{before}*"] if before else []), "**", f"*{behind}"]
        return [
            *_patterns([*above, f"{before}*{behind}", *below]),
            *_patterns([*above, *deep, *below]),
        ]
    found: Pattern = [
        None if part == "**" else path_patterns.compiled(part).pattern for part in parts
    ]
    if found[-1] is None:
        found.append(_ANYTHING)  # all that is in it, but not itself
    return [found]
