"""Where a stream of bytes is cut into log records. Pure.

Docker's rule: a record ends at a newline; a line that reaches 16 KiB without one is written in
pieces of 16 KiB, and only the last piece carries the newline. Ours differs in one point: a cut that
would fall inside a UTF-8 character moves back in front of it, since a reader (and JSON) would see
two broken halves. Docker cuts there.
"""

from __future__ import annotations

PIECE = 16384
"""Bytes of one line that go into one record at most."""


def piece_end(text: bytes, start: int) -> int:
    """Where the piece that starts at `start`, at least `PIECE` long, is to be cut."""
    end = start + PIECE
    for back in (1, 2, 3):
        byte = text[end - back]
        if byte < 0x80:
            break
        if byte >= 0xC0:
            needs = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return end - back if needs > back else end
    return end


def first_long(text: bytes, start: int, end: int, held: int) -> int:
    """Start of the first line in `text[start:end]` that is too long for one record, or -1.

    `held` bytes of the first line came before `start`. Hops from newline to newline as far apart as
    a record may be, so that the cost is one search for each 16 KiB and none for each line.
    """
    room = PIECE - held
    while end - start >= room:
        newline = text.rfind(b"\n", start, start + room)
        if newline < 0:
            return start
        start = newline + 1
        room = PIECE
    return -1


def behind_newlines(text: bytes, number: int) -> int:
    """The offset behind the first `number` newlines, of which there must be so many."""
    at = 0
    for _ in range(number):
        at = text.find(b"\n", at) + 1
    return at
