"""What a command prints: read by one who wants it, else read and dropped.

It waits in the pipe until it is taken, so a slow reader slows the command and costs no memory.
"""

from __future__ import annotations

import math
import os
from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel

READ_BYTES = 64 * 1024
LONGEST_PIPE = 1024 * 1024
"""/proc/sys/fs/pipe-max-size: what an ended command may have left in a pipe."""

HELD_OPEN_S = 2.0
"""So long an output is waited for that others hold open after the command's end, as in Docker."""

Take = Callable[[bytes], Awaitable[None]]


class Patience:
    """How long outputs are waited for: until their end, or for a while behind the command's."""

    def __init__(self) -> None:
        self._until = math.inf
        self._scopes: set[anyio.CancelScope] = set()

    @property
    def is_over(self) -> bool:
        """Whether whatever comes now comes too late."""
        return anyio.current_time() > self._until

    def has_ended(self) -> None:
        """The command has ended: its time begins to run."""
        self._until = anyio.current_time() + HELD_OPEN_S
        for scope in self._scopes:
            scope.deadline = self._until

    async def readable(self, descriptor: int) -> bool:
        """Wait until there is something to read; False where the patience is at its end."""
        with anyio.CancelScope(deadline=self._until) as scope:
            self._scopes.add(scope)
            try:
                await anyio.wait_readable(descriptor)
            finally:
                self._scopes.discard(scope)
        return not scope.cancelled_caught


async def pass_on(descriptor: int, take: Take, patience: Patience) -> None:
    """Give all that comes to `take`, piece by piece, up to the end.

    What the command itself has written is given whole, however slow `take` is.
    """
    late = 0
    while True:
        try:
            piece = os.read(descriptor, READ_BYTES)
        except BlockingIOError:
            if not await patience.readable(descriptor):
                return
            continue
        except OSError:
            return  # EIO: nobody has the terminal open any more (pty(7))
        if not piece:
            return
        if patience.is_over:
            late += len(piece)
            if late > LONGEST_PIPE:
                return
        await take(piece)
        # Who always has more must not keep the others waiting.
        await anyio.lowlevel.checkpoint()


async def drop(descriptor: int) -> None:
    """Read up to the end: nobody wants it, and the command must not wait for that."""

    async def take(piece: bytes) -> None:
        """Let it go."""

    await pass_on(descriptor, take, Patience())
