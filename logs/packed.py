"""A compressed file of a log, read from its beginning to its end."""

from __future__ import annotations

import os
import zlib

import structlog

from logs.lines import behind_newlines

log = structlog.get_logger()

UNKNOWN = 1 << 62
_CHUNK = 1 << 16
_STEP = 1 << 20


class PackedFile:
    """A gzip file that is read like a plain one, only forwards; `rewind` begins again.

    Attributes:
        end: Size of the contents: `UNKNOWN` until they have been read to their end.
    """

    __slots__ = ("_data", "_fd", "_path", "_start", "_unpacker", "end")

    def __init__(self, path: str) -> None:
        """Open it. Raises OSError."""
        self._path = path
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self.end = UNKNOWN
        self.rewind()

    def rewind(self) -> None:
        """Begin again."""
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        self._start = 0
        self._data = b""

    def read(self, size: int, offset: int) -> bytes:
        """Read `size` bytes at `offset`, less at the end. What is before `offset` is given up.

        A damaged file ends where the damage begins. Raises OSError.
        """
        while self._start + len(self._data) < offset + size:
            if self._start + len(self._data) <= offset:
                self._start += len(self._data)
                self._data = b""
            more = self._unpack()
            if not more:
                self.end = self._start + len(self._data)
                break
            self._data += more
        at = max(0, offset - self._start)
        self._start += at
        self._data = self._data[at:]
        return self._data[:size]

    def count(self) -> int:
        """How many newlines it has; read it whole and begin again."""
        found = 0
        while block := self._unpack():
            found += block.count(b"\n")
        self.rewind()
        return found

    def behind(self, newlines: int) -> int:
        """Offset behind so many newlines; then begin again."""
        offset = 0
        while newlines and (block := self._unpack()):
            here = block.count(b"\n")
            if here < newlines:
                newlines -= here
                offset += len(block)
                continue
            offset += behind_newlines(block, newlines)
            break
        self.rewind()
        return offset

    def close(self) -> None:
        """Close it; a second time nothing happens."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()

    def _unpack(self) -> bytes:
        unpacker = self._unpacker
        try:
            while True:
                packed = unpacker.unconsumed_tail
                if unpacker.eof:
                    packed = unpacker.unused_data or os.read(self._fd, _CHUNK)
                    if not packed:
                        return b""
                    unpacker = self._unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
                elif not packed:
                    packed = os.read(self._fd, _CHUNK)
                    if not packed:
                        raise zlib.error("the file ends too early")
                block = unpacker.decompress(packed, _STEP)
                if block:
                    return block
        except zlib.error as error:
            log.warning("log.damaged", path=self._path, error=str(error))
            return b""
