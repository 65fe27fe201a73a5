"""How far a container's output has come to us, so that a death of the engine repeats nothing. Pure.

Our engine mixes *place frames* into the output when it is asked to (`places=1`): stream number 4,
a line of text. Its first answer carries such a place in the header `Mdocker-Resume`, too.

    1234.5.0    so far the log has 1234 bytes of whole records; 5 bytes of stdout and none of stderr
                that were sent are the beginning of a line which the log does not have yet
    -           no log can tell what was printed
    end         the output is complete: the connection ends, and not because the engine died

After a death we ask for what follows the last place that we know, and leave out as many bytes of
each stream as we have had since then.
"""

from __future__ import annotations

from mdocker.frames import PLACE, STDERR, STDOUT

UNKNOWN = "-"
END = "end"

Piece = tuple[int, memoryview]


class Place:
    """The last place we know, and what came behind it.

    Attributes:
        token: The place, as the engine spells it.
        ended: The engine has said that this was all.
    """

    __slots__ = ("_behind", "_skip", "_word", "ended", "token")

    def __init__(self, token: str) -> None:
        self.token = token
        self.ended = False
        self._word = b""
        self._behind = {STDOUT: 0, STDERR: 0}
        self._skip = {STDOUT: 0, STDERR: 0}

    def take(self, pieces: list[Piece]) -> list[Piece]:
        """Return what is new among the pieces that have come."""
        fresh: list[Piece] = []
        for stream, view in pieces:
            if stream == PLACE:
                self._word += bytes(view)
                if self._word.endswith(b"\n"):
                    self._arrive(self._word[:-1].decode("ascii", "replace"))
                    self._word = b""
                continue
            kind = STDERR if stream >= STDERR else STDOUT
            if skip := self._skip[kind]:
                self._skip[kind] = max(0, skip - len(view))
                view = view[skip:]
            if view:
                self._behind[kind] += len(view)
                fresh.append((stream, view))
        return fresh

    def cut(self) -> None:
        """The engine died: what follows begins at `token` again."""
        self._word = b""
        _, *held = self.token.split(".")
        for stream, before in zip((STDOUT, STDERR), (*held, "0", "0"), strict=False):
            self._skip[stream] = self._behind[stream] + (int(before) if before.isdigit() else 0)

    def skip_nothing(self) -> None:
        """What follows does not begin at `token`: show all of it."""
        self._skip = dict.fromkeys(self._skip, 0)
        self._behind = dict.fromkeys(self._behind, 0)

    def _arrive(self, word: str) -> None:
        if word == END:
            self.ended = True
            return
        self.token = word
        # Bytes that we still have to leave out, we have had already: they are behind this place.
        self._behind = dict(self._skip)
