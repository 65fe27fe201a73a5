"""What a log format has to offer the writer. `json_file` and `k8s_file` are the two."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

Buffer = bytes | memoryview


class Records(list[Buffer]):
    """Buffers for one `writev`, and how many records they are.

    Attributes:
        number: So many; -1 where nobody has counted.
    """

    __slots__ = ("number",)

    def __init__(self, buffers: Iterable[Buffer], number: int) -> None:
        super().__init__(buffers)
        self.number = number


class RecordWriter(Protocol):
    """Turns text into records, as buffers for one `writev`."""

    def lines(self, stream: bytes, held: bytes, text: bytes, end: int, time_ns: int) -> Records:
        """Records for the whole lines `held + text[:end]`; `text[end - 1]` is a newline.

        No line among them is longer than `lines.PIECE`.
        """
        ...

    def piece(self, stream: bytes, text: bytes, time_ns: int) -> bytes:
        """One record for a part of a line that does not end here: no newline in `text`."""
        ...
