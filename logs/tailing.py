"""Where in a log file to begin, found without reading the file from its start."""

from __future__ import annotations

import os
from collections.abc import Callable

from logs.index import count_records

_BLOCK = 1 << 16
_MARGIN = 1 << 17
_SAMPLES = 48
_LONGEST_RECORD = 1 << 20

TimeOf = Callable[[bytes], int]
"""Gives the time of a record in ns since 1970; ValueError where a line is none."""


def tail_place(fd: int, end: int, records: int) -> tuple[int, int]:
    """Offset of the last `records` records before `end`, and how many there are from there on.

    `end` is where a record ends. Reads backwards in blocks of 64 KiB, as far as needed. A record is
    a line of the file, so a piece of a long line counts too, as it does for Docker.
    """
    if records <= 0:
        return end, 0
    start = end
    # The newline at the very end closes the last record and opens none.
    left = records + 1
    while start > 0:
        size = min(_BLOCK, start)
        start -= size
        block = _pread(fd, size, start)
        found = count_records(block)
        if end == start + size and not block.endswith(b"\n"):
            left -= 1
        if found < left:
            left -= found
            continue
        at = len(block)
        for _ in range(left):
            at = block.rfind(b"\n", 0, at)
        return start + at + 1, records
    return 0, records + 1 - left


def since_offset(fd: int, end: int, since_ns: int, time_of: TimeOf) -> int:
    """Offset of a record before which all are older than `since_ns`, near to the first that isn't.

    Found by halving, so a log of any length takes about a hundred small reads. Records are nearly
    in the order of their times (a divided line keeps the time of its first piece), hence the answer
    lies somewhat before the place that was found. Where the clock has been set back, which shows in
    samples from all over the file, halving would mislead: the answer is 0.
    """
    samples = []
    for number in range(_SAMPLES if end > 8 * _MARGIN else 0):
        found = _record_from(fd, end * number // _SAMPLES, end, time_of)
        if found is not None:
            samples.append(found)
    times = [time_ns for _, time_ns in samples]
    if not samples or times != sorted(times):
        return 0
    low = max((start for start, time_ns in samples if time_ns < since_ns), default=0)
    high = min((start for start, time_ns in samples if time_ns >= since_ns), default=end)
    while high - low > _MARGIN:
        middle = (low + high) // 2
        found = _record_from(fd, middle, high, time_of)
        if found is None or found[1] >= since_ns:
            high = middle
        else:
            low = found[0]
    near = _record_from(fd, max(0, low - _MARGIN), end, time_of)
    return 0 if near is None else near[0]


def _record_from(fd: int, offset: int, end: int, time_of: TimeOf) -> tuple[int, int] | None:
    """Offset and time of the first record that begins at or after `offset` and before `end`."""
    size = 4096
    # A record begins behind a newline, which may be the byte before `offset`.
    base = max(0, offset - 1)
    while True:
        block = _pread(fd, min(size, end - base), base)
        at = block.find(b"\n") + 1 if offset else 0
        if at or not offset:
            while (newline := block.find(b"\n", at)) >= 0:
                try:
                    return base + at, time_of(block[at:newline])
                except ValueError:
                    at = newline + 1
        if len(block) < size or size > _LONGEST_RECORD:
            return None
        size *= 8


def _pread(fd: int, size: int, start: int) -> bytes:
    parts: list[bytes] = []
    while size:
        part = os.pread(fd, size, start)
        if not part:
            break
        parts.append(part)
        start += len(part)
        size -= len(part)
    return b"".join(parts)
