"""All files of a log as one text: the rotated ones, compressed or not, and the newest."""

from __future__ import annotations

import os

from logs import index as sparse
from logs.container_log import ContainerLog
from logs.log_file import LogFile
from logs.packed import PackedFile
from logs.rotation import names_of
from logs.tailing import TimeOf, since_offset, tail_place

_CLOCK_GRAIN_NS = 1_000_000_000
"""A file's time of change lags behind its last record by a tick, or by what its system keeps."""

WORTH_SEARCHING = 1 << 20
"""Bytes from which on a place is searched for; what is shorter is read."""

FEW_RECORDS = 4096
"""So many are found by reading backwards as fast as by an index."""


class Part:
    """One file of a log.

    Attributes:
        file: Where it is read from.
        changed_ns: When it was written last (ns since 1970).
    """

    __slots__ = ("_directory", "_end", "changed_ns", "file")

    def __init__(
        self, file: LogFile | PackedFile, changed_ns: int, directory: str | None = None
    ) -> None:
        """Begin with all of a file; `directory` is where its index would be."""
        self.file = file
        self._directory = directory
        self.changed_ns = changed_ns
        self._end = file.size if isinstance(file, LogFile) else 0

    @property
    def end(self) -> int:
        """Where its last record ends; far away where that is not known yet."""
        return self.file.end if isinstance(self.file, PackedFile) else self._end

    def is_of(self, file: LogFile) -> bool:
        """Whether it is this file, by whichever descriptor."""
        return isinstance(self.file, LogFile) and self.file.inode == file.inode

    def cut(self, size: int) -> None:
        """Let it end at a size."""
        self._end = min(self._end, size)

    def tail(self, records: int) -> tuple[int, int]:
        """Where its last records begin, and how many those are."""
        if isinstance(self.file, PackedFile):
            there = self.file.count()
            found = min(records, there)
            return self.file.behind(there - found), found
        if records > FEW_RECORDS and self._directory is not None:
            known = sparse.entries(self._directory, self.file.inode, self.file.fd)
            offset = sparse.tail_offset(self.file.fd, self._end, records, known)
            if offset is not None:
                return offset, records
        return tail_place(self.file.fd, self._end, records)

    def since(self, since_ns: int, time_of: TimeOf) -> int:
        """Where the first record may be that is not older."""
        if isinstance(self.file, PackedFile) or self._end < WORTH_SEARCHING:
            return 0
        if self._directory is not None:
            found = sparse.entries(self._directory, self.file.inode, self.file.fd)
            offset = sparse.since_offset(self.file.fd, self._end, since_ns, found)
            if offset is not None:
                return offset
        return since_offset(self.file.fd, self._end, since_ns, time_of)


def parts_of(path: str, log: ContainerLog | None = None) -> list[Part]:
    """Open all files of a log, the oldest first; a consistent view, whatever is rotated meanwhile.

    It may wait for the disk, and for a rotation under way.

    Args:
        path: The file that is, or was, being written.
        log: The log, if it is being written by this process. The last part is then the file that
            it writes now.

    Raises:
        OSError: a file can't be opened.
    """
    names = names_of(path)
    with names.snapshot():
        parts = [_open(found) for _, found in sorted(names.numbered().items(), reverse=True)]
        file = log.file if log is not None else None
        if file is None:
            try:
                file = LogFile.for_reading(path)
            except FileNotFoundError:
                # A kill between two steps of a rotation leaves the rotated files alone.
                if not parts:
                    raise
                return parts
        elif parts and file.inode == getattr(parts[-1].file, "inode", 0):
            del parts[-1]  # its writer has just renamed it, and is about to turn to the next
        parts.append(Part(file, os.fstat(file.fd).st_mtime_ns, os.path.dirname(path)))
    return parts


def cut(parts: list[Part], file: LogFile, size: int) -> None:
    """Take off what is behind a size of a file; where that file is not among them, nothing."""
    for index, part in enumerate(parts):
        if part.is_of(file):
            part.cut(size)
            del parts[index + 1 :]
            return


def _open(path: str) -> Part:
    file = PackedFile(path) if path.endswith(".gz") else LogFile.for_reading(path)
    return Part(file, os.stat(path).st_mtime_ns, os.path.dirname(path))


def place(parts: list[Part], tail: int | None, since_ns: int, time_of: TimeOf) -> tuple[int, int]:
    """Where a reader begins that wants the last `tail` records, and none before `since_ns`.

    `tail` of None or below 0 means all. What is too old is still to be left out by the reader.

    Returns:
        The index of a part, and an offset in it.
    """
    index = offset = 0
    if tail is not None and tail >= 0:
        for index in range(len(parts) - 1, -1, -1):
            offset, found = parts[index].tail(tail)
            tail -= found
            if tail <= 0:
                break
    if since_ns:
        last = len(parts) - 1
        while index < last and parts[index].changed_ns + _CLOCK_GRAIN_NS < since_ns:
            index, offset = index + 1, 0
        offset = max(offset, parts[index].since(since_ns, time_of))
    return index, offset
