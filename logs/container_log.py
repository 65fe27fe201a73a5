"""One container's log file and the writer of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import structlog

from logs.framing import Stream
from logs.index import IndexWriter, count_records
from logs.lines import behind_newlines
from logs.log_file import QUICKLY_DELETED, LogFile
from logs.log_stream import LogStream
from logs.marks import NO_LOSS, Loss, Slot
from logs.options import DEFAULTS, LogOptions
from logs.records import Buffer, Records, RecordWriter
from logs.ring import Ring
from logs.rotation import Names, names_of
from logs.waiting_files import WaitingFiles

log = structlog.get_logger()

_TORN_SEARCH = 1 << 20


class Watcher(NamedTuple):
    """Somebody who is told of writes: at once, in the writer's thread, or else by `deliver`."""

    callback: Callable[[], object]
    at_once: Callable[[], bool] | None


class ContainerLog:
    """The log of one run of a container. Not safe for two threads at once.

    One whose options say non-blocking has a ring, and a thread of its own that writes; who gives it
    output never waits then.

    Attributes:
        driver: Name of the log driver.
        path: The log file, "" where the driver keeps none.
        container_id: Whose log it is.
        options: When it is rotated, and what becomes of the files.
        readable: Whether `logs` can show it.
        file: The file that is written now; None where there is none, or once it is closed.
        size: Bytes of whole records in that file. Readers go so far and no further.
        closed: Nothing more will be written in this run.
        dropped_bytes: Bytes of output that were lost, since the log could not be written, or not
            fast enough for its ring.
        ring: Where output waits to be written; None where it is written at once.
        trouble: The error of the last write if it failed, else None.
        on_trouble: Called with the log when writing begins to fail, and when it succeeds again.
        deliver: Calls something for the subscribers: in their thread, if that isn't the writer's.
        write_s: How long the last write took, in seconds.
        read_bytes, written_bytes: What this process took from the container, and wrote as records.
        truncations: How often somebody else has cut the file.
        rotations: How often this process has begun a new file.
        slot: Its place in the mark file once the pump has given it one.
    """

    __slots__ = (
        "_done",
        "_index",
        "_names",
        "_refused_bytes",
        "_streams",
        "_telling",
        "_unrotated",
        "_waiting",
        "_watchers",
        "closed",
        "container_id",
        "deliver",
        "driver",
        "file",
        "on_trouble",
        "options",
        "path",
        "read_bytes",
        "ring",
        "rotations",
        "slot",
        "trouble",
        "write_s",
        "writer",
        "written_bytes",
    )

    def __init__(
        self,
        driver: str,
        path: Path | None,
        container_id: str,
        writer: RecordWriter | None,
        options: LogOptions = DEFAULTS,
    ) -> None:
        """Open the file, or go on with it: a last line that is torn is cut off.

        Raises:
            OSError: the file can't be opened, read or cut.
        """
        self.driver = driver
        self.path = "" if path is None else os.fspath(path)
        self.container_id = container_id
        self.writer = writer
        self.options = options
        self.file = None if path is None else LogFile.for_writing(self.path)
        if self.file is not None:
            try:
                self.file.end = self.file.size = _whole_records(self.file.fd)
            except OSError:
                self.file.close()
                raise
        self.closed = False
        self.ring = None if options.blocking or path is None else Ring(self)
        self.trouble: OSError | None = None
        self.on_trouble: Callable[[ContainerLog], None] | None = None
        self.deliver: Callable[[Callable[[], object]], object] = _at_once
        self.write_s = 0.0
        self.read_bytes = 0
        self.written_bytes = 0
        self.rotations = 0
        self.slot: Slot | None = None
        self._done = (0, 0)
        if self.file is not None:
            self._index = IndexWriter(os.path.dirname(self.path), self.file.inode, self.file.fd)
        self._names: Names | None = None
        self._refused_bytes = 0
        self._telling = False
        self._unrotated = False
        self._waiting: WaitingFiles | None = None
        if path is not None and options.compress:
            self.names.compress()  # what a kill has left plain
        self._streams: tuple[LogStream | None, LogStream | None] = (None, None)
        self._watchers: tuple[Watcher, ...] = ()

    @property
    def size(self) -> int:
        return 0 if self.file is None else self.file.size

    @property
    def truncations(self) -> int:
        return 0 if self.file is None else self.file.truncations

    @property
    def dropped_bytes(self) -> int:
        return self._refused_bytes + (self.ring.dropped_bytes if self.ring is not None else 0)

    def count_refused(self, size: int) -> None:
        """Note that so many bytes of output could not be written."""
        self._refused_bytes += size

    def loss(self) -> Loss:
        """What a mark says of it."""
        total = self.dropped_bytes
        if not total:
            return NO_LOSS
        out, err = self._streams
        return Loss(total, out.untold if out else 0, err.untold if err else 0)

    @property
    def readable(self) -> bool:
        """Whether the driver keeps what it is given."""
        return self.path != ""

    @property
    def names(self) -> Names:
        """The names of its files."""
        if self._names is None:
            self._names = names_of(self.path)
        return self._names

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

    def subscribe(
        self, callback: Callable[[], object], at_once: Callable[[], bool] | None = None
    ) -> Callable[[], None]:
        """Call `callback` by `deliver` after writes and at the close.

        Args:
            at_once: Called before that in the writer's thread, which it must not hold up. If it
                returns True the callback is not needed.

        Returns:
            A function that ends it. It may be called twice.
        """
        watcher = Watcher(callback, at_once)
        self._watchers = (*self._watchers, watcher)

        def unsubscribe() -> None:
            self._watchers = tuple(known for known in self._watchers if known is not watcher)

        return unsubscribe

    def publish(self) -> None:
        """Show what is written to the readers: it is marked now."""
        if self.file is not None:
            self.file.size = self.file.end

    def changed(self) -> None:
        """Tell all who have subscribed; several changes in a row may be told as one."""
        if self._watchers and not self._telling:
            served = [one.at_once is not None and one.at_once() for one in self._watchers]
            if not all(served):
                self._telling = True
                self.deliver(self._tell)

    def _tell(self) -> None:
        self._telling = False  # first: what changes while we tell is told again
        for watcher in self._watchers:
            watcher.callback()

    def write(self, buffers: Records, batch: int = 0, notice: Sequence[Buffer] = ()) -> int:
        """Append whole records, in one write while they fit into the file.

        A file that is full is rotated before the next record; it holds one record more than it
        should, at most. Where a file can't be begun, the old one goes on growing.

        Args:
            buffers: The records.
            batch: Number of the pump's batch that they are.
            notice: Records to be written before them, which are none of the batch's.

        Returns:
            How many bytes of all these could not be written: whole records, the last ones.

        Raises:
            ValueError: the log is closed.
        """
        file = self.file
        if self.closed or file is None:
            raise ValueError(f"the log of {self.container_id} is closed")
        if batch and self._done[0] == batch:
            buffers = Records(_without(buffers, self._done[1]), -1)
        if notice:
            buffers = Records([*notice, *buffers], -1)
        wanted = sum(map(len, buffers))
        limit = self.options.max_size
        if limit and file.end + wanted > limit:
            foreign = b"".join(notice).count(b"\n")
            return self._write_over(b"".join(buffers), limit, batch, foreign)
        return 0 if self._append(file, buffers, wanted, buffers.number) else wanted

    def _write_over(self, records: bytes, limit: int, batch: int, foreign: int) -> int:
        """Append records that don't fit into the file: what does, then the rest to the next.

        The first `foreign` ones are none of the batch's.
        """
        pos, size, written = 0, len(records), -foreign
        while pos < size:
            file = self.file
            assert file is not None
            if file.end >= limit and not self._rotate(batch, written):
                cut = size
            else:
                file = self.file
                assert file is not None
                room = max(1, limit - file.end)
                cut = records.find(b"\n", min(pos + room, size) - 1) + 1 or size
            number = count_records(records[pos:cut])
            if not self._append(file, [memoryview(records)[pos:cut]], cut - pos, number):
                return size - pos
            written += number
            pos = cut
        return 0

    def _rotate(self, batch: int, written: int) -> bool:
        """Begin a new file. Both marks say how many records of the batch are written already."""
        old, slot, options = self.file, self.slot, self.options
        assert old is not None
        before = self._done[1] if self._done[0] == batch else 0
        done = before + max(0, written) if batch else 0
        if slot is not None:
            slot.turn(old.end, old.inode, batch, done)
        old.size = old.end
        try:
            new = self.names.rotate(options.max_file - 1)
        except OSError as error:
            if not self._unrotated:
                self._unrotated = True
                words = {"container": self.container_id[:12], "path": self.path}
                log.error("log.not_rotated", error=error.strerror, **words)
            return False
        self._unrotated = False
        # Its name may be gone by the time that its last reader closes it.
        old.doomed = old.size > QUICKLY_DELETED
        old.after = (new, 0)
        self.file = new
        self._index = IndexWriter(os.path.dirname(self.path), new.inode, new.fd)
        if slot is not None:
            slot.turn(0, new.inode, batch, done)
        if self._waiting is None:
            self._waiting = WaitingFiles(options)
        self.rotations += 1
        self._waiting.add(old)
        self._waiting.bound()
        if options.compress:
            self.names.compress()
        return True

    def _append(self, file: LogFile, buffers: Sequence[Buffer], wanted: int, number: int) -> bool:
        """Append to a file in one write; tell if it succeeded: all is written or nothing.

        Args:
            number: How many records they are, -1 where that is not known.
        """
        fd = file.fd
        started = perf_counter()
        written = 0
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
        if end - wanted < file.end:
            file.size = 0
            file.truncations += 1
            self._index.restart()
        file.end = end
        if number < 0:
            number = count_records(b"".join(buffers))
        self._index.note(end, wanted, number, buffers)
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
        self._done = (mark.batch, mark.done) if mark.done else (0, 0)
        cut = 0
        file = self.file
        if file is not None:
            size = os.fstat(file.fd).st_size
            # A file that is not the marked one was begun after the mark.
            whole = mark.size if mark.inode in (0, file.inode) else 0
            file.end = file.size = min(size, whole)
            if size > whole:
                cut = size - whole
                os.ftruncate(file.fd, whole)
            slot.turn(file.size, file.inode, mark.batch, mark.done)
        for stream, state in zip((Stream.STDOUT, Stream.STDERR), mark.streams, strict=True):
            if state.held or state.piece_ns or any(self._streams):
                self.stream(stream).restore(state.held, state.piece_ns)
        self._refused_bytes = mark.loss.total
        if mark.loss.total or any(self._streams):
            self.stream(Stream.STDOUT).untold = mark.loss.untold_out
            self.stream(Stream.STDERR).untold = mark.loss.untold_err
        return cut

    def close(self, closed: Callable[[], object] | None = None) -> None:
        """The run has ended: write unfinished lines, free the mark, wake the followers.

        Args:
            closed: Called when that is done. With a ring this is later, and in another thread.
        """
        if self.ring is not None:
            self.ring.close(closed)
            return
        self.close_now()
        if closed is not None:
            closed()

    def close_now(self) -> None:
        """The same, of what is written already; for the thread that writes."""
        if self.closed:
            return
        for stream in self._streams:
            if stream is not None:
                stream.finish()
        self._let_go()
        if self.slot is not None:
            self.slot.release()
            self.slot = None

    def detach(self) -> None:
        """Let go of the file, but leave the mark: another process will go on writing."""
        if self.ring is None or self.ring.leave():
            self._let_go()

    def _let_go(self) -> None:
        self.closed = True
        # The streams refer back to us: unlinked, the file is closed without the collector's help.
        self._streams = (None, None)
        self.file = None  # a follower may have it still
        self.changed()

    def _failed(self, error: OSError, written: int) -> None:
        first = self.trouble is None
        # Its traceback refers to the file, which must not wait for the collector to be closed.
        self.trouble = error.with_traceback(None)
        if written and self.file is not None:
            # Where even this fails, readers skip the torn record.
            with contextlib.suppress(OSError):
                end = os.lseek(self.file.fd, 0, os.SEEK_CUR)
                os.ftruncate(self.file.fd, end - written)
        if first and self.on_trouble is not None:
            self.on_trouble(self)


def _at_once(tell: Callable[[], object]) -> None:
    tell()


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


def _without(buffers: Sequence[Buffer], records: int) -> list[Buffer]:
    """The same without the first ones of its records."""
    text = b"".join(buffers)
    return [memoryview(text)[behind_newlines(text, records) :]]
