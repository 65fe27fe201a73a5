"""Reading a log: its text, or a chosen part of it, in chunks that are ready to send."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Protocol

from logs import json_text, k8s_text
from logs.container_log import ContainerLog
from logs.framing import Stream
from logs.history import Part, parts_of, place
from logs.json_text import JsonText
from logs.k8s_text import K8sText
from logs.selection import BOTH, Selection, Sieve
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

    __slots__ = ("_need", "_sieve", "_skipping", "_text", "finished", "offset", "source")

    def __init__(self, driver: str, source: Source, selection: Selection, offset: int = 0) -> None:
        """Begin at `offset`, where a record must begin.

        Raises:
            LogNotReadable: the driver keeps no log.
        """
        self.source = source
        self.offset = offset
        self.finished = False
        self._need = 0
        self._skipping = False
        self._sieve = Sieve(selection)
        self._text = text_of(driver, self._sieve)

    @property
    def skipped(self) -> int:
        """Lines so far that were no records."""
        return self._text.skipped

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
    log: ContainerLog | None = None,
    block_size: int = BLOCK_SIZE,
) -> Iterator[bytes]:
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
        log: The log, where this process is writing it. What comes later is not read.
        block_size: Bytes of the file that are read at once; a chunk is never larger.

    Yields:
        Chunks that hold whole records (and whole frames), never empty ones.

    Raises:
        LogNotReadable: the driver keeps no log.
        OSError: a file can't be opened or read.
    """
    selection = Selection(streams, since_ns or 0, until_ns or 0, timestamps, framed)
    text_of(driver, Sieve(selection))
    parts = parts_of(os.fspath(log_path), log)
    return _chunks(parts, driver, selection, tail, block_size)


def _chunks(
    parts: list[Part], driver: str, selection: Selection, tail: int | None, block_size: int
) -> Iterator[bytes]:
    index, offset = place(parts, tail, selection.since_ns, TIME_OF[driver])
    del parts[:index]
    reader = LogReader(driver, parts[0].file, selection, offset)
    while True:
        part = parts.pop(0)
        while reader.offset < part.end and not reader.finished:
            chunk = reader.read_part(part, block_size)
            if chunk:
                yield chunk
        if reader.finished or not parts:
            return
        reader.turn(parts[0].file)
