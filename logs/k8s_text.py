"""From `k8s-file` (CRI) records back to text, in runs where the head of the records is the same."""

from __future__ import annotations

import re
from operator import itemgetter

from logs.framing import Stream
from logs.selection import Sieve

_STREAMS = {b"stdout": Stream.STDOUT, b"stderr": Stream.STDERR}
_HEAD = re.compile(rb"(\S{1,64}) (stdout|stderr) ([FP])(?::\S*)? ")
_SHORT_RUN = 1024
_FIRST_SPAN = 4096


class K8sText:
    """Takes whole lines of a `k8s-file` log and passes the text of the wanted ones on.

    Attributes:
        skipped: Lines that were no records.
    """

    __slots__ = ("_sieve", "skipped")

    def __init__(self, sieve: Sieve) -> None:
        self._sieve = sieve
        self.skipped = 0

    def feed(self, block: bytes) -> None:
        """Take a block, which ends with a newline. Stops early once the sieve has finished."""
        sieve = self._sieve
        pos, end = 0, len(block)
        while pos < end and not sieve.finished:
            stop = block.find(b"\n", pos) + 1
            head = _HEAD.match(block, pos, stop)
            if head is None:
                # conmon writes an empty line without the last space.
                head = _HEAD.match(block[pos : stop - 1] + b" ")
                if head is None:
                    self.skipped += 1
                else:
                    self._take(head, b"\n" if head[3] == b"F" else b"")
                pos = stop
                continue
            if head[3] == b"P":
                self._take(head, block[head.end() : stop - 1])
            else:
                last = _run_end(block, stop, head[0])
                if last - pos >= _SHORT_RUN and self._run(block, pos, last, head):
                    stop = last
                else:
                    self._take(head, block[head.end() : stop])
            pos = stop

    def _take(self, head: re.Match[bytes], text: bytes) -> None:
        stream = _STREAMS[head[2]]
        try:
            if self._sieve.takes(stream, head[1]):
                self._sieve.output.add(stream, self._sieve.prefix(head[1]) + text)
        except ValueError:
            self.skipped += 1

    def _run(self, block: bytes, pos: int, stop: int, head: re.Match[bytes]) -> bool:
        """Take records whose heads are the same. False if it turns out that they aren't."""
        lines = block[pos:stop].split(b"\n")
        lines.pop()
        if block.count(b"\n" + head[0], pos, stop) != len(lines) - 1:
            return False
        stream = _STREAMS[head[2]]
        try:
            if self._sieve.takes(stream, head[1]):
                prefix = self._sieve.prefix(head[1])
                bare = itemgetter(slice(len(head[0]), None))
                text = prefix + (b"\n" + prefix).join(map(bare, lines)) + b"\n"
                self._sieve.output.add(stream, text)
        except ValueError:
            return False
        return True


def _run_end(block: bytes, pos: int, head: bytes) -> int:
    """Where the records that begin with `head` end, of which one ends at `pos`; at least `pos`."""
    if not block.startswith(head, pos):
        return pos
    between, span, end = b"\n" + head, _FIRST_SPAN, len(block)
    while pos < end:
        probe = min(pos + span, end)
        found = block.rfind(between, pos - 1, probe)
        if found < 0:
            break
        after = block.find(b"\n", found + 1) + 1
        if after <= pos:
            break
        pos = after
        if pos < probe and not block.startswith(head, pos):
            break
        span *= 4
    return pos
