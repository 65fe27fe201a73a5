"""Docker's stdcopy framing: two byte streams over one connection. Pure: no I/O.

Each frame is an 8-byte header and its payload; the header is the stream's number, three zero bytes
and the payload's length as a big-endian 32-bit number. `attach`, `exec` and `logs` of a container
without a terminal speak it (Docker Engine API, "Stream format").
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator

HEADER_SIZE = 8
MAX_PAYLOAD = 1 << 20
"""The largest payload we put into one frame, in bytes. The format itself allows 4 GiB."""

_HEADER = struct.Struct(">BxxxI")
_KEPT_HEADS = 1024


class Stream(enum.IntEnum):
    """The streams that a frame can belong to, with their numbers on the wire."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    SYSTEMERR = 3


class FramingError(ValueError):
    """The bytes are no stdcopy frames."""


def frame_head(stream: Stream, size: int) -> bytes:
    """The header of a frame whose payload has `size` bytes."""
    return _HEADER.pack(stream, size)


def frame(stream: Stream, payload: bytes) -> bytes:
    """Wrap a payload, in several frames if it is longer than `MAX_PAYLOAD`. Empty stays empty."""
    size = len(payload)
    if size <= MAX_PAYLOAD:
        return _HEADER.pack(stream, size) + payload if size else b""
    parts: list[bytes] = []
    for start in range(0, size, MAX_PAYLOAD):
        piece = payload[start : start + MAX_PAYLOAD]
        parts += (_HEADER.pack(stream, len(piece)), piece)
    return b"".join(parts)


_HEADS = {
    stream: [_HEADER.pack(stream, size + 1) for size in range(_KEPT_HEADS)] for stream in Stream
}
"""The headers of lines by their length without the newline."""


def frame_lines(stream: Stream, text: bytes) -> bytes:
    """Wrap each line of a text, its newline included, in a frame of its own; and what is behind.

    Docker's frames are records, and clients hand them on as lines: `for line in
    container.logs(stream=True)`.
    """
    lines = text.split(b"\n")
    rest = frame(stream, lines.pop())
    if not lines:
        return rest
    # No step of Python for a line: half the time of a loop.
    sizes = list(map(len, lines))
    parts = [b"\n"] * (3 * len(lines))
    parts[1::3] = lines
    if max(sizes) < _KEPT_HEADS:
        parts[::3] = map(_HEADS[stream].__getitem__, sizes)
    else:
        parts[::3] = [_HEADER.pack(stream, size + 1) for size in sizes]
    parts.append(rest)
    return b"".join(parts)


class Demultiplexer:
    """Takes framed bytes in pieces of any size and gives back (stream, payload) pairs.

    Payloads are passed on as they arrive, so a frame that comes in pieces comes out in pieces.
    """

    __slots__ = ("_head", "_left", "_stream")

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        self._stream = Stream.STDIN

    @property
    def midway(self) -> bool:
        """True inside a frame: an end of input here means that the sender broke off."""
        return bool(self._head) or self._left > 0

    def feed(self, data: bytes) -> Iterator[tuple[Stream, bytes]]:
        """Yield what `data` completes.

        Raises:
            FramingError: a header that no stdcopy writer sends.
        """
        pos, size = 0, len(data)
        while pos < size:
            if not self._left:
                wanted = HEADER_SIZE - len(self._head)
                self._head += data[pos : pos + wanted]
                pos += wanted
                if len(self._head) < HEADER_SIZE:
                    return
                self._open(self._head)
                self._head = b""
                continue
            piece = data[pos : pos + self._left]
            pos += len(piece)
            self._left -= len(piece)
            yield self._stream, piece

    def _open(self, header: bytes) -> None:
        number, length = _HEADER.unpack(header)
        if number > Stream.SYSTEMERR or header[1:4] != b"\0\0\0":
            raise FramingError(f"not a stdcopy frame header: {header.hex(' ')}")
        self._stream = Stream(number)
        self._left = length
