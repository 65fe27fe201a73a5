"""Following a log that is being written.

The writer wakes its followers: nothing polls, and no file is watched. A writer that is another
thread than its followers' calls them by `ContainerLog.deliver`. That costs a sleeping thread's
wake-up, most of the time from a line's write to its reader, so a follower that waits may have a
small piece sent on by the writer's thread itself (`Follower.push_to`).

A rotation leaves a follower where it is: it reads its file to the end, by its descriptor, and then
goes on in the file that followed that one, and so on to the newest. What becomes of the files'
names meanwhile, even with max-file=1, is nothing to it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Collection

import anyio
import anyio.lowlevel
import anyio.to_thread

from logs.container_log import ContainerLog
from logs.framing import Stream, frame
from logs.history import Part, parts_of
from logs.log_file import LogFile
from logs.reader import LogNotReadable, begin_at
from logs.selection import BOTH, Selection
from logs.spots import Spot

_BLOCK = 1 << 18

PUSHED_BYTES = 1 << 14
"""More than this is not for the writer's thread to read: it has other containers to serve."""


class Follower(AsyncIterator[bytes]):
    """The chunks of one follower. It holds the log's files open that it has yet to read.

    It subscribes only while it waits, so a follower that is dropped half-way leaves nothing behind.
    It reads from the files, so one that is slow costs the writer nothing and needs no buffer; what
    it holds of rotated files is bounded (`logs.waiting_files`), and what it misses by that is told.

    Attributes:
        missed: The place to begin at is gone; it began with what is left.
    """

    __slots__ = (
        "_deadline_ns",
        "_idle",
        "_kept",
        "_lock",
        "_log",
        "_parts",
        "_push",
        "_reader",
        "_selection",
        "_truncations",
        "missed",
    )

    def __init__(
        self,
        log: ContainerLog,
        selection: Selection,
        tail: int | None,
        begin: Spot | None = None,
    ) -> None:
        if not log.readable:
            raise LogNotReadable("configured logging driver does not support reading")
        self._log = log
        self._selection = selection
        self._deadline_ns = selection.until_ns
        parts = parts_of(log.path, log)
        self._reader, self.missed = begin_at(parts, log.driver, selection, tail, begin)
        self._parts = parts
        self._truncations = self._newest_truncations()
        self._push: Callable[[bytes], bool] | None = None
        self._lock = threading.Lock()
        self._idle = False
        self._kept = False

    def push_to(self, push: Callable[[bytes], bool]) -> None:
        """Give chunks to `push` while the iteration waits, instead of having it go on.

        Args:
            push: Called in the writer's thread, never while anything else is asked of the follower.
                It must not wait and not raise. Where it returns False, as it has kept a part, the
                iteration goes on with an empty chunk.
        """
        self._push = push

    @property
    def spot(self) -> Spot | None:
        """The place behind the last chunk; None where it is not known."""
        return self._reader.spot

    @property
    def skipped(self) -> int:
        """Lines so far that were no records."""
        return self._reader.skipped

    def __aiter__(self) -> Follower:
        return self

    async def __anext__(self) -> bytes:
        """The next chunk: whole records, whole frames, empty only as `push_to` says."""
        while True:
            await anyio.lowlevel.checkpoint_if_cancelled()
            if self._kept:
                self._kept = False
                return b""
            if self._reader.finished:
                raise StopAsyncIteration
            if len(self._parts) > 1:
                chunk = await self._older()
            else:
                chunk = await self._newer()
            if chunk:
                return chunk

    async def _older(self) -> bytes:
        """Of a file that had been rotated when we began."""
        part, reader = self._parts[0], self._reader
        if reader.offset < part.end:
            return await anyio.to_thread.run_sync(reader.read_part, part, _BLOCK)
        del self._parts[0]
        reader.turn(self._parts[0].file)
        self._truncations = self._newest_truncations()
        return b""

    async def _newer(self) -> bytes:
        """Of the file that is being written, or that was when we began."""
        log, reader, file = self._log, self._reader, self._parts[0].file
        assert isinstance(file, LogFile)
        # In this order: once a file has a successor, or its log is closed, its size is final.
        after, closed = file.after, log.closed
        if self._truncations != file.truncations:
            # Somebody has cut the file: what is in it now is new.
            self._truncations = file.truncations
            reader.offset = 0
        behind = file.size - reader.offset
        if behind > 0:
            return await self._step(file, behind)
        if after is not None:
            return self._go_on(*after)
        if closed or not await self._wait(file):
            raise StopAsyncIteration
        return b""

    async def _step(self, file: LogFile, behind: int) -> bytes:
        end = file.size
        if behind <= _BLOCK:
            return self._reader.step(end, _BLOCK)
        # History can be cold: the disk is waited for elsewhere.
        size, offset = self._reader.wanted(end, _BLOCK), self._reader.offset
        block = await anyio.to_thread.run_sync(file.read, size, offset)
        return self._reader.take(block, end)

    def _go_on(self, file: LogFile, missed: int) -> bytes:
        """Turn to the next file; say so if there were others between the two."""
        self._parts = [Part(file, 0)]
        self._reader.turn(file)
        self._truncations = file.truncations
        if not missed:
            return b""
        text = (
            b"mdocker: %d bytes of the log were missed here: rotated away before they were read\n"
        )
        text %= missed
        stream = Stream.STDERR if Stream.STDERR in self._selection.streams else Stream.STDOUT
        return frame(stream, text) if self._selection.framed else text

    def _newest_truncations(self) -> int:
        file = self._parts[0].file
        return file.truncations if isinstance(file, LogFile) else 0

    async def _wait(self, file: LogFile) -> bool:
        """Wait for a write or the end of the log; False once the time of `until` has passed."""
        log, reader = self._log, self._reader
        seconds = float("inf")
        if self._deadline_ns:
            seconds = (self._deadline_ns - time.time_ns()) / 1e9
            if seconds < 0:
                return False
        written = anyio.Event()
        self._idle = self._push is not None
        unsubscribe = log.subscribe(written.set, self._pushed if self._idle else None)
        try:
            with self._lock:
                if (
                    file.size > reader.offset
                    or file.after is not None
                    or log.closed
                    or file.truncations != self._truncations
                ):
                    return True
            with anyio.move_on_after(seconds):
                await written.wait()
            return True
        finally:
            unsubscribe()
            with self._lock:
                self._idle = False

    def _pushed(self) -> bool:
        """Called in the writer's thread: whether the iteration can go on waiting."""
        with self._lock:
            file, reader = self._parts[0].file, self._reader
            if not self._idle or self._kept or not isinstance(file, LogFile):
                return False
            end = file.size
            known = file.after is None and file.truncations == self._truncations
            if not known or not 0 < end - reader.offset <= PUSHED_BYTES:
                return False
            try:
                block = file.read_cached(end - reader.offset, reader.offset)
            except OSError:
                return False  # whoever may wait for the disk will read it
            chunk = reader.take(block, end)
            if chunk and self._push is not None:
                self._kept = not self._push(chunk)
            return not self._kept and not reader.finished


def follow(
    log: ContainerLog,
    *,
    streams: Collection[Stream] = BOTH,
    tail: int | None = None,
    since_ns: int | None = None,
    until_ns: int | None = None,
    timestamps: bool = False,
    framed: bool = False,
    details: bool = False,
    lined: bool = False,
    begin: Spot | None = None,
) -> Follower:
    """Show what is in a log and then what is written to it, until it is closed and all was shown.

    The place to begin is fixed by this call, so nothing that is written after it can be missed. The
    options are those of `logs.reader.read`; with `until_ns` it also ends when that time has come.

    Raises:
        LogNotReadable: the driver keeps no log.
        OSError: the file can't be read.
    """
    wish = (streams, since_ns or 0, until_ns or 0, timestamps, framed, details, lined)
    selection = Selection(*wish)
    return Follower(log, selection, tail, begin)
