"""How threads tell the event loop something: without waiting for it, on both backends.

A letter is a callable; it is called in the loop's thread, in the order in which letters came. The
bell is an eventfd, rung once for all letters that wait.
"""

from __future__ import annotations

import collections
import os
from collections.abc import Callable
from time import perf_counter

import anyio
import structlog

from supervisor.counts import LAG

log = structlog.get_logger()

Letter = Callable[[], object]


class Mailbox:
    """Letters from any thread to the event loop that runs `run`."""

    def __init__(self) -> None:
        """Make the bell. Raises OSError where there is no descriptor for it."""
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._letters: collections.deque[Letter] = collections.deque()
        self._rung = False
        self._rung_at = 0.0

    def post(self, letter: Letter) -> None:
        """Have `letter` called in the loop's thread soon. It never waits."""
        self._letters.append(letter)
        if not self._rung and self._bell >= 0:
            self._rung = True
            self._rung_at = perf_counter()
            os.eventfd_write(self._bell, 1)

    async def run(self) -> None:
        """Call what comes, until cancelled. A letter that fails is logged, the rest go on."""
        while True:
            await anyio.wait_readable(self._bell)
            os.eventfd_read(self._bell)
            LAG.note(perf_counter() - self._rung_at)
            # In this order: a letter that comes between the two is found by the loop below.
            self._rung = False
            while self._letters:
                try:
                    self._letters.popleft()()
                except Exception:
                    log.exception("mailbox.letter_failed")

    def close(self) -> None:
        """Close the bell; what is posted from now on is never called."""
        bell, self._bell = self._bell, -1
        if bell >= 0:
            os.close(bell)
