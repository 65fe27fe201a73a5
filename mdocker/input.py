"""Our stdin on its way to what runs in a container: byte for byte, one piece at a time.

Nothing is read before the last piece is on its way, so what the container does not take stays where
it comes from; and what was read waits for the next engine if one dies.
"""

from __future__ import annotations

import os
import socket

from mdocker.detach_keys import DetachKeys

_PIECE = 64 * 1024


class Input:
    """What is typed or piped into us.

    Attributes:
        descriptor: Where it comes from.
    """

    def __init__(self, descriptor: int = 0, keys: DetachKeys | None = None) -> None:
        """Begin with nothing read.

        Args:
            descriptor: Where it comes from; stays the caller's.
            keys: Those that leave, where it is a terminal's; its beginning may wait there.
        """
        self.descriptor = descriptor
        self._keys = keys
        self._waiting = memoryview(b"")
        self._over = False
        self._told = False
        self._refused = False
        self._passed = False

    @property
    def detached(self) -> bool:
        """Whether the detach keys were pressed."""
        return self._keys is not None and self._keys.pressed

    @property
    def wants_more(self) -> bool:
        """Whether `read` is the next thing to do, once the descriptor is readable."""
        return not (self._over or self._waiting or self._refused)

    @property
    def is_waiting(self) -> bool:
        """Whether `send` is the next thing to do, once the connection is writable."""
        return bool(self._waiting) and not self._refused

    @property
    def is_done(self) -> bool:
        """Whether all of it is with the engine, or never will be."""
        return self._refused or self._told

    @property
    def may_be_cut(self) -> bool:
        """Whether an engine that dies now may take some of it along, and that is worth a word.

        At a terminal it would be a key of that very moment, and who typed it sees that.
        """
        return self._passed and self._keys is None

    def read(self) -> None:
        """Take what has come; call it once the descriptor is readable."""
        try:
            data = os.read(self.descriptor, _PIECE)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # a terminal that was hung up: EIO
        self._over = not data
        if self._keys is not None:
            data = self._keys.feed(data)
        self._waiting = memoryview(data)

    def send(self, connection: socket.socket) -> None:
        """Pass on what the connection takes without a wait, and at last that there is no more."""
        while self.is_waiting:
            try:
                sent = connection.send(self._waiting, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError:
                # Whether it has ended or its engine died, the output will tell.
                self._refused = True
                return
            self._waiting = self._waiting[sent:]
            self._passed = True
        if self._over and not self._told and not self._refused:
            self._told = True
            try:
                connection.shutdown(socket.SHUT_WR)
            except OSError:
                self._refused = True

    def move(self, connection: socket.socket) -> None:
        """Go on over another connection, to the next engine."""
        self._refused = self._told = self._passed = False
        self.send(connection)
