"""One container's log file and the writer of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter, time_ns

from logs.framing import Stream
from logs.lines import PIECE, first_long, piece_end
from logs.marks import Slot
from logs.records import Buffer, RecordWriter

_TORN_SEARCH = 1 << 20


class LogFile:
    """A descriptor of a log, closed by `close`, or at the latest when nobody refers to it.

    A follower has one of its own, so it reads on after the log was closed.
    """

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def for_writing(cls, path: str) -> LogFile:
        """Open or make a log. Raises OSError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        return cls(os.open(path, flags, 0o640))

    @classmethod
    def for_reading(cls, path: str) -> LogFile:
        """Open a log that is there. Raises OSError."""
        return cls(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))

    def close(self) -> None:
        """Close it; a second time nothing happens."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


class LogStream:
    """Standard output or standard error of one container, on its way into the log.

    Attributes:
        log: The log it goes to.
        stream: Which of the two.
        held: The beginning of a line whose end has not come yet, less than `lines.PIECE` bytes.
        grown: Descriptor of the source whose pipe was made larger, or -1. The pump's.
    """

    __slots__ = ("_lost", "_name", "_piece_ns", "grown", "held", "log", "stream")

    def __init__(self, log: ContainerLog, stream: Stream) -> None:
        self.log = log
        self.stream = stream
        self.held = b""
        self.grown = -1
        self._name = b"stderr" if stream is Stream.STDERR else b"stdout"
        self._piece_ns = 0
        self._lost = 0

    def append(self, data: bytes, batch: int = 0) -> None:
        """Log a batch: one write for all lines that it completes, one time for all of them.

        A write that fails never raises. What it was to write is dropped and counted in the log's
        `dropped_bytes`, and a record that says so is written as soon as a write succeeds again.

        Raises:
            ValueError: the log is closed.
        """
        log = self.log
        writer = log.writer
        if writer is None:
            return
        now = time_ns()
        held, end = self.held, data.rfind(b"\n") + 1
        before = len(held) + len(data)
        if self._piece_ns or (before >= PIECE and self._has_long(data, end)):
            buffers = self._pieces(held + data, now)
        elif end:
            buffers = writer.lines(self._name, held, data, end, now)
            self.held = data[end:]
        else:
            self.held = held + data
            buffers = []
        if buffers:
            self._write(buffers, before - len(self.held), now)
        self._mark(batch)
        if buffers:
            log.changed()

    def finish(self) -> None:
        """The stream has ended: write an unfinished line as a record that has no newline."""
        self.grown = -1
        log = self.log
        if not self.held or log.writer is None:
            self._piece_ns = 0
            return
        held, self.held = self.held, b""
        now = time_ns()
        piece = log.writer.piece(self._name, held, self._piece_ns or now)
        self._piece_ns = 0
        self._write([piece], len(held), now)
        self._mark(0)
        log.changed()

    def restore(self, held: bytes, piece_ns: int) -> None:
        """Take over what a mark remembers."""
        self.held = held
        self._piece_ns = piece_ns

    def _has_long(self, data: bytes, end: int) -> bool:
        """Whether a record of this batch would be longer than a piece."""
        if not end:
            return True  # no newline, and the caller has counted
        return first_long(data, 0, end, len(self.held)) >= 0 or len(data) - end >= PIECE

    def _pieces(self, text: bytes, now: int) -> list[Buffer]:
        """Records of a batch in which a line is longer than a piece, or goes on from one."""
        writer = self.log.writer
        assert writer is not None
        buffers: list[Buffer] = []
        pos, size = 0, len(text)
        while pos < size:
            if self._piece_ns:
                # The rest of a divided line keeps the time of its first piece, as Docker has it.
                newline = text.find(b"\n", pos, pos + PIECE)
                if newline >= 0:
                    line = text[pos : newline + 1]
                    buffers += writer.lines(self._name, b"", line, len(line), self._piece_ns)
                    self._piece_ns = 0
                    pos = newline + 1
                    continue
            else:
                last = text.rfind(b"\n", pos) + 1
                long = first_long(text, pos, last, 0) if last else -1
                end = long if long >= 0 else last
                if end > pos:
                    buffers += writer.lines(self._name, b"", text[pos:end], end - pos, now)
                    pos = end
            if size - pos < PIECE:
                break
            if not self._piece_ns:
                self._piece_ns = now
            cut = piece_end(text, pos)
            buffers.append(writer.piece(self._name, text[pos:cut], self._piece_ns))
            pos = cut
        self.held = text[pos:]
        return buffers

    def _write(self, buffers: list[Buffer], size: int, now: int) -> None:
        if self._lost:
            buffers = [*self._notice(now), *buffers]
        if self.log.write(buffers):
            self._lost = 0
        else:
            self._lost += size
            self.log.dropped_bytes += size

    def _notice(self, now: int) -> list[Buffer]:
        writer = self.log.writer
        assert writer is not None
        # A newline first: what was lost may be the rest of a line whose beginning is there.
        text = b"\nmdocker: %d bytes of %b were lost here, because the log could not be written\n"
        text %= (self._lost, self._name)
        return writer.lines(self._name, b"", text, len(text), now)

    def _mark(self, batch: int) -> None:
        slot = self.log.slot
        if slot is not None:
            index = 1 if self.stream is Stream.STDERR else 0
            slot.write(batch or slot.batch, self.log.size, index, self.held, self._piece_ns)


class ContainerLog:
    """The log of one run of a container. Not safe for two threads at once.

    Attributes:
        driver: Name of the log driver.
        path: The log file, "" where the driver keeps none.
        container_id: Whose log it is.
        readable: Whether `logs` can show it.
        size: Bytes of whole records in the file. Readers go so far and no further.
        closed: Nothing more will be written in this run.
        dropped_bytes: Bytes of output that were lost, since the log could not be written.
        trouble: The error of the last write if it failed, else None.
        on_trouble: Called with the log when writing begins to fail, and when it succeeds again.
        write_s: How long the last write took, in seconds. A log whose writes are slow belongs into
        a
            thread of its own.
        truncations: How often somebody else has cut the file.
        slot: Its place in the mark file once the pump has given it one.
        read_bytes, written_bytes: What this process took from the container, and wrote as records.
    """

    __slots__ = (
        "_streams",
        "_watchers",
        "closed",
        "container_id",
        "driver",
        "dropped_bytes",
        "file",
        "on_trouble",
        "path",
        "read_bytes",
        "size",
        "slot",
        "trouble",
        "truncations",
        "write_s",
        "writer",
        "written_bytes",
    )

    def __init__(
        self, driver: str, path: Path | None, container_id: str, writer: RecordWriter | None
    ) -> None:
        """Open the file, or go on with it: a last line that is torn is cut off.

        Raises:
            OSError: the file can't be opened, read or cut.
        """
        self.driver = driver
        self.path = "" if path is None else os.fspath(path)
        self.container_id = container_id
        self.writer = writer
        self.file = None if path is None else LogFile.for_writing(self.path)
        self.size = 0 if self.file is None else _whole_records(self.file.fd)
        self.closed = False
        self.dropped_bytes = 0
        self.read_bytes = 0
        self.written_bytes = 0
        self.trouble: OSError | None = None
        self.on_trouble: Callable[[ContainerLog], None] | None = None
        self.write_s = 0.0
        self.truncations = 0
        self.slot: Slot | None = None
        self._streams: tuple[LogStream | None, LogStream | None] = (None, None)
        self._watchers: tuple[Callable[[], object], ...] = ()

    @property
    def readable(self) -> bool:
        """Whether the driver keeps what it is given."""
        return self.file is not None

    def stream(self, stream: Stream) -> LogStream:
        """The writer's end for standard output or standard error, always the same object."""
        out, err = self._streams
        if stream is Stream.STDERR:
            if err is None:
                err = LogStream(self, stream)
                self._streams = (out, err)
            return err
        if out is None:
            out = LogStream(self, Stream.STDOUT)
            self._streams = (out, err)
        return out

    def subscribe(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call `callback`, in the writer's thread, after each write and at the close.

        Returns:
            A function that ends it. It may be called twice.
        """
        self._watchers = (*self._watchers, callback)

        def unsubscribe() -> None:
            self._watchers = tuple(known for known in self._watchers if known is not callback)

        return unsubscribe

    def changed(self) -> None:
        """Tell all who have subscribed."""
        for callback in self._watchers:
            callback()

    def write(self, buffers: Sequence[Buffer]) -> bool:
        """Append whole records in one write; tell if it succeeded. All of them are written or none.

        Raises:
            ValueError: the log is closed.
        """
        if self.closed or self.file is None:
            raise ValueError(f"the log of {self.container_id} is closed")
        fd = self.file.fd
        started = perf_counter()
        written, wanted = 0, sum(map(len, buffers))
        try:
            written = os.writev(fd, buffers)
            while written < wanted:
                # Cut short by a full disk, or by a signal: the next try tells which.
                rest = memoryview(b"".join(buffers))[written:]
                written += os.write(fd, rest)
            # The file's end as the kernel sees it: somebody may have cut the file since.
            end = os.lseek(fd, 0, os.SEEK_CUR)
        except OSError as error:
            self._failed(error, written)
            return False
        finally:
            self.write_s = perf_counter() - started
        if end - wanted < self.size:
            self.truncations += 1
        self.size = end
        self.written_bytes += wanted
        if self.trouble is not None:
            self.trouble = None
            if self.on_trouble is not None:
                self.on_trouble(self)
        return True

    def adopt(self, slot: Slot) -> int:
        """Go on from a dead process's mark.

        What it wrote after its last mark is cut off, its unfinished lines are taken over.

        Returns:
            How many bytes were cut off.

        Raises:
            OSError: the file can't be cut.
        """
        mark = slot.read()
        self.slot = slot
        cut = 0
        if self.file is not None:
            size = os.fstat(self.file.fd).st_size
            self.size = min(size, mark.size)
            if size > mark.size:
                cut = size - mark.size
                os.ftruncate(self.file.fd, mark.size)
        for stream, state in zip((Stream.STDOUT, Stream.STDERR), mark.streams, strict=True):
            if state.held or state.piece_ns or any(self._streams):
                self.stream(stream).restore(state.held, state.piece_ns)
        return cut

    def close(self) -> None:
        """The run has ended: write unfinished lines, free the mark, wake the followers."""
        if self.closed:
            return
        for stream in self._streams:
            if stream is not None:
                stream.finish()
        self.detach()
        if self.slot is not None:
            self.slot.release()
            self.slot = None

    def detach(self) -> None:
        """Let go of the file, but leave the mark: another process will go on writing."""
        self.closed = True
        # The streams refer back to us: unlinked, the file is closed without the collector's help.
        self._streams = (None, None)
        if self.file is not None:
            self.file.close()
        self.changed()

    def _failed(self, error: OSError, written: int) -> None:
        first = self.trouble is None
        self.trouble = error
        if written and self.file is not None:
            # Where even this fails, readers skip the torn record.
            with contextlib.suppress(OSError):
                end = os.lseek(self.file.fd, 0, os.SEEK_CUR)
                os.ftruncate(self.file.fd, end - written)
        if first and self.on_trouble is not None:
            self.on_trouble(self)


def _whole_records(fd: int) -> int:
    """Cut a torn last line off, and return the size that is left."""
    size = os.fstat(fd).st_size
    end = size
    while end > 0 and size - end < _TORN_SEARCH:
        start = max(0, end - 65536)
        newline = os.pread(fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end == size:
        return size
    if size - end >= _TORN_SEARCH:
        # No record of ours is so long: this is somebody else's file, which isn't ours to cut.
        os.write(fd, b"\n")
        return size + 1
    os.ftruncate(fd, end)
    return end
