"""One file of a log: the one that is written now, or one that it has been."""

from __future__ import annotations

import os

from logs import background

WRITE_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW

QUICKLY_DELETED = 1 << 20
"""Bytes of a file whose blocks are freed in no time."""


class LogFile:
    """A descriptor of a log file, closed when nobody refers to it.

    The writer refers to the newest file, a follower to the one that it reads, and each file to its
    successor: so a follower that lags finds all that was written since, whatever became of the
    files' names meanwhile.

    Attributes:
        fd: The descriptor, -1 once it is closed.
        inode: The file's.
        end: Bytes of whole records in it, as its writer knows.
        size: The same as far as it is marked: readers go so far and no further. What is behind it
            would be written anew after a kill, with other times.
        truncations: How often somebody else has cut it.
        after: The file that followed it, and how many bytes were let go of between the two; None
            while it is the newest. Set once `size` is final.
        doomed: Its name is gone or will be: its last close frees its blocks, which takes time.
    """

    __slots__ = ("__weakref__", "after", "doomed", "end", "fd", "inode", "size", "truncations")

    def __init__(self, fd: int) -> None:
        """Take a descriptor over. Raises OSError."""
        self.fd = fd
        self.doomed = False
        try:
            status = os.fstat(fd)
        except OSError:
            self.close()
            raise
        self.inode = status.st_ino
        self.end = self.size = status.st_size
        self.truncations = 0
        self.after: tuple[LogFile, int] | None = None

    @classmethod
    def for_writing(cls, path: str) -> LogFile:
        """Open or make a log. Raises OSError."""
        return cls(os.open(path, WRITE_FLAGS, 0o640))

    @classmethod
    def for_reading(cls, path: str) -> LogFile:
        """Open a log that is there. Raises OSError."""
        return cls(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW))

    def read(self, size: int, offset: int) -> bytes:
        """Read a part of it. Raises OSError."""
        return os.pread(self.fd, size, offset)

    def read_cached(self, size: int, offset: int) -> bytes:
        """Read what is in memory already, and never wait for a disk (preadv2(2), RWF_NOWAIT).

        Raises:
            OSError: It is not in memory, or its file system can't tell.
        """
        block = bytearray(size)
        read = os.preadv(self.fd, [block], offset, os.RWF_NOWAIT)
        return bytes(memoryview(block)[:read])

    def close(self) -> None:
        """Close it; a second time nothing happens."""
        fd, self.fd = self.fd, -1
        if fd < 0:
            return
        if self.doomed:
            background.close(fd)
        else:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


class Remembered(LogFile):
    """A small file that a follower has yet to read, kept in memory to spare its descriptor."""

    __slots__ = ("_data",)

    def __init__(self, file: LogFile) -> None:
        """Read it. Raises OSError."""
        self.fd = -1
        self.inode = file.inode
        self._data = os.pread(file.fd, file.size, 0)
        self.end = self.size = len(self._data)
        self.truncations = 0
        self.after = file.after
        self.doomed = False

    def read(self, size: int, offset: int) -> bytes:
        return self._data[offset : offset + size]
