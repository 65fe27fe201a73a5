"""Live output to attached clients: exact bytes, from the moment of attaching on.

A client that reads slowly neither slows the container nor loses bytes: what it has not taken
yet waits in memory up to `IN_MEMORY` and beyond that in an unlinked file.
"""

from __future__ import annotations

import collections
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import anyio

IN_MEMORY = 1024 * 1024
"""Bytes that wait in memory for one client before the rest goes to its file."""

_CHUNK = 256 * 1024


class Spool:
    """A first-in first-out queue of (stream, bytes) that overflows to an unlinked file.

    Order is kept: once something waits in the file, all that is newer goes there too.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._memory: collections.deque[tuple[int, bytes]] = collections.deque()
        self._memory_size = 0
        self._file = -1
        self._lengths: collections.deque[tuple[int, int]] = collections.deque()
        self._read_at = 0
        self._write_at = 0

    def put(self, stream: int, data: bytes) -> None:
        """Append.

        Raises:
            OSError: The overflow file can't be made or grown.
        """
        if not self._lengths and self._memory_size + len(data) <= IN_MEMORY:
            self._memory.append((stream, data))
            self._memory_size += len(data)
            return
        if self._file < 0:
            self._file, path = tempfile.mkstemp(prefix="attach-", dir=self._directory)
            os.unlink(path)
        view = memoryview(data)
        while view:
            written = os.pwrite(self._file, view, self._write_at)
            self._write_at += written
            view = view[written:]
        self._lengths.append((stream, len(data)))

    def get(self) -> tuple[int, bytes] | None:
        """Take the oldest piece, or None where nothing waits."""
        if self._memory:
            stream, data = self._memory.popleft()
            self._memory_size -= len(data)
            return stream, data
        if not self._lengths:
            return None
        stream, length = self._lengths.popleft()
        take = min(length, _CHUNK)
        data = os.pread(self._file, take, self._read_at)
        self._read_at += len(data)
        if length > len(data):
            self._lengths.appendleft((stream, length - len(data)))
        if not self._lengths:
            os.ftruncate(self._file, 0)
            self._read_at = self._write_at = 0
        return stream, data

    def close(self) -> None:
        """Forget all that waits."""
        self._memory.clear()
        self._lengths.clear()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class Attachment:
    """One client's view of a container's output. Iterate it; `close` it when done.

    Attributes:
        lost: Why output was lost (the overflow file failed), empty if none was.
    """

    def __init__(self, directory: Path, streams: frozenset[int]) -> None:
        self._spool = Spool(directory)
        self._streams = streams
        self._news = anyio.Event()
        self._ended = False
        self.lost = ""

    def feed(self, stream: int, data: bytes) -> None:
        """Called by the pump with what the container wrote (1 stdout, 2 stderr)."""
        if self._ended or stream not in self._streams:
            return
        try:
            self._spool.put(stream, data)
        except OSError as error:
            self.lost = f"output was lost: {error.strerror}"
            self._ended = True
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

    async def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        while True:
            piece = self._spool.get()
            if piece is not None:
                yield piece
            elif self._ended:
                return
            else:
                self._news = anyio.Event()
                await self._news.wait()
