"""Which records a reader wants and in what shape it wants them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from logs import stamps
from logs.framing import MAX_PAYLOAD, Stream, frame_head, frame_lines

BOTH = (Stream.STDOUT, Stream.STDERR)


@dataclass(frozen=True, slots=True)
class Selection:
    """A reader's wishes.

    Attributes:
        streams: The streams to show.
        since_ns: Records older than this are left out. 0 keeps all.
        until_ns: The first record younger than this is the end. 0 means no end.
        timestamps: Begin each record with its time.
        framed: Give stdcopy frames, not bare text.
        details: Begin each record with its attributes (`key=value,…`, as Docker spells them) and a
            space; behind the time if that is wanted too.
        lined: Give each line in a frame of its own.
    """

    streams: Collection[Stream] = BOTH
    since_ns: int = 0
    until_ns: int = 0
    timestamps: bool = False
    framed: bool = False
    details: bool = False
    lined: bool = False


class Output:
    """Collects rendered text, in frames if they are wanted.

    Neighbouring records of one stream share a frame, for clients that only join the payloads; for
    all others each line has one of its own (`lined`), which takes longer.
    """

    __slots__ = ("_done", "_framed", "_lined", "_parts", "_size", "_stream")

    def __init__(self, framed: bool, lined: bool = False) -> None:
        self._framed = framed
        self._lined = lined
        self._done: list[bytes] = []
        self._parts: list[bytes] = []
        self._size = 0
        self._stream = Stream.STDOUT

    def add(self, stream: Stream, text: bytes) -> None:
        """Append the text of some records."""
        if not self._framed:
            self._done.append(text)
            return
        if stream is not self._stream or self._size + len(text) > MAX_PAYLOAD:
            self._close_frame()
            self._stream = stream
        self._parts.append(text)
        self._size += len(text)

    def take(self) -> bytes:
        """All that was added since the last call."""
        self._close_frame()
        done, self._done = self._done, []
        return done[0] if len(done) == 1 else b"".join(done)

    def _close_frame(self) -> None:
        if self._size and self._lined:
            self._done.append(frame_lines(self._stream, b"".join(self._parts)))
        elif self._size:
            self._done.append(frame_head(self._stream, self._size))
            self._done += self._parts
        self._parts = []
        self._size = 0


class Sieve:
    """Decides on records by their stream and time, and adds the chosen ones to the output.

    Attributes:
        timed: The times of records matter.
        mixes: It does not matter of which stream a record is.
        finished: The record that `until` speaks of has come.
    """

    __slots__ = ("_want", "finished", "mixes", "output", "selection", "timed")

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self.output = Output(selection.framed, selection.lined)
        self.finished = False
        self._want = frozenset(selection.streams)
        self.mixes = not selection.framed and self._want >= set(BOTH)
        self.timed = bool(selection.since_ns or selection.until_ns or selection.timestamps)

    def admit(self, stream: Stream, stamp: bytes) -> bytes | None:
        """What stands before the text of a record; None if it is not wanted.

        Sets `finished` at the first record that is too young.

        Raises:
            ValueError: the time can't be read.
        """
        if not self.timed:
            return b"" if stream in self._want else None
        time_ns = stamps.parse(stamp)
        chosen = self.selection
        if time_ns < chosen.since_ns:
            return None
        if chosen.until_ns and time_ns > chosen.until_ns:
            self.finished = True
            return None
        if stream not in self._want:
            return None
        return stamps.fixed(time_ns) + b" " if chosen.timestamps else b""
