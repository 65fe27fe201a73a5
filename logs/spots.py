"""Places in a log that outlive renames, compression and the process that named them.

A place between two records is told by its offset in its file and a checksum of the bytes in front
of it. Those bytes hold a time in ns, so no other place has them: neither the file's name nor its
inode has to stay what it was.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from logs.history import Part
from logs.packed import PackedFile

TAIL = 64
"""Bytes in front of a place that are looked at, at most."""

_WORD = re.compile(r"(\d{1,18})-(\d{1,2})-([0-9a-f]{1,8})")


class Spot(NamedTuple):
    """A place.

    Attributes:
        offset: Bytes in front of it in its file.
        length: How many of them the checksum is of.
        checksum: CRC-32.
    """

    offset: int
    length: int
    checksum: int

    def spell(self) -> str:
        """The place as a word."""
        return f"{self.offset}-{self.length}-{self.checksum:x}"

    @classmethod
    def behind(cls, tail: bytes, offset: int) -> Spot:
        """The place at `offset`, in front of which stands `tail` (all of it, or its end)."""
        tail = tail[-TAIL:]
        return cls(offset, len(tail), zlib.crc32(tail))

    @classmethod
    def read(cls, word: str) -> Spot:
        """The place that a word tells. Raises ValueError where it tells none."""
        found = _WORD.fullmatch(word)
        if found is None:
            raise ValueError(f"{word[:64]!r} is no place in a log")
        return cls(int(found[1]), int(found[2]), int(found[3], 16))


START = Spot(0, 0, 0)
"""The beginning of a log."""


def spot_at(parts: Sequence[Part], index: int, offset: int) -> Spot | None:
    """The place at an offset in a part; None where nothing tells it from others.

    Raises:
        OSError: a file can't be read.
    """
    if not offset:
        if not index:
            return START
        index -= 1
        offset = parts[index].end
        if isinstance(parts[index].file, PackedFile) or not offset:
            return None
    length = min(TAIL, offset)
    return Spot.behind(parts[index].file.read(length, offset - length), offset)


def find(parts: Sequence[Part], spot: Spot) -> tuple[int, int] | None:
    """Where a place is: the index of a part, and the offset in it; None where it is gone.

    Looks at the newest first. It may wait for the disk.

    Raises:
        OSError: a file can't be read.
    """
    if not spot.offset:
        return 0, 0
    if not spot.length:
        return None
    for index in range(len(parts) - 1, -1, -1):
        part = parts[index]
        if part.end < spot.offset:
            continue
        tail = part.file.read(spot.length, spot.offset - spot.length)
        if len(tail) == spot.length and zlib.crc32(tail) == spot.checksum:
            return index, spot.offset
        if isinstance(part.file, PackedFile):
            part.file.rewind()
    return None
