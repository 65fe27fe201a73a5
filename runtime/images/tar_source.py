"""The bytes of an archive: read from a descriptor, decompressed, hashed, counted.

    descriptor -> [decompressor by magic] -> sha256 -> TarSource.read / take

`TarSource` looks like a file that can only be read forwards, which is all that tarfile asks for;
`take` gives file content without copying it. A second thread reads, decompresses and hashes
(all of which let go of the interpreter's lock) while the first writes files.
"""

from __future__ import annotations

import bz2
import hashlib
import lzma
import os
import queue
import threading
import zlib
from collections.abc import Iterator
from typing import Protocol

CHUNK = 1 << 18
_QUEUED = 16
# tarfile reads headers through read(): one PAX header with its attributes is never this large.
LARGEST_HEADER = 4 << 20
_LZMA_MEMORY = 256 << 20

_GZIP = b"\x1f\x8b"
_BZIP2 = b"BZh"
_XZ = b"\xfd7zXZ\x00"
_ZSTD = b"\x28\xb5\x2f\xfd"


class Refusal(Exception):
    """The archive can't be unpacked; the text is for people."""


class Truncated(Refusal):
    """The archive ends before it should."""


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /, max_length: int) -> bytes: ...


class _Gunzip:
    """zlib's decompressor with the shape of bz2's: what did not fit is kept for the next call."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, /, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


def chunks_of(fd: int) -> Iterator[bytes]:
    """The uncompressed bytes behind a descriptor, in pieces of at most CHUNK bytes.

    Raises:
        Refusal: zstd, damaged or truncated compressed data.
    """
    head = b""
    while len(head) < len(_XZ):
        piece = os.read(fd, CHUNK)
        if not piece:
            break
        head += piece
    if head.startswith(_ZSTD):
        raise Refusal("zstd is not supported yet; decompress it first")
    if head.startswith(_GZIP):
        yield from _decompressed(fd, head, "gzip")
    elif head.startswith(_BZIP2):
        yield from _decompressed(fd, head, "bzip2")
    elif head.startswith(_XZ):
        yield from _decompressed(fd, head, "xz")
    else:
        while head:
            yield head
            head = os.read(fd, CHUNK)


_MAGIC = {"gzip": _GZIP, "bzip2": _BZIP2, "xz": _XZ}


def _new(kind: str) -> _Decompressor:
    if kind == "gzip":
        return _Gunzip()
    if kind == "bzip2":
        return bz2.BZ2Decompressor()
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY)


def _decompressed(fd: int, head: bytes, kind: str) -> Iterator[bytes]:
    """Decompresses one or more streams that follow one another.

    What follows the last one and is no further stream (padding of a tape, say) is read away.
    """
    decompressor = _new(kind)
    data = head
    try:
        while True:
            piece = decompressor.decompress(data, max_length=CHUNK)
            data = b""
            if piece:
                yield piece
            if decompressor.eof:
                rest = _at_least(fd, decompressor.unused_data, len(_XZ))
                if not rest.startswith(_MAGIC[kind]):
                    break
                decompressor, data = _new(kind), rest
            elif len(piece) < CHUNK:
                data = os.read(fd, CHUNK)
                if not data:
                    raise Truncated(f"the archive is truncated: its {kind} data ends too early")
        while os.read(fd, CHUNK):
            pass
    except (zlib.error, OSError, EOFError, lzma.LZMAError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise Refusal(f"the archive's {kind} data is damaged: {error}") from None


def _at_least(fd: int, data: bytes, length: int) -> bytes:
    while len(data) < length:
        piece = os.read(fd, CHUNK)
        if not piece:
            break
        data += piece
    return data


class TarSource:
    """The uncompressed archive, forwards only.

    Attributes:
        last_read: What the most recent `read` returned: tells a proper end of archive (zeros)
            from garbage.
        cut_short: Whether it returned less than was asked for: the archive just stops.
    """

    def __init__(self, fd: int) -> None:
        self._queue: queue.Queue[bytes | BaseException | None] = queue.Queue(_QUEUED)
        self._hash = hashlib.sha256()
        self._current = memoryview(b"")
        self._position = 0
        self._ended = False
        self.last_read = b""
        self.cut_short = False
        self._thread = threading.Thread(target=self._feed, args=(fd,), daemon=True)
        self._thread.start()

    def tell(self) -> int:
        """Bytes consumed so far."""
        return self._position

    def seek(self, position: int, whence: int = 0) -> int:
        """Skips forwards; a header that points backwards is hostile.

        Raises:
            Refusal: Backwards.
            Truncated: Beyond the end.
        """
        if whence != 0 or position < self._position:
            raise Refusal("damaged archive: a header points backwards")
        while self._position < position:
            if not self.take(position - self._position):
                raise Truncated("the archive is truncated")
        return self._position

    def read(self, length: int = -1) -> bytes:
        """Up to `length` bytes, fewer at the end only: headers, never file content.

        Raises:
            Refusal: An absurd length.
        """
        if not 0 <= length <= LARGEST_HEADER:
            raise Refusal(f"damaged archive: a header claims {length} bytes")
        first = self.take(length)
        if len(first) == length:
            data = bytes(first)
        else:
            parts = [first]
            missing = length - len(first)
            while missing and (part := self.take(missing)):
                parts.append(part)
                missing -= len(part)
            data = b"".join(parts)
        self.last_read = data
        self.cut_short = len(data) < length
        return data

    def take(self, length: int) -> memoryview:
        """At least one and at most `length` bytes, without a copy; empty at the end.

        Raises:
            Refusal: The compressed data is damaged or truncated.
        """
        if not self._current and not self._ended:
            self._refill()
        piece = self._current[:length]
        self._current = self._current[length:]
        self._position += len(piece)
        return piece

    def drain(self) -> None:
        """Reads to the very end, so that the writer gets no EPIPE and the digest is complete."""
        while not self._ended:
            self._position += len(self._current)
            self._refill()

    def diff_id(self) -> str:
        """sha256 (hex) of all uncompressed bytes; call after `drain`."""
        self._thread.join()
        return self._hash.hexdigest()

    def _refill(self) -> None:
        item = self._queue.get()
        if isinstance(item, BaseException):
            self._ended = True
            raise item
        self._ended = item is None
        self._current = memoryview(item or b"")

    def _feed(self, fd: int) -> None:
        """The second thread."""
        try:
            for chunk in chunks_of(fd):
                self._hash.update(chunk)
                self._queue.put(chunk)
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that reads
            self._queue.put(error)
        else:
            self._queue.put(None)
