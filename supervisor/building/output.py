"""What a build tells its client, line for line as Docker's does."""

from __future__ import annotations

import codecs
from collections import deque
from typing import Any

from supervisor.progress import Progress

_KEPT = 200
"""Lines that a quiet build tells of when it fails."""


class Output:
    """The lines of one build."""

    def __init__(self, progress: Progress, *, quiet: bool = False) -> None:
        """Begin.

        Args:
            quiet: Nothing but the image's id, unless the build fails.
        """
        self._shown = progress
        self._quiet = quiet
        self._kept: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self.progress = Progress() if quiet else progress
        """Where pulls tell of themselves."""

    async def say(self, text: str) -> None:
        """Tell a piece of text, once the client has taken what there was before."""
        line = {"stream": text}
        if self._quiet:
            self._kept.append(line)
            return
        self._shown.line(line)
        await self._shown.taken()

    def made(self, image_id: str) -> None:
        """Tell programs the id of a stage's image."""
        self._shown.line({"aux": {"ID": image_id}})

    def result(self, image_id: str) -> None:
        """Tell a quiet client the id."""
        if self._quiet:
            self._shown.line({"stream": f"{image_id}\n"})

    def failed(self, words: str, exit_code: int) -> None:
        """Tell that a command has failed."""
        for line in self._kept:
            self._shown.line(line)
        self._shown.line({"errorDetail": {"code": exit_code, "message": words}, "error": words})


class CommandOutput:
    """Bytes that a command prints become text; what it says of errors is red, as in Docker."""

    def __init__(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {1: decoder("replace"), 2: decoder("replace")}

    def text(self, stream: int, data: bytes) -> str:
        """What there is to tell of a piece; letters that are cut are kept for the next."""
        return self._coloured(stream, self._decoders[stream].decode(data))

    def rest(self) -> str:
        """What is left at the end."""
        found = [self._coloured(n, one.decode(b"", True)) for n, one in self._decoders.items()]
        return "".join(found)

    @staticmethod
    def _coloured(stream: int, text: str) -> str:
        return f"\x1b[91m{text}\x1b[0m" if text and stream == 2 else text
