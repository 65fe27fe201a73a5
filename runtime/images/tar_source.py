"""The bytes of an archive: read from a descriptor, decompressed, hashed, counted.

    descriptor -> Archive: kept as a blob -> [decompressor by magic] -> sha256 -> TarSource

`TarSource` looks like a file that can only be read forwards, which is all that tarfile asks for;
`take` gives file content without copying it. A second thread reads, decompresses and hashes
(all of which let go of the interpreter's lock) while the first writes files.
"""

from __future__ import annotations

import bz2
import contextlib
import functools
import hashlib
import importlib
import lzma
import os
import queue
import threading
import zlib
from collections.abc import Iterator
from types import ModuleType
from typing import Protocol

CHUNK = 1 << 18
_QUEUED = 16
# tarfile reads headers through read(): one PAX header with its attributes is never this large.
LARGEST_HEADER = 4 << 20
_LZMA_MEMORY = 256 << 20
_ZSTD_WINDOW = 128 << 20

_GZIP = b"\x1f\x8b"
_BZIP2 = b"BZh"
_XZ = b"\xfd7zXZ\x00"
_ZSTD = b"\x28\xb5\x2f\xfd"
_MAGIC = {"gzip": _GZIP, "bzip2": _BZIP2, "xz": _XZ, "zstd": _ZSTD}

# The three forms of a layer: https://github.com/opencontainers/image-spec/blob/main/layer.md
_TAR = "application/vnd.oci.image.layer.v1.tar"
_KEPT_AS_IT_IS = {"gzip": "+gzip", "zstd": "+zstd"}


def is_kept_as_it_is(head: bytes) -> bool:
    """Whether a layer's archive that begins so is its own blob: a plain tar, gzip or zstd."""
    kind = next((kind for kind, magic in _MAGIC.items() if head.startswith(magic)), "")
    return not kind or kind in _KEPT_AS_IT_IS


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


def load_libraries() -> None:
    """Import all decompressors, for archives that are met where nothing can be any more."""
    for name in ("zstandard", "isal.igzip_lib"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


class Archive:
    """The bytes of an archive as they come: hashed, counted, and kept as a layer's blob.

    A plain tar, gzip and zstd are what a registry takes, and are kept as they are; of anything
    else the tar in it is.

    Attributes:
        came: Bytes that were read so far, compressed as they are.
    """

    def __init__(self, fd: int, blob_fd: int = -1) -> None:
        """Begin; nothing is read yet.

        Args:
            blob_fd: Where it is kept; -1 for nowhere.
        """
        self.came = 0
        self._fd = fd
        self._blob_fd = blob_fd
        self._raw_hash = hashlib.sha256()
        self._kept = 0
        self._head = b""
        self._zstandard: ModuleType | None = None
        self._isal: ModuleType | None = None

    @functools.cached_property
    def kind(self) -> str:
        """How it is compressed, by its first bytes, which this waits for; empty for a plain tar."""
        while len(self._head) < len(_XZ):
            piece = os.read(self._fd, CHUNK)
            if not piece:
                break
            self._head += piece
        known = (kind for kind, magic in _MAGIC.items() if self._head.startswith(magic))
        return next(known, "")

    def load(self) -> None:
        """Imports a decompressor that the standard library lacks, or has a slower one than.

        Not within a root that is not this machine's: what is imported there is a stranger's.
        """
        with contextlib.suppress(ImportError):
            if self.kind == "zstd":
                import zstandard

                self._zstandard = zstandard
            elif self.kind == "gzip":
                from isal import igzip_lib

                self._isal = igzip_lib

    @property
    def damage(self) -> tuple[type[Exception], ...]:
        """What decompressors raise when the data is no good."""
        zstd = (self._zstandard.ZstdError,) if self._zstandard else ()
        gzip = (self._isal.IsalError,) if self._isal else ()
        return (OSError, EOFError, zlib.error, lzma.LZMAError, *zstd, *gzip)

    def new_decompressor(self) -> _Decompressor:
        """For the next stream of its kind.

        Raises:
            Refusal: There is none here.
        """
        if self.kind == "gzip":
            if self._isal is None:
                return _Gunzip()
            # More than twice as fast as zlib, and made for x86_64 and aarch64 alone.
            fast: _Decompressor = self._isal.IgzipDecompressor(flag=self._isal.DECOMP_GZIP)
            return fast
        if self.kind == "bzip2":
            return bz2.BZ2Decompressor()
        if self.kind == "xz":
            return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY)
        if self._zstandard is None:
            raise Refusal("zstd can't be unpacked here: use gzip, or pip install zstandard")
        return _Unzstd(self._zstandard)

    def read(self, length: int = CHUNK) -> bytes:
        """Up to `length` bytes; empty at the end."""
        kept_as_it_is = self.kind in _KEPT_AS_IT_IS
        if self._head:
            piece, self._head = self._head[:length], self._head[length:]
        else:
            piece = os.read(self._fd, length)
        self.came += len(piece)
        if kept_as_it_is:
            self._raw_hash.update(piece)
            self._keep(piece)
        return piece

    def chunks(self) -> Iterator[bytes]:
        """The uncompressed bytes, in pieces of at most CHUNK bytes.

        Raises:
            Refusal: Damaged or truncated compressed data.
            OSError: It can't be kept, such as on a full disk.
        """
        for piece in _decompressed(self) if self.kind else iter(self.read, b""):
            if self.kind not in _KEPT_AS_IT_IS:
                self._keep(piece)
            yield piece

    def blob(self, diff_id: str) -> dict[str, object]:
        """What is kept, once all was read.

        Args:
            diff_id: sha256 (hex) of the uncompressed bytes.
        """
        digits = self._raw_hash.hexdigest() if self.kind in _KEPT_AS_IT_IS else diff_id
        return {
            "digest": f"sha256:{digits}",
            "blob_size": self._kept,
            "media_type": _TAR + _KEPT_AS_IT_IS.get(self.kind, ""),
        }

    def _keep(self, piece: bytes) -> None:
        self._kept += len(piece)
        if self._blob_fd >= 0:
            view = memoryview(piece)
            while view:
                view = view[os.write(self._blob_fd, view) :]


