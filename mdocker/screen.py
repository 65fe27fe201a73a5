"""Where a list is shown that changes: in place on a terminal, state below state elsewhere."""

from __future__ import annotations

import os
import sys


class Pages:
    """No terminal: each state below the last, with an empty line between."""

    def __init__(self) -> None:
        self._last: str | None = None

    def __enter__(self) -> Pages:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def show(self, text: str) -> None:
        """Write a text out, unless it is the one that was there."""
        if text != self._last:
            sys.stdout.write(text if self._last is None else "\n" + text)
            sys.stdout.flush()
            self._last = text

    def resized(self) -> None:
        """Nothing to draw anew."""


class Screen:
    """A terminal's other screen, as editors use it: what was there is there again afterwards."""

    def __init__(self) -> None:
        self._text = ""

    def __enter__(self) -> Screen:
        # The other screen, no cursor, no wrapping of long lines.
        self._write("\x1b[?1049h\x1b[?25l\x1b[?7l")
        return self

    def __exit__(self, *_: object) -> None:
        self._write("\x1b[?7h\x1b[?25h\x1b[?1049l" + self._text)

    def show(self, text: str) -> None:
        """Show a text in place of the one that was there."""
        self._text = text
        self.resized()

    def resized(self) -> None:
        """Draw what is shown anew, cut to the size that the terminal has now."""
        try:
            height = os.get_terminal_size(1).lines or 24
        except OSError:
            height = 24
        lines = self._text.splitlines()
        if len(lines) > height:
            hidden = len(lines) - height + 1
            lines[height - 1 :] = [f"… and {hidden} more"]
        self._write("\x1b[H" + "\x1b[K\r\n".join(lines) + "\x1b[K\x1b[J")

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
