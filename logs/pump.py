"""The staged pump: moves output into logs so that a kill at any moment loses nothing.

What has been read into a process dies with it, so nothing is read away before it is written. A
batch waits in a staging pipe, of which another process (the shim) holds a duplicate, until its
records are in the log and the mark file says so:

    0  note the batch in the mark file: its number, whose it is
    1  splice it from the container's pipe into staging  (pages move, nothing is copied)
    2  tee staging into scratch, read scratch            (a copy; the kernel keeps the batch)
    3  write the records to the log
    4  mark: the batch's number, the log's size, the unfinished line, by one flip
    5  drain staging into /dev/null

After a kill, `Stage.recover` cuts each log back to its mark; a batch that staging still holds is
either marked (then it is drained) or not (then 2 to 5 are done). There is no third case. Nothing is
awaited between 0 and 5, so one stage serves all containers that one thread pumps.

Kernel facts: pipe(7), splice(2), tee(2), fcntl(2) under F_SETPIPE_SZ.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import termios
from collections.abc import Callable
from dataclasses import dataclass

from logs.container_log import ContainerLog
from logs.framing import Stream
from logs.log_stream import LogStream
from logs.marks import MarkFile, Slot

__all__ = ["ContainerLog", "LogStream", "MarkFile", "Recovered", "Stage", "Tee"]

Tee = Callable[[int, int, int, int], int]
"""tee(2): source descriptor, target descriptor, length, flags; returns the bytes duplicated."""

PIPE_SIZE = 1 << 18
DEFAULT_PIPE_SIZE = 1 << 16


@dataclass(frozen=True, slots=True)
class Recovered:
    """What `Stage.recover` found.

    Attributes:
        logs: How many logs were taken over.
        cut_bytes: Bytes cut off logs because they were written but not marked.
        written_bytes: Bytes of the batch that had still to be written.
        drained_bytes: Bytes of a batch that was written already.
    """

    logs: int = 0
    cut_bytes: int = 0
    written_bytes: int = 0
    drained_bytes: int = 0


class Stage:
    """A staging pipe and a scratch pipe. One thread may use it at a time.

    Attributes:
        fds: Read and write end of the staging pipe, for somebody else to hold.
    """

    def __init__(
        self,
        marks: MarkFile,
        tee: Tee,
        pipe_size: int = PIPE_SIZE,
        *,
        number: int = 0,
        fds: tuple[int, int] | None = None,
    ) -> None:
        """Make the pipes, or take the staging pipe over.

        Args:
            marks: Where batches are noted and marked.
            tee: The tee(2) call.
            pipe_size: Wanted size of the pipes in bytes. The kernel may grant less.
            number: Which note of the mark file is this stage's; each stage that runs at the same
            time
                needs another.
            fds: Read and write end of a staging pipe that outlived its process. They become ours.
            Call
                `recover` before the first `pump`.

        Raises:
            OSError: no descriptors or no memory for pipes.
        """
        self._marks = marks
        self._tee = tee
        self._number = number
        self._grow_to = pipe_size
        self._unsettled: LogStream | None = None
        nonblocking = os.O_CLOEXEC | os.O_NONBLOCK
        self._in, self._out = os.pipe2(nonblocking) if fds is None else fds
        self._scratch_in, self._scratch_out = os.pipe2(nonblocking)
        self._null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        if fds is None:
            _set_size(self._in, pipe_size)
        self._size = fcntl.fcntl(self._in, fcntl.F_GETPIPE_SZ)
        # tee() always begins at the front, so scratch must take in one call all that staging holds.
        fcntl.fcntl(self._scratch_in, fcntl.F_SETPIPE_SZ, self._size)

    @property
    def fds(self) -> tuple[int, int]:
        """Read and write end of the staging pipe."""
        return self._in, self._out

    def pump(self, source: int, stream: LogStream) -> bytes:
        """Move one batch from a pipe into a log.

        Returns:
            The bytes that were moved, whatever became of their write; b"" at the end of input,
            after which the caller calls `stream.finish()`.

        Raises:
            BlockingIOError: the source is empty.
            OSError: the source is not a pipe.
        """
        if self._unsettled is not None:
            self._settle(self._unsettled)
        log = stream.log
        if log.writer is None:
            self._marks.begin_unmarked(self._number)
            moved = self._take(source)
            self._unsettled = stream
            data = _read(self._in, moved) if moved else b""
            self._unsettled = None
            log.read_bytes += moved
            return data
        slot = log.slot or self._claim(log)
        batch = 0
        if slot is not None:
            batch = self._marks.begin(self._number, slot, stream.stream)
        else:
            self._marks.begin_unmarked(self._number)
        moved = self._take(source)
        if not moved:
            return b""
        self._unsettled = stream
        data = self._copy(moved)
        stream.append(data, batch)
        self._drain(moved)
        self._unsettled = None
        log.read_bytes += moved
        if moved >= DEFAULT_PIPE_SIZE and stream.grown != source:
            stream.grown = source
            _set_size(source, self._grow_to)
        return data

    def recover(self, find_log: Callable[[str], ContainerLog | None]) -> Recovered:
        """Go on where a process that was killed has left off.

        Args:
            find_log: Opens the log of a container by its id; None if the container is gone.

        Raises:
            OSError: a log can't be cut back to its mark.
        """
        logs: dict[int, ContainerLog] = {}
        cut = 0
        for slot in self._marks.slots():
            log = find_log(slot.container_id)
            if log is None:
                slot.release()
                continue
            logs[slot.number] = log
            if log.slot is None:
                cut += log.adopt(slot)
        waiting = self._waiting()
        if not waiting:
            return Recovered(len(logs), cut)
        note = self._marks.note(self._number)
        log = logs.get(note.slot)
        if log is None or log.slot is None or log.slot.completed(note.batch):
            self._drain(waiting)
            return Recovered(len(logs), cut, drained_bytes=waiting)
        log.stream(Stream(note.stream)).append(self._copy(waiting), note.batch)
        self._drain(waiting)
        return Recovered(len(logs), cut, written_bytes=waiting)

    def close(self) -> None:
        """Close our descriptors. Duplicates that somebody holds stay."""
        for fd in (self._in, self._out, self._scratch_in, self._scratch_out, self._null):
            os.close(fd)

    def _take(self, source: int) -> int:
        """Move a batch into staging; 0 at the end of input."""
        try:
            return os.splice(source, self._out, self._size, flags=os.SPLICE_F_NONBLOCK)
        except OSError as error:
            if error.errno == errno.EIO:
                return 0  # a terminal whose other side nobody has open any more (pty(7))
            if error.errno != errno.EINVAL:
                raise
        # Before Linux 5.12 a terminal can't be spliced; a kill between these two loses the batch.
        return os.write(self._out, os.read(source, DEFAULT_PIPE_SIZE))

    def _claim(self, log: ContainerLog) -> Slot | None:
        try:
            log.slot = self._marks.claim(
                log.container_id, log.size, log.file.inode if log.file is not None else 0
            )
        except OSError:
            # No room for marks: log without them. `MarkFile.full` tells.
            return None
        return log.slot

    def _copy(self, size: int) -> bytes:
        """Read what staging holds and leave it there."""
        self._tee(self._in, self._scratch_out, size, 0)
        return _read(self._scratch_in, size)

    def _drain(self, size: int) -> None:
        while size > 0:
            size -= os.splice(self._in, self._null, size)

    def _settle(self, stream: LogStream) -> None:
        """An exception (no memory, an interrupt) left a batch in staging: finish it now."""
        waiting = self._waiting()
        # A copy that nobody has read would be taken for the next batch, whosever that is.
        with contextlib.suppress(BlockingIOError):
            while os.read(self._scratch_in, self._size):
                continue
        log = stream.log
        slot = log.slot
        note = self._marks.note(self._number)
        gone = log.closed or log.ring is not None  # a ring has it already
        if waiting and slot is not None and not gone and not slot.completed(note.batch):
            log.adopt(slot)
            stream.append(self._copy(waiting), note.batch)
        self._drain(waiting)
        self._unsettled = None

    def _waiting(self) -> int:
        """How many bytes staging holds (FIONREAD of pipe(7))."""
        answer = fcntl.ioctl(self._in, termios.FIONREAD, b"\0\0\0\0")
        (count,) = struct.unpack("i", answer)
        return int(count)


def _read(pipe: int, size: int) -> bytes:
    """Read what a pipe of ours holds.

    A payload may have made its pipe one of packets (O_DIRECT, pipe(2)), and its writes stay packets
    wherever they are moved to: each read gives no more than one of them.

    Raises:
        OSError: There is less than that.
    """
    data = os.read(pipe, size)
    if len(data) == size:
        return data
    parts = [data]
    left = size - len(data)
    while left:
        try:
            parts.append(os.read(pipe, left))
        except BlockingIOError:
            raise OSError(f"tee gave {size - left} of {size} bytes") from None
        left -= len(parts[-1])
    return b"".join(parts)


def _set_size(pipe: int, size: int) -> None:
    """Make a pipe larger. Where the kernel refuses (EPERM: the user's limit), it stays as it is."""
    with contextlib.suppress(OSError):
        if fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ) < size:
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, size)