class _Unzstd:
    """zstandard's decompressor with the shape of bz2's.

    It can't be told how much may come out at a time, so it gets little at a time: a block of 4
    bytes may become 128 KiB (RFC 8878, 3.1.1.2.3).
    """

    _AT_ONCE = 4096

    def __init__(self, zstandard: ModuleType) -> None:
        self._inner = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
        self._data = b""
        self._position = 0
        self._out = memoryview(b"")

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof) and not self._out

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inner.unused_data) + self._data[self._position :]

    def decompress(self, data: bytes, /, max_length: int) -> bytes:
        if data:
            self._data, self._position = self._data[self._position :] + data, 0
        parts: list[bytes] = []
        missing = max_length
        while missing:
            if self._out:
                part = bytes(self._out[:missing])
                self._out = self._out[missing:]
                missing -= len(part)
                parts.append(part)
            elif self._inner.eof or self._position >= len(self._data):
                break
            else:
                piece = self._data[self._position : self._position + self._AT_ONCE]
                self._position += len(piece)
                self._out = memoryview(self._inner.decompress(piece))
        return b"".join(parts)


def _decompressed(archive: Archive) -> Iterator[bytes]:
    """Decompresses one or more streams that follow one another.

    What follows the last one and is no further stream (padding of a tape, say) is read away.
    """
    kind = archive.kind
    decompressor = archive.new_decompressor()
    data = archive.read()
    try:
        while True:
            piece = decompressor.decompress(data, max_length=CHUNK)
            data = b""
            if piece:
                yield piece
            if decompressor.eof:
                rest = _at_least(archive, decompressor.unused_data, len(_XZ))
                if not rest.startswith(_MAGIC[kind]):
                    break
                decompressor, data = archive.new_decompressor(), rest
            elif len(piece) < CHUNK:
                data = archive.read()
                if not data:
                    raise Truncated(f"the archive is truncated: its {kind} data ends too early")
        while archive.read():
            pass
    except Refusal:
        raise
    except archive.damage as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise Refusal(f"the archive's {kind} data is damaged: {error}") from None


def _at_least(archive: Archive, data: bytes, length: int) -> bytes:
    while len(data) < length:
        piece = archive.read()
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

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._queue: queue.Queue[bytes | BaseException | None] = queue.Queue(_QUEUED)
        self._hash = hashlib.sha256()
        self._current = memoryview(b"")
        self._position = 0
        self._ended = False
        self.last_read = b""
        self.cut_short = False
        self._thread = threading.Thread(target=self._feed, daemon=True)
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

    def _feed(self) -> None:
        """The second thread."""
        try:
            for chunk in self._archive.chunks():
                self._hash.update(chunk)
                self._queue.put(chunk)
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that reads
            self._queue.put(error)
        else:
            self._queue.put(None)
