"""The keys that leave a container's terminal without ending what runs there.

They are looked for here as Docker's client does it, so that they work whatever the engine does; and
in the engine too, for clients that do not look.
"""

from __future__ import annotations

import json
import os

from mdocker.errors import FAILED, UsageError

DEFAULT = "ctrl-p,ctrl-q"

_CONTROLS = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def chosen(typed: str) -> str:
    """Return what was typed for --detach-keys, or what Docker's config.json says, or nothing.

    Raises:
        UsageError: The file, which is Docker's own, can't be understood.
    """
    if typed:
        return typed
    directory = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    path = os.path.join(directory, "config.json")
    try:
        with open(path, "rb") as file:
            found = json.load(file)
    except OSError:
        return ""  # there is none, or none for us
    except ValueError as error:
        raise UsageError(f"unable to read {path}: {error}", FAILED) from None
    keys = found.get("detachKeys", "") if isinstance(found, dict) else ""
    return keys if isinstance(keys, str) else ""


def parse(text: str) -> bytes:
    """Return the bytes of a list such as "ctrl-p,ctrl-q" or "ctrl-a,d"; "" is the default.

    Raises:
        UsageError: It names something that is no key.
    """
    return bytes(_key(word, text) for word in (text or DEFAULT).split(","))


def _key(word: str, text: str) -> int:
    if len(word) == 1 and word.isascii():
        return ord(word)
    if word == "DEL":
        return 127
    name = word.removeprefix("ctrl-")
    if name != word and len(name) == 1:
        if name in _CONTROLS:
            return _CONTROLS[name]
        if "a" <= name <= "z":
            return ord(name) - ord("a") + 1
    raise UsageError(
        f"invalid detach keys ({text}) provided: a list such as ctrl-p,ctrl-q, "
        "each a single character, DEL, or ctrl- with one of a-z @ [ \\ ] ^ _"
    )


class DetachKeys:
    """Watches what is typed, piece by piece.

    Attributes:
        pressed: All of them came, in order; nothing is passed on any more.
    """

    __slots__ = ("_begun", "_keys", "pressed")

    def __init__(self, keys: bytes) -> None:
        """Look for `keys`, one at least."""
        self._keys = keys
        self._begun = b""
        self.pressed = False

    def feed(self, data: bytes) -> bytes:
        """Return what is to be passed on; what may be the beginning of the keys waits."""
        if self.pressed:
            return b""
        typed = self._begun + data
        before, found, _ = typed.partition(self._keys)
        if found:
            self.pressed = True
            return before
        length = min(len(self._keys) - 1, len(typed))
        while length and not typed.endswith(self._keys[:length]):
            length -= 1
        at = len(typed) - length
        self._begun = typed[at:]
        return typed[:at]
