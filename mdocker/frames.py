"""The 8-byte frames in which the engine mixes stdout and stderr, taken apart. Pure.

    byte 0       1 stdout, 2 stderr, 3 an error of the engine's own, 4 a place (`mdocker/place.py`)
    bytes 1-3    zero
    bytes 4-7    length of the payload, big-endian

Payloads are handed on as they come, not frame by frame: a frame may be longer than any buffer,
and what has arrived is what a person wants to see.
"""

from __future__ import annotations

import struct

from mdocker.errors import EngineUnreachable

STDOUT = 1
STDERR = 2
SYSTEM_ERROR = 3
PLACE = 4
_HEAD = 8
_unpack = struct.Struct(">BBHI").unpack_from


class Demultiplexer:
    """Feed it the stream, get (stream, view) pairs; neighbours of one stream may follow."""

    __slots__ = ("_head", "_left", "_stream")

    def __init__(self) -> None:
        self._head = b""
        self._left = 0
        self._stream = STDOUT

    @property
    def between_frames(self) -> bool:
        """Whether the input so far ends at the end of a frame."""
        return not self._left and not self._head

    def feed(self, data: memoryview) -> list[tuple[int, memoryview]]:
        """Take apart more input. The views live as long as the buffer they point into.

        Raises:
            EngineUnreachable: A frame's head is none.
        """
        pieces: list[tuple[int, memoryview]] = []
        position = 0
        size = len(data)
        while position < size:
            if not self._left and not self._head and position + _HEAD <= size:
                # Many small frames are the slow case, so a whole head takes the short way.
                stream, zero, zeros, self._left = _unpack(data, position)
                if stream > PLACE or zero or zeros:
                    raise _garbled(bytes(data[position : position + _HEAD]))
                self._stream = stream or STDOUT
                position += _HEAD
                continue
            if self._left:
                taken = min(self._left, size - position)
                pieces.append((self._stream, data[position : position + taken]))
                position += taken
                self._left -= taken
                continue
            wanted = _HEAD - len(self._head)
            head = self._head + bytes(data[position : position + wanted])
            position += wanted
            if len(head) < _HEAD:
                self._head = head
                break
            self._head = b""
            stream, zero, zeros, self._left = _unpack(head)
            if stream > PLACE or zero or zeros:
                raise _garbled(head)
            # 0 is stdin, which some engines echo; Docker's client shows it on stdout.
            self._stream = stream or STDOUT
        return pieces


def _garbled(head: bytes) -> EngineUnreachable:
    return EngineUnreachable(f"the engine's stream is garbled: {head!r} is no frame's head")
