"""Reading a log: its text, or a chosen part of it, in chunks that are ready to send."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Protocol

from logs import json_text, k8s_text
from logs.container_log import ContainerLog
from logs.framing import Stream
from logs.history import Part, cut, parts_of, place
from logs.json_text import JsonText
from logs.k8s_text import K8sText
from logs.log_file import LogFile
from logs.selection import BOTH, Selection, Sieve
from logs.spots import TAIL, Spot, find, spot_at
from logs.tailing import TimeOf

__all__ = ["BLOCK_SIZE", "LogNotReadable", "LogReader", "Selection", "read"]

BLOCK_SIZE = 1 << 20
_LONGEST_RECORD = 1 << 20
"""No writer's records are longer: 16 KiB of control bytes become 96 KiB of JSON."""


TIME_OF: dict[str, TimeOf] = {"json-file": json_text.time_of, "k8s-file": k8s_text.time_of}


class LogNotReadable(Exception):
    """The container's log driver keeps nothing that could be read."""


class Source(Protocol):
    """What is read: a file, plain or compressed."""

    def read(self, size: int, offset: int) -> bytes:
        """Read `size` bytes at `offset`, or what there is. Raises OSError."""
        ...


class LogReader:
    """Reads a log from one offset on, as far as it is told; then from another file of it.

    Attributes:
        source: The file that it reads.
        offset: How far it has read.
        finished: A record younger than `until` was met: there is nothing more to come.
    """

    __slots__ = (
        "_begin",
        "_need",
        "_seen",
        "_sieve",
        "_skipping",
        "_text",
        "finished",
        "offset",
        "source",
    )

    def __init__(
        self,
        driver: str,
        source: Source,
        selection: Selection,
        offset: int = 0,
        begin: Spot | None = None,
    ) -> None:
        """Begin at `offset`, where a record must begin, which is the place `begin`.

        Raises:
            LogNotReadable: the driver keeps no log.
        """
        self.source = source
        self.offset = offset
        self.finished = False
        self._begin = begin
        self._seen: tuple[bytes, int] | None = None
        self._need = 0
        self._skipping = False
        self._sieve = Sieve(selection)
        self._text = text_of(driver, self._sieve)

    @property
    def skipped(self) -> int:
        """Lines so far that were no records."""
        return self._text.skipped

    @property
    def spot(self) -> Spot | None:
        """The place behind what it has given back; None where that is not known."""
        return self._begin if self._seen is None else Spot.behind(*self._seen)

    def turn(self, source: Source) -> None:
        """Go on at the beginning of another file."""
        self.source = source
        self.offset = 0
        self._need = 0
        self._skipping = False

    def wanted(self, end: int, block_size: int) -> int:
        """How many bytes to read next, at `offset`: a block, or more where a record is longer."""
        return min(max(block_size, self._need), end - self.offset)

    def step(self, end: int, block_size: int = BLOCK_SIZE) -> bytes:
        """Read one block, not beyond `end`, and give back what is wanted of it, maybe nothing.

        Raises:
            OSError: reading fails.
        """
        return self.take(self.source.read(self.wanted(end, block_size), self.offset), end)

    def read_part(self, part: Part, block_size: int = BLOCK_SIZE) -> bytes:
        """Like `step`, of a file whose end may show only when it is reached."""
        block = self.source.read(self.wanted(part.end, block_size), self.offset)
        return self.take(block, part.end)

    def take(self, block: bytes, end: int) -> bytes:
        """Like `step`, with a block that was read elsewhere; b"" if the file has ended early.

        What follows the block's last newline is left for the next block.
        """
        cut = block.rfind(b"\n") + 1
        if not cut:
            self._no_record(block, end)
            return b""
        self._need = 0
        self.offset += cut
        self._seen = block[max(0, cut - TAIL) : cut], self.offset
        if self._skipping:
            self._skipping = False
            self._text.skipped += 1
            start = block.find(b"\n") + 1
            block = block[start:cut]
            cut -= start
        self._text.feed(block, cut)
        self.finished = self._sieve.finished
        return self._sieve.output.take()

    def _no_record(self, block: bytes, end: int) -> None:
        """No newline in this block: it needs more, or it is a torn end, or no log at all."""
        size = len(block)
        if self.offset + size >= end or not size:
            self.offset = end
            self._text.skipped += bool(size or self._skipping)
            self._skipping = False
        elif self._skipping or size >= _LONGEST_RECORD:
            self._skipping = True
            self.offset += size
        else:
            self._need = 2 * size


