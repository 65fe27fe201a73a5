"""A sparse index of a log file: how many records there are before a place, and how old they are.

The writer notes a place about once for each MiB, so the last million records of a gigabyte, or
those since last night, are found by a few small reads. It is kept beside the log, in
`log-index.INODE`: a rotation changes names and not inodes. Each entry stands for itself (numbers
count from the file's beginning), so one that is missing costs a longer search and nothing else. It
also holds a checksum of the bytes in front of its place: what belongs to another file of the same
inode, or to what somebody has cut off, is seen and not believed.

An entry is 32 bytes, little-endian: offset, records before it, the newest time of those (ns since
1970), CRC-32 of the 64 bytes before it.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import os
import struct
import zlib
from collections.abc import Sequence
from time import time_ns
from typing import NamedTuple

from logs.lines import behind_newlines
from logs.records import Buffer

STEP = 1 << 20
"""Bytes of the log from one entry to the next, at least."""

_ENTRY = struct.Struct("<QQQI4x")
_CHECKED = 64
_LONGEST_COUNT = 64 * STEP
"""More than this is not counted to go on with an index that has lost its end."""

_BLOCK = 1 << 18


class Entry(NamedTuple):
    """A place between two records."""

    offset: int
    records: int
    newest_ns: int
    checksum: int


def path_of(directory: str, inode: int) -> str:
    """Where the index of a file is."""
    return f"{directory}/log-index.{inode}"


def inode_of(name: str) -> int:
    """Of which file an index is, by its name; 0 where it is none."""
    word, _, inode = name.partition("log-index.")
    return int(inode) if not word and inode.isdecimal() and inode.isascii() else 0


def drop(directory: str, inode: int) -> None:
    """Delete the index of a file that goes; one that can't be deleted is found out when read."""
    with contextlib.suppress(OSError):
        os.unlink(path_of(directory, inode))


def count_records(block: bytes) -> int:
    """How many newlines there are; several times as fast as `bytes.count` for long lines."""
    return len(block) - len(block.replace(b"\n", b""))


