"""HTTP's chunked coding, decoded without copying. Pure.

Logs move at hundreds of megabytes a second, so the body's pieces are views into the buffer that
the socket was read into.
"""

from __future__ import annotations

from mdocker.errors import EngineUnreachable

_LONGEST_LINE = 4096
_HEX = b"0123456789abcdefABCDEF"


class ChunkDecoder:
    """Feed it what the socket gives, get the body's pieces as views into it.

    Attributes:
        done: The last chunk and its trailer have been read.
    """

    __slots__ = ("_left", "_line", "_state", "done")

    _SIZE, _DATA, _DATA_END, _TRAILER = range(4)

    def __init__(self) -> None:
        self.done = False
        self._state = self._SIZE
        self._left = 0
        self._line = b""

    def feed(self, data: memoryview) -> list[memoryview]:
        """Decode more input. The views live as long as the buffer they point into.

        Raises:
            EngineUnreachable: The input is not chunked coding.
        """
        pieces: list[memoryview] = []
        position = 0
        size = len(data)
        while position < size and not self.done:
            if self._state == self._DATA:
                taken = min(self._left, size - position)
                pieces.append(data[position : position + taken])
                position += taken
                self._left -= taken
                if not self._left:
                    self._state = self._DATA_END
                continue
            # A chunk's head is a few bytes, so a short look ahead finds its end.
            window = bytes(data[position : position + 64])
            end = window.find(b"\n")
            if end < 0:
                self._line += window
                position += len(window)
                if len(self._line) > _LONGEST_LINE:
                    raise EngineUnreachable("the engine's answer is garbled: endless chunk head")
                continue
            line = (self._line + window[:end]).rstrip(b"\r")
            self._line = b""
            position += end + 1
            self._take_line(line)
        return pieces

    def _take_line(self, line: bytes) -> None:
        if self._state == self._DATA_END:
            if line:
                raise EngineUnreachable("the engine's answer is garbled: a chunk is too long")
            self._state = self._SIZE
        elif self._state == self._TRAILER:
            self.done = not line
        else:
            digits = line.partition(b";")[0].strip()
            try:
                # int() alone would take "+5", "0x5" and "5_0" as well.
                if digits.strip(_HEX):
                    raise ValueError
                self._left = int(digits, 16)
            except ValueError:
                raise EngineUnreachable(
                    f"the engine's answer is garbled: {line[:32]!r} is no chunk size"
                ) from None
            self._state = self._DATA if self._left else self._TRAILER
