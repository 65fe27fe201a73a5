"""A running container's input: a pipe that many may write to, or its terminal."""

from __future__ import annotations

import os
from collections.abc import Callable

import anyio

from runtime import terminal


class Stdin:
    """Our end of it. Who writes waits until the container reads; one writes at a time.

    Attributes:
        fd: -1 once it is closed.
    """

    __slots__ = ("_let_go", "_lock", "fd")

    def __init__(self, fd: int, let_go: Callable[[], None]) -> None:
        """Take a non-blocking descriptor over.

        Args:
            let_go: Has others who hold duplicates drop them, before the end is to be seen.
        """
        self.fd = fd
        self._let_go = let_go
        self._lock = anyio.Lock()

    async def write(self, data: bytes) -> bool:
        """Pass all of it on; False where nobody will ever read it, as it was or is closed."""
        left = memoryview(data)
        async with self._lock:
            while left:
                if self.fd < 0:
                    return False
                try:
                    left = left[os.write(self.fd, left) :]
                except BlockingIOError:
                    try:
                        await anyio.wait_writable(self.fd)
                    except anyio.ClosedResourceError:
                        return False  # it has ended while we waited
                except OSError:
                    return False
        return True

    def end(self) -> None:
        """Let the container see the end of its input, for good."""
        if self.fd >= 0:
            self._let_go()
            self.close()

    def close(self) -> None:
        """Close our end; whoever waits to write is woken. A second time nothing happens."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            anyio.notify_closing(fd)
            os.close(fd)


async def receive_terminal(console: int) -> int:
    """The master of a terminal that a child sends to this socket, non-blocking; it stays there too.

    Raises:
        OSError: The child has ended without having made one.
    """
    while True:
        try:
            master = terminal.look(console)
        except BlockingIOError:
            await anyio.wait_readable(console)
        else:
            os.set_blocking(master, False)
            return master
