"""How threads tell the event loop something: without waiting for it, on both backends.

A letter is a callable; it is called in the loop's thread, in the order in which letters came. The
loop is woken once for all letters that wait.

anyio's own way from a thread (`from_thread.run_sync`) waits for the answer, and a descriptor that a
task waits for costs two turns of the loop, 0.1 ms of each followed line. So this goes to what both
loops have for it, and anyio names by its token.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable
from time import perf_counter

import anyio.lowlevel
import structlog

from supervisor.counts import LAG

log = structlog.get_logger()

Letter = Callable[[], object]


class Mailbox:
    """Letters from any thread to the event loop in which it was made."""

    def __init__(self) -> None:
        """Make it, in the event loop.

        Raises:
            RuntimeError: No loop of anyio's runs in this thread.
        """
        self._wake = _waker(anyio.lowlevel.current_token().native_token)
        self._letters: collections.deque[Letter] = collections.deque()
        self._rung = False
        self._rung_at = 0.0
        self._closed = False

    def post(self, letter: Letter) -> None:
        """Have `letter` called in the loop's thread soon. It never waits."""
        self._letters.append(letter)
        if not self._rung and not self._closed:
            self._rung = True
            self._rung_at = perf_counter()
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody is left to tell
                self._wake(self._empty)

    def close(self) -> None:
        """What is posted from now on is never called."""
        self._closed = True

    def _empty(self) -> None:
        LAG.note(perf_counter() - self._rung_at)
        # In this order: a letter that comes between the two is found by the loop below.
        self._rung = False
        while self._letters:
            try:
                self._letters.popleft()()
            except Exception:
                log.exception("mailbox.letter_failed")


def _waker(native: object) -> Callable[[Letter], object]:
    """How a thread has something called in a loop: asyncio's (uvloop's, too) or trio's."""
    for name in ("call_soon_threadsafe", "run_sync_soon"):
        wake: Callable[[Letter], object] | None = getattr(native, name, None)
        if wake is not None:
            return wake
    raise RuntimeError(f"no way into the loop of {native!r} is known")
