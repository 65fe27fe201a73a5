"""The keys by which somebody at a terminal leaves it without ending what runs there. Pure.

As in Docker they are looked for in the engine, not in the client, and only with a terminal: the
bytes of a piped input are nobody's keys.
"""

from __future__ import annotations

from supervisor.errors import BadParameter

DEFAULT = "ctrl-p,ctrl-q"

_CONTROLS = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


def parse(text: str) -> bytes:
    """The bytes of a list such as "ctrl-p,ctrl-q" or "ctrl-a,d"; "" is the default.

    Raises:
        BadParameter: It names something that is no key.
    """
    found = bytearray()
    for word in (text or DEFAULT).split(","):
        found.append(_key(word, text))
    return bytes(found)


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
    raise BadParameter(
        f"invalid detach keys ({text}) provided: a list such as ctrl-p,ctrl-q, "
        "each a single character, DEL, or ctrl- with one of a-z @ [ \\ ] ^ _"
    )


class EscapeKeys:
    """Watches what is typed, piece by piece.

    Attributes:
        detached: The keys were pressed, all and in order; nothing is passed on any more.
    """

    __slots__ = ("_keys", "_matched", "detached")

    def __init__(self, keys: bytes) -> None:
        """Look for `keys`, one at least."""
        self._keys = keys
        self._matched = 0
        self.detached = False

    def feed(self, data: bytes) -> bytes:
        """What is to be passed on of what was typed; the beginning of the keys waits."""
        if self.detached:
            return b""
        typed = self._keys[: self._matched] + data
        # Where the first key is not in it, which is nearly always, there is nothing to look for.
        if self._keys[0] not in typed:
            self._matched = 0
            return typed
        at = typed.find(self._keys)
        if at >= 0:
            self.detached = True
            return typed[:at]
        self._matched = next(
            length
            for length in range(min(len(self._keys) - 1, len(typed)), -1, -1)
            if typed.endswith(self._keys[:length])
        )
        return typed[: len(typed) - self._matched]
