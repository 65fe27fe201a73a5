"""Standard output or standard error of one container, cut into records."""

from __future__ import annotations

from time import time_ns
from typing import TYPE_CHECKING

from logs.framing import Stream
from logs.lines import PIECE, first_long, piece_end
from logs.records import Buffer, Records

if TYPE_CHECKING:
    from logs.container_log import ContainerLog


class LogStream:
    """Standard output or standard error of one container, on its way into the log.

    Attributes:
        log: The log it goes to.
        stream: Which of the two.
        held: The beginning of a line whose end has not come yet, less than `lines.PIECE` bytes.
        grown: Descriptor of the source whose pipe was made larger, or -1. The pump's.
        untold: Bytes that were lost, and that the log does not tell of yet.
    """

    __slots__ = ("_name", "_open", "_piece_ns", "grown", "held", "log", "stream", "untold")

    def __init__(self, log: ContainerLog, stream: Stream) -> None:
        self.log = log
        self.stream = stream
        self.held = b""
        self.grown = -1
        self._name = b"stderr" if stream is Stream.STDERR else b"stdout"
        self._piece_ns = 0
        self.untold = 0
        self._open = False

    def append(self, data: bytes, batch: int = 0) -> None:
        """Log a batch: one write for all lines that it completes, one time for all of them.

        A write that fails never raises. What it was to write is dropped and counted in the log's
        `dropped_bytes`, and a record that says so is written as soon as a write succeeds again.

        Raises:
            ValueError: the log is closed.
        """
        log = self.log
        if log.writer is None:
            return
        if log.ring is not None:
            log.ring.put(self, data, batch)
        else:
            self.append_now(data, batch, time_ns())

    def append_now(self, data: bytes, batch: int, now: int) -> None:
        """The same, in the thread that writes, with the time of the output (ns since 1970)."""
        log = self.log
        writer = log.writer
        assert writer is not None
        held, end = self.held, data.rfind(b"\n") + 1
        before = len(held) + len(data)
        if self._piece_ns or (before >= PIECE and self._has_long(data, end)):
            buffers = Records(self._pieces(held + data, now), -1)
        elif end:
            buffers = writer.lines(self._name, held, data, end, now)
            self.held = data[end:]
        else:
            self.held = held + data
            buffers = Records((), 0)
        if buffers:
            self._write(buffers, before - len(self.held), now, batch)
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
        self._write(Records([piece], 1), len(held), now, 0)
        self._mark(0)
        log.changed()

    def restore(self, held: bytes, piece_ns: int) -> None:
        """Take over what a mark remembers."""
        self.held = held
        self._piece_ns = piece_ns
        self._open = piece_ns != 0

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

    def _write(self, buffers: Records, size: int, now: int, batch: int) -> None:
        log = self.log
        # In one write with the notice: else a disk with room for just that would take it each time.
        notice = self._notice(now) if self.untold else []
        missing = log.write(buffers, batch, notice)
        wanted = sum(map(len, buffers))
        if missing <= wanted:
            self.untold = 0
        if missing < wanted:
            # Of some that could be written it is not known which was the last.
            self._open = buffers.number < 0 if missing else self._piece_ns != 0
        elif notice and missing == wanted:
            self._open = False
        if missing:
            lost = min(size, max(1, size * missing // wanted))
            self.untold += lost
            log.count_refused(lost)

    def note_gap(self, size: int) -> int:
        """So many bytes of output were dropped before the next batch.

        Returns:
            How many more are given up: the line that had begun, since its end is not to come.
        """
        given_up = len(self.held)
        self.held = b""
        self._piece_ns = 0
        self.untold += size + given_up
        return given_up

    def _notice(self, now: int) -> list[Buffer]:
        writer = self.log.writer
        assert writer is not None
        slow = b"too slowly" if self.log.ring is not None and self.log.trouble is None else b""
        # A newline first where what was lost is the rest of a line whose beginning is there.
        text = b"\n" if self._open else b""
        text += b"mdocker: %d bytes of %b were lost here, because the log could %b\n"
        text %= (self.untold, self._name, b"only be written " + slow if slow else b"not be written")
        return writer.lines(self._name, b"", text, len(text), now)

    def _mark(self, batch: int) -> None:
        log = self.log
        slot, file = log.slot, log.file
        # A write that hung comes back when its log was let go of: the next process cuts it off.
        if slot is not None and file is not None:
            index = 1 if self.stream is Stream.STDERR else 0
            slot.write(batch or slot.batch, file.end, index, self.held, self._piece_ns, log.loss())
        log.publish()
