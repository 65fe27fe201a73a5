"""Following a log that is being written.

The writer wakes its followers: nothing polls, and no file is watched. A writer that is another
thread than its followers' calls them by `ContainerLog.deliver`.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Collection

import anyio
import anyio.lowlevel
import anyio.to_thread

from logs.container_log import ContainerLog, LogFile
from logs.framing import Stream
from logs.reader import LogNotReadable, LogReader, start_offset
from logs.selection import BOTH, Selection

_BLOCK = 1 << 18


class Follower(AsyncIterator[bytes]):
    """The chunks of one follower. It holds the log's file open, and nothing else.

    It subscribes only while it waits, so a follower that is dropped half-way leaves nothing behind.
    It reads from the file, so one that is slow costs the writer nothing and needs no buffer.
    """

    __slots__ = ("_deadline_ns", "_file", "_log", "_reader", "_truncations")

    def __init__(self, log: ContainerLog, selection: Selection, tail: int | None) -> None:
        if log.file is None:
            raise LogNotReadable("configured logging driver does not support reading")
        self._log = log
        self._file = LogFile.for_reading(log.path)
        self._deadline_ns = selection.until_ns
        self._truncations = log.truncations
        start = start_offset(log.driver, self._file.fd, log.size, tail, selection.since_ns)
        self._reader = LogReader(log.driver, self._file.fd, selection, start)

    @property
    def skipped(self) -> int:
        """Lines so far that were no records."""
        return self._reader.skipped

    def __aiter__(self) -> Follower:
        return self

    async def __anext__(self) -> bytes:
        """The next chunk: whole records, whole frames, never empty."""
        log, reader = self._log, self._reader
        while True:
            await anyio.lowlevel.checkpoint_if_cancelled()
            if self._truncations != log.truncations:
                # Somebody has cut the file: what is in it now is new.
                self._truncations = log.truncations
                reader.offset = 0
            behind = log.size - reader.offset
            if reader.finished:
                raise StopAsyncIteration
            if behind > 0:
                chunk = await self._step(behind)
                if chunk:
                    return chunk
            elif log.closed or not await self._wait():
                raise StopAsyncIteration

    async def _step(self, behind: int) -> bytes:
        end = self._log.size
        if behind <= _BLOCK:
            return self._reader.step(end, _BLOCK)
        # History can be cold: the disk is waited for elsewhere.
        size, offset = self._reader.wanted(end, _BLOCK), self._reader.offset
        block = await anyio.to_thread.run_sync(os.pread, self._file.fd, size, offset)
        return self._reader.take(block, end)

    async def _wait(self) -> bool:
        """Wait for a write or the end of the log; False once the time of `until` has passed."""
        log, reader = self._log, self._reader
        seconds = float("inf")
        if self._deadline_ns:
            seconds = (self._deadline_ns - time.time_ns()) / 1e9
            if seconds < 0:
                return False
        written = anyio.Event()
        unsubscribe = log.subscribe(written.set)
        try:
            if log.size > reader.offset or log.closed or log.truncations != self._truncations:
                return True
            with anyio.move_on_after(seconds):
                await written.wait()
            return True
        finally:
            unsubscribe()


def follow(
    log: ContainerLog,
    *,
    streams: Collection[Stream] = BOTH,
    tail: int | None = None,
    since_ns: int | None = None,
    until_ns: int | None = None,
    timestamps: bool = False,
    framed: bool = False,
) -> Follower:
    """Show what is in a log and then what is written to it, until it is closed and all was shown.

    The place to begin is fixed by this call, so nothing that is written after it can be missed. The
    options are those of `logs.reader.read`; with `until_ns` it also ends when that time has come.

    Raises:
        LogNotReadable: the driver keeps no log.
        OSError: the file can't be read.
    """
    selection = Selection(streams, since_ns or 0, until_ns or 0, timestamps, framed)
    return Follower(log, selection, tail)
