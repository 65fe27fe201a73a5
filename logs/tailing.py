"""Where in a log file to begin, found without reading the file from its start."""

from __future__ import annotations

import os

_BLOCK = 1 << 16


def tail_offset(fd: int, end: int, records: int) -> int:
    """Offset of the last `records` records before `end`, which is where a record ends.

    Reads backwards in blocks of 64 KiB, as far as needed. A record is a line of the file, so a
    piece of a long line counts too, as it does for Docker.
    """
    if records <= 0:
        return end
    start = end
    # The newline at the very end closes the last record and opens none.
    wanted = records + 1
    while start > 0:
        size = min(_BLOCK, start)
        start -= size
        block = _pread(fd, size, start)
        found = block.count(b"\n")
        if end == start + size and not block.endswith(b"\n"):
            wanted -= 1
        if found < wanted:
            wanted -= found
            continue
        at = len(block)
        for _ in range(wanted):
            at = block.rfind(b"\n", 0, at)
        return start + at + 1
    return 0


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
