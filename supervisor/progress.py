"""What a client is told of a transfer while it goes on, as Docker's JSON lines.

Whoever works says what has become of a thing and never waits: what the client has not read yet is
replaced by what is newer, so a slow one costs a few lines for each layer and holds up nobody.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from typing import Any

import anyio
import msgspec

EVERY_S = 0.1
"""How often one thing's numbers are told at most."""

_BAR = 50
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_encode = msgspec.json.Encoder().encode


class Progress:
    """The lines for one client. To be used in the event loop.

    Attributes:
        begun: A line has been said, so an error can only be one more line.
    """

    def __init__(self) -> None:
        self.begun = False
        self._waiting: dict[object, dict[str, Any]] = {}
        self._told: dict[str, tuple[str, float]] = {}
        self._news = anyio.Event()
        self._taken = anyio.Event()
        self._closed = False

    def say(self, text: str, id: str = "") -> None:
        """Tell a sentence; `id` stands before it."""
        self.line({"status": text} | ({"id": id} if id else {}))

    def show(self, id: str, action: str, current: int = 0, total: int = 0) -> None:
        """Tell what is being done with one thing, and how far it is.

        Args:
            id: What the client knows it by: a layer's short digest.
            action: Docker's words, such as Downloading.
            current: Bytes; 0 together with `total` for something without a measure.
            total: Bytes; 0 where nobody knows.
        """
        before, at = self._told.get(id, ("", 0.0))
        now = time.monotonic()
        under_way = not total or current < total
        if action == before and under_way and now - at < EVERY_S:
            return
        self._told[id] = (action, now)
        told: dict[str, Any] = {"status": action, "progressDetail": {}}
        if current or total:
            detail = {"current": current} | ({"total": total} if total else {})
            told |= {"progressDetail": detail, "progress": bar(current, total)}
        self._put((id, action), told | ({"id": id} if id else {}))

    def aux(self, value: dict[str, Any]) -> None:
        """Tell a program something that people don't see."""
        self.line({"progressDetail": {}, "aux": value})

    def fail(self, text: str) -> None:
        """Tell that it went wrong, where lines are out already."""
        self.line({"errorDetail": {"message": text}, "error": text})

    def line(self, value: dict[str, Any]) -> None:
        """Tell a line as it is."""
        self._put(object(), value)

    async def taken(self) -> None:
        """Wait until the client has what was said: for who may have more to say than fits here."""
        while self._waiting:
            await self._taken.wait()

    def close(self) -> None:
        """There will be no more."""
        self._closed = True
        self._news.set()

    def _put(self, key: object, value: dict[str, Any]) -> None:
        self.begun = True
        self._waiting[key] = value
        self._news.set()
        if self._taken.is_set():
            self._taken = anyio.Event()

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """Yield what there is to tell, whole lines, until it is closed."""
        while True:
            while self._waiting:
                told, self._waiting = self._waiting, {}
                yield b"".join(_encode(line) + b"\r\n" for line in told.values())
            self._taken.set()
            if self._closed:
                return
            self._news = anyio.Event()
            await self._news.wait()


def bar(current: int, total: int) -> str:
    """Draw a bar with its numbers, as Docker does for clients that draw none."""
    if not total:
        return f"{human_size(current):>8}"
    done = min(100 * current // total // 2, _BAR)
    numbers = f"{human_size(current):>8}" + (f"/{human_size(total)}" if current <= total else "")
    return f"[{'=' * done}>{' ' * (_BAR - done)}] {numbers}"


def human_size(size: float) -> str:
    """Return a number of bytes in four digits and powers of 1000, such as 4.26MB."""
    power = 0
    while size >= 1000 and power < len(_UNITS) - 1:
        size, power = size / 1000, power + 1
    return f"{size:.4g}{_UNITS[power]}"
