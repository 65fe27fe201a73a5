"""Sending to the shim: one message at a time, and waiting for one that is there."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable

import anyio

from runtime import shim_protocol as protocol
from supervisor.shim_process import ShimProcess

WAIT_LIMIT_S = 10.0
"""How long a start waits for a new shim; it is there within 100 ms or there is something wrong."""


class Sending:
    """The way to the shim."""

    def __init__(self, shim: ShimProcess) -> None:
        self._shim = shim
        self._lock = anyio.Lock(fast_acquire=True)
        self._forgotten: list[str] = []
        self._up = anyio.Event()

    @property
    def up(self) -> bool:
        """There is a shim, and it has got all that it is to hold."""
        return self._up.is_set()

    def is_up(self) -> None:
        """Let those go on who wait for a shim."""
        self._up.set()

    def is_down(self) -> None:
        """It has died. Whoever waits for the next one goes on waiting if that one dies too."""
        if self._up.is_set():
            self._up = anyio.Event()

    def forget_all(self) -> None:
        """Drop what was queued for a shim that is dead."""
        self._forgotten.clear()

    async def reachable(self) -> None:
        """Wait (bounded) until there is a shim.

        Raises:
            OSError: None comes up.
        """
        if self._up.is_set():
            return
        with anyio.move_on_after(WAIT_LIMIT_S):
            while not self._up.is_set():
                await self._up.wait()
        if not self._up.is_set():
            words = f"the shim does not come up: see {self._shim.log_path}"
            raise OSError(errno.ENOTCONN, words)

    async def send(self, message: protocol.Message) -> None:
        """Send a message.

        Raises:
            OSError: The shim is not there.
        """
        await self.send_made(lambda: message)

    async def send_made(self, make: Callable[[], protocol.Message | None]) -> None:
        """Send a message that is made at the moment when it can be sent; none is all right.

        Raises:
            OSError: The shim is not there.
        """
        async with self._lock:
            while True:
                connection = self._shim.connection
                if connection is None:
                    raise OSError(errno.ENOTCONN, "the shim is not there")
                try:
                    self._send_queued(connection)
                    message = make()
                    if message is not None:
                        protocol.send(connection, message)
                except BlockingIOError:
                    await anyio.wait_writable(connection)
                    continue
                except (BrokenPipeError, ConnectionResetError):
                    self.is_down()  # the reader has not seen it yet: nobody else shall ask
                    raise
                return

    def forget(self, container_id: str) -> None:
        """Send a Forget without waiting; what does not fit now goes before the next message."""
        self._forgotten.append(container_id)
        if self._shim.connection is None or self._lock.locked():
            return
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            self._send_queued(self._shim.connection)

    def _send_queued(self, connection: socket.socket) -> None:
        while self._forgotten:
            protocol.send(connection, protocol.Forget(self._forgotten[-1]))
            self._forgotten.pop()
