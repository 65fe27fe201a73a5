"""What a pull or a push tells, as a person sees it: layers as lines that are redrawn, or one
after the other where nobody looks.

A line of the engine's that has an id and numbers (or room for them) is about a layer; any other
one is a sentence, and is written once.
"""

from __future__ import annotations

import os
import time
from typing import Any, TextIO

from mdocker.messages import Json
from mdocker.units import human_size

_EVERY_S = 0.05
"""Between two drawings. The engine tells of each layer ten times a second at most."""

_WIDEST_BAR = 50
_NARROWEST_BAR = 10
_DONE = frozenset({"Pull complete", "Already exists", "Pushed", "Layer already exists"})


class Plain:
    """No terminal: each new state on a line of its own, without numbers."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._last: dict[str, str] = {}

    def take(self, news: Json) -> None:
        """Show a line of the engine's."""
        text, id = str(news.get("status") or ""), str(news.get("id") or "")
        if not text or news.get("progressDetail") or (id and self._last.get(id) == text):
            return
        self._last[id] = text
        self._out.write(f"{id}: {text}\n" if id else f"{text}\n")
        self._out.flush()

    def close(self) -> None:
        """Nothing is left to be drawn."""


class Layers:
    """A terminal: the lines of layers stay where they are and change."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._layers: dict[str, Json] = {}
        self._drawn = 0
        self._at = 0.0

    def take(self, news: Json) -> None:
        """Show a line of the engine's."""
        id = str(news.get("id") or "")
        if id and "progressDetail" in news:
            self._layers[id] = news
            if time.monotonic() - self._at >= _EVERY_S:
                self._draw(fitting=True)
        elif news.get("status"):
            self.close()
            self._out.write(f"{id}: {news['status']}\n" if id else f"{news['status']}\n")
            self._out.flush()

    def close(self) -> None:
        """Draw the last state of all, which stays."""
        if self._layers:
            self._draw(fitting=False)
        self._layers = {}
        self._drawn = 0

    def _draw(self, *, fitting: bool) -> None:
        width, height = _size(self._out)
        lines = [_line(id, news, width) for id, news in self._layers.items()]
        if fitting and len(lines) >= height:
            lines = self._busy(width, height)
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        self._out.write(up + "".join(f"\r{line}\x1b[K\n" for line in lines) + "\x1b[J")
        self._out.flush()
        self._drawn = len(lines)
        self._at = time.monotonic()

    def _busy(self, width: int, height: int) -> list[str]:
        """The lines of those that go on, as many as there is room for, and how many more."""
        room = max(height - 2, 1)
        order = sorted(self._layers, key=lambda id: _rank(self._layers[id]))[:room]
        shown = [_line(id, self._layers[id], width) for id in self._layers if id in order]
        return [*shown, f"… and {len(self._layers) - len(shown)} more"]


def _rank(news: dict[str, Any]) -> int:
    """0 for what moves, 1 for what waits, 2 for what has come to its end."""
    if news["status"] in _DONE:
        return 2
    return 0 if news["progressDetail"] else 1


def _size(out: TextIO) -> tuple[int, int]:
    try:
        size = os.get_terminal_size(out.fileno())
    except (OSError, ValueError):
        return 80, 24
    return size.columns or 80, size.lines or 24


def _line(id: str, news: dict[str, Any], width: int) -> str:
    begin = f"{id}: {news['status']} "
    detail = news["progressDetail"]
    current, total = int(detail.get("current") or 0), int(detail.get("total") or 0)
    if not current and not total:
        return begin.rstrip()[: width - 1]
    numbers = f"{human_size(current):>8}" + (f"/{human_size(total)}" if current <= total else "")
    room = min(width - 1 - len(begin) - len(numbers) - 4, _WIDEST_BAR)
    if not total or room < _NARROWEST_BAR:
        return (begin + numbers.strip())[: width - 1]
    done = min(current * room // total, room)
    return f"{begin}[{'=' * done}>{' ' * (room - done)}] {numbers}"