class IndexWriter:
    """Notes places while a file is written. It holds no descriptor, and never fails."""

    __slots__ = (
        "_begin",
        "_directory",
        "_fd",
        "_fresh",
        "_inode",
        "_newest_ns",
        "_next",
        "_records",
    )

    def __init__(self, directory: str, inode: int, fd: int) -> None:
        self._directory = directory
        self._inode = inode
        self._fd = fd
        # What was there before our first write is counted when the first place is noted.
        self._begin = -1
        self._records = 0
        self._newest_ns = 0
        self._next = 0
        self._fresh = False

    def note(self, end: int, size: int, records: int, tail: Sequence[Buffer]) -> None:
        """So many records of `size` bytes were appended, up to `end`.

        Args:
            tail: What was appended, or its last buffers.
        """
        if self._begin < 0:
            self._begin = end - size
            self._next = (self._begin // STEP + 1) * STEP
            self._fresh = not self._begin
        self._records += records
        now = time_ns()
        if now > self._newest_ns:
            self._newest_ns = now
        if end >= self._next:
            self._next = (end // STEP + 1) * STEP
            self._add(end, tail)

    def restart(self) -> None:
        """Somebody has cut the file: it begins anew."""
        drop(self._directory, self._inode)
        self._begin = 0
        self._records = 0
        self._newest_ns = 0
        self._next = STEP
        self._fresh = True

    def _add(self, end: int, tail: Sequence[Buffer]) -> None:
        try:
            if self._begin > 0 and not self._count_before():
                self._next = 1 << 62  # without a beginning there is no index
                return
            checked = bytes(tail[-1][-_CHECKED:])
            if len(checked) < min(_CHECKED, end):
                checked = os.pread(self._fd, _CHECKED, max(0, end - _CHECKED))
            entry = _ENTRY.pack(end, self._records, self._newest_ns, zlib.crc32(checked))
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            if self._fresh:
                flags |= os.O_TRUNC  # it is of a file that had this inode before
                self._fresh = False
            fd = os.open(path_of(self._directory, self._inode), flags, 0o640)
            try:
                os.write(fd, entry)
            finally:
                os.close(fd)
        except OSError:
            return  # this place is not noted, then: no room, or no descriptor

    def _count_before(self) -> bool:
        """Learn what was there before we began; False where that would take too long."""
        found = entries(self._directory, self._inode, self._fd)
        known = last(self._fd, self._begin, found)
        # A kill may have left entries of what was cut off afterwards.
        kept = found.index(known) + 1 if known is not START else 0
        with contextlib.suppress(FileNotFoundError):
            os.truncate(path_of(self._directory, self._inode), kept * _ENTRY.size)
        if self._begin - known.offset > _LONGEST_COUNT:
            return False
        self._records += known.records + _count(self._fd, known.offset, self._begin)
        self._newest_ns = max(self._newest_ns, known.newest_ns)
        self._begin = 0
        return True


START = Entry(0, 0, 0, 0)


def entries(directory: str, inode: int, fd: int) -> list[Entry]:
    """The index of a file, in order; empty where there is none that is of this file.

    Raises:
        OSError: The log can't be read.
    """
    try:
        index = os.open(path_of(directory, inode), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return []
    try:
        data = os.pread(index, os.fstat(index).st_size, 0)
    finally:
        os.close(index)
    whole = len(data) - len(data) % _ENTRY.size
    found = [Entry(*values) for values in _ENTRY.iter_unpack(data[:whole])]
    for one, following in itertools.pairwise(found):
        if following.offset <= one.offset or following.records <= one.records:
            return []
    # The first tells whether it is this file's: whoever has cut that off has cut the rest, too.
    return found if not found or _is_right(fd, found[0]) else []


def last(fd: int, end: int, found: Sequence[Entry]) -> Entry:
    """The last entry before `end` that is right, or else the file's beginning. Raises OSError."""
    number = bisect.bisect_right(found, end, key=lambda one: one.offset)
    while number:
        number -= 1
        if _is_right(fd, found[number]):
            return found[number]
    return START


def tail_offset(fd: int, end: int, records: int, found: Sequence[Entry]) -> int | None:
    """Where the last `records` records before `end` begin; None where the index can't tell.

    Raises:
        OSError: The log can't be read.
    """
    known = last(fd, end, found)
    if known is START:
        return None
    wanted = known.records + _count(fd, known.offset, end) - records
    if wanted <= 0:
        return None  # all of this file, and maybe more: who counts it does so anyhow
    number = bisect.bisect_right(found, wanted, key=lambda one: one.records)
    near = found[number - 1] if number else START
    if near is not START and not _is_right(fd, near):
        return None
    return _skip(fd, near.offset, wanted - near.records, end)


def since_offset(fd: int, end: int, since_ns: int, found: Sequence[Entry]) -> int | None:
    """A place before which all are older than `since_ns`; None where the index can't tell.

    It holds whatever the clock has done meanwhile.

    Raises:
        OSError: The log can't be read.
    """
    number = bisect.bisect_left(found, since_ns, key=lambda one: one.newest_ns)
    if not found or (number and not _is_right(fd, found[number - 1])):
        return None
    return min(found[number - 1].offset, end) if number else 0


def _is_right(fd: int, entry: Entry) -> bool:
    size = min(_CHECKED, entry.offset)
    checked = os.pread(fd, size, entry.offset - size)
    return len(checked) == size and zlib.crc32(checked) == entry.checksum


def _count(fd: int, start: int, end: int) -> int:
    found = 0
    while start < end:
        block = os.pread(fd, min(_BLOCK, end - start), start)
        if not block:
            break
        found += count_records(block)
        start += len(block)
    return found


def _skip(fd: int, start: int, records: int, end: int) -> int | None:
    """The offset behind so many records; None where there are less."""
    while records > 0:
        block = os.pread(fd, min(_BLOCK, end - start), start)
        if not block:
            return None
        there = count_records(block)
        if there < records:
            records -= there
            start += len(block)
            continue
        return start + behind_newlines(block, records)
    return start
