"""Live output to attached clients: exact bytes, from the moment of attaching on.

A client that reads slowly neither slows the container nor loses bytes: what it has not taken
yet waits in memory up to `IN_MEMORY` and beyond that in an unlinked file. One thread puts (the
pump's, so that a disk which hangs does not hold the event loop), another gets.
"""

from __future__ import annotations

import collections
import errno
import os
import tempfile
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import anyio

IN_MEMORY = 1024 * 1024
"""Bytes that wait in memory for one client before the rest goes to its file."""

LEFT_FREE = 1024 * 1024 * 1024
LEFT_FREE_PART = 0.05
"""Bytes of a file system, or this part of a small one, that what waits must leave to all others."""

LOOK_EACH = 16 * 1024 * 1024
"""Bytes that a file grows by before it is looked at again how much is free."""

PLACE = 4
"""The number of the stream in which clients are told places; Docker's are 0 to 3."""

_CHUNK = 256 * 1024


class _Overflow:
    """An unlinked file, closed when the last who uses it lets go of it."""

    __slots__ = ("fd",)

    def __init__(self, directory: Path) -> None:
        self.fd, path = tempfile.mkstemp(prefix="attach-", dir=directory)
        os.unlink(path)

    def __del__(self) -> None:
        os.close(self.fd)


class _Piece:
    """What waits in the file of one `put`."""

    __slots__ = ("length", "stream")

    def __init__(self, stream: int, length: int) -> None:
        self.stream = stream
        self.length = length


class Spool:
    """A first-in first-out queue of (stream, bytes) that overflows to an unlinked file.

    Order is kept: once something waits in the file, all that is newer goes there too. One thread
    may put while another gets; neither waits for the other.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._memory: collections.deque[tuple[int, bytes]] = collections.deque()
        self._put_size = 0
        self._got_size = 0
        self._file: _Overflow | None = None
        self._pieces: collections.deque[_Piece] = collections.deque()
        self._read_at = 0
        self._write_at = 0
        self._looked_at = 0
        self._closed = False

    def put(self, stream: int, data: bytes) -> None:
        """Append.

        Raises:
            OSError: The overflow file can't be made or grown: ENOSPC also where others would soon
                have no room.
        """
        if self._closed:
            return
        if not self._pieces:
            if self._put_size - self._got_size + len(data) <= IN_MEMORY:
                self._put_size += len(data)
                self._memory.append((stream, data))
                return
            if self._file is not None and self._write_at:
                # All of it was taken, so nobody reads there now.
                os.ftruncate(self._file.fd, 0)
                self._read_at = self._write_at = self._looked_at = 0
        file = self._file
        if file is None:
            file = self._file = _Overflow(self._directory)
        if self._write_at >= self._looked_at:
            self._looked_at = self._write_at + LOOK_EACH
            _check_room(file.fd)
        view = memoryview(data)
        while view:
            written = os.pwrite(file.fd, view, self._write_at)
            self._write_at += written
            view = view[written:]
        self._pieces.append(_Piece(stream, len(data)))

    def get(self) -> tuple[int, bytes] | None:
        """Take the oldest piece, or None where nothing waits."""
        if self._memory:
            stream, data = self._memory.popleft()
            self._got_size += len(data)
            return stream, data
        file = self._file
        if not self._pieces or file is None:
            return None
        piece = self._pieces[0]
        data = os.pread(file.fd, min(piece.length, _CHUNK), self._read_at)
        self._read_at += len(data)
        piece.length -= len(data)
        if not piece.length:
            # Last of all: as long as it is there, `put` leaves the file as it is.
            self._pieces.popleft()
        return piece.stream, data

    def cut(self) -> None:
        """Forget what waits in the file, and all that comes. Nobody must be putting."""
        self._closed = True
        self._pieces.clear()
        self._file = None

    def close(self) -> None:
        """Forget all that waits, and all that comes."""
        self._memory.clear()
        self.cut()


def _check_room(fd: int) -> None:
    """Somebody who never reads must not fill the disk of those who do.

    Raises:
        OSError: Too little of the file system is free: ENOSPC.
    """
    room = os.fstatvfs(fd)
    if room.f_bavail * room.f_frsize < min(
        LEFT_FREE, room.f_blocks * room.f_frsize * LEFT_FREE_PART
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Attachment:
    """One client's view of a container's output. Iterate it; `close` it when done.

    Attributes:
        begun: Set once what is attached to runs, and can be written to.
        lost: Why output was lost (the overflow file failed), empty if none was.
    """

    def __init__(
        self,
        directory: Path,
        streams: frozenset[int],
        deliver: Callable[[Callable[[], object]], object] | None = None,
        place: Callable[[], bytes | None] | None = None,
    ) -> None:
        """Begin with nothing.

        Args:
            deliver: Calls something in the event loop's thread, soon, for a pump that is another
                thread; None where `feed` is called in the loop's.
            place: Tells the place behind the batch that is being fed: a piece of stream `PLACE`.
        """
        self._spool = Spool(directory)
        self._streams = streams
        self._news = anyio.Event()
        self._deliver = deliver
        self._place = place
        self._telling = False
        self._ended = False
        self.begun = anyio.Event()
        self.lost = ""

    def feed(self, stream: int, data: bytes) -> None:
        """Called by the pump with what the container wrote (1 stdout, 2 stderr)."""
        if self._ended or stream not in self._streams:
            return
        try:
            self._spool.put(stream, data)
            if self._place is not None and (word := self._place()) is not None:
                self._spool.put(PLACE, word + b"\n")
        except OSError as error:
            self.lost = f"output was lost: {error.strerror}"
            self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._deliver is None:
            self._tell()
        elif not self._telling:
            self._telling = True
            self._deliver(self._tell)

    def _tell(self) -> None:
        self._telling = False  # first: what comes while we tell is told again
        if self.lost:
            # It is of no use without what follows, and its client may never take it.
            self._spool.cut()
        self._news.set()

    def end(self) -> None:
        """The container has ended and all its output was fed."""
        self._ended = True
        self._news.set()

    def close(self) -> None:
        """The client is gone."""
        self._ended = True
        self._spool.close()
        self._news.set()

    async def __aiter__(self) -> AsyncGenerator[tuple[int, bytes], None]:
        while True:
            # Made before we look: what is fed in between sets it.
            news = self._news = anyio.Event()
            piece = self._spool.get()
            if piece is not None:
                yield piece
            elif self._ended:
                return
            else:
                await news.wait()