def text_of(driver: str, sieve: Sieve) -> JsonText | K8sText:
    """The parser for a driver's format.

    Raises:
        LogNotReadable: it has none.
    """
    if driver == "json-file":
        return JsonText(sieve)
    if driver == "k8s-file":
        return K8sText(sieve)
    raise LogNotReadable("configured logging driver does not support reading")


def read(
    log_path: Path | str,
    driver: str,
    *,
    streams: Collection[Stream] = BOTH,
    tail: int | None = None,
    since_ns: int | None = None,
    until_ns: int | None = None,
    timestamps: bool = False,
    framed: bool = False,
    details: bool = False,
    lined: bool = False,
    log: ContainerLog | None = None,
    block_size: int = BLOCK_SIZE,
    begin: Spot | None = None,
    upto: tuple[LogFile, int] | None = None,
) -> Chunks:
    """Read a log, the rotated files first; it need not belong to a running container.

    It may wait for the disk, and for a rotation under way.

    Args:
        log_path: The file that is, or was, being written.
        driver: Name of the driver that wrote it.
        streams: The streams to show.
        tail: Only this many records at the end, counted before anything else is left out, as Docker
            counts. None for all.
        since_ns: Leave records older than this out (ns since 1970). None or 0 for none.
        until_ns: End before the first record younger than this. None or 0 for no end.
        timestamps: Begin each record with its time.
        framed: Give stdcopy frames, not bare text.
        details: Begin each record with its attributes.
        lined: Give each line in a frame of its own, as Docker's clients expect it.
        log: The log, where this process is writing it. What comes later is not read.
        block_size: Bytes of the file that are read at once; a chunk is never larger.
        begin: Begin at this place, whatever `tail` says.
        upto: End at this size of this file.

    Returns:
        Chunks that hold whole records (and whole frames), never empty ones.

    Raises:
        LogNotReadable: the driver keeps no log.
        OSError: a file can't be opened or read.
    """
    wish = (streams, since_ns or 0, until_ns or 0, timestamps, framed, details, lined)
    selection = Selection(*wish)
    text_of(driver, Sieve(selection))
    parts = parts_of(os.fspath(log_path), log)
    if upto is not None:
        cut(parts, *upto)
    reader, missed = begin_at(parts, driver, selection, tail, begin)
    return Chunks(parts, reader, block_size, missed=missed)


def begin_at(
    parts: list[Part], driver: str, selection: Selection, tail: int | None, begin: Spot | None
) -> tuple[LogReader, bool]:
    """A reader at the place where it is to begin; parts before that are taken off.

    Returns:
        The reader, and whether the place `begin` is gone: then it begins with what is left.
    """
    found: tuple[int, int] | None
    if begin is None:
        found = place(parts, tail, selection.since_ns, TIME_OF[driver])
    else:
        found = find(parts, begin)
    index, offset = found or (0, 0)
    spot = spot_at(parts, index, offset)
    del parts[:index]
    return LogReader(driver, parts[0].file, selection, offset, spot), found is None


class Chunks(Iterator[bytes]):
    """The chunks of a log that is not followed.

    Attributes:
        missed: The place to begin at is gone; it began with what is left.
    """

    __slots__ = ("_block_size", "_parts", "_reader", "missed")

    def __init__(
        self, parts: list[Part], reader: LogReader, block_size: int, *, missed: bool
    ) -> None:
        self._parts = parts
        self._reader = reader
        self._block_size = block_size
        self.missed = missed

    @property
    def spot(self) -> Spot | None:
        """The place behind the last chunk; None where it is not known."""
        return self._reader.spot

    def __next__(self) -> bytes:
        parts, reader = self._parts, self._reader
        while parts and not reader.finished:
            if reader.offset < parts[0].end:
                chunk = reader.read_part(parts[0], self._block_size)
                if chunk:
                    return chunk
                continue
            del parts[0]
            if parts:
                reader.turn(parts[0].file)
        raise StopIteration
