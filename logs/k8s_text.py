"""From `k8s-file` (CRI) records back to text, in runs where the head of the records is the same."""

from __future__ import annotations

import re
from operator import itemgetter

from logs import stamps
from logs.framing import Stream
from logs.selection import Sieve

_STREAMS = {b"stdout": Stream.STDOUT, b"stderr": Stream.STDERR}
_HEAD = re.compile(rb"(\S{1,64}) (stdout|stderr) ([FP])(?::\S*)? ")
_RECORD = re.compile(rb"^(\S{1,64}) (stdout|stderr) ([FP])(?::\S*)? ([^\n]*)\n", re.M)
_BETWEEN = {
    name: re.compile(rb"\n\S{1,64} " + name + rb" F ")
    for name in (b"stdout", b"stderr", b"std(?:out|err)")
}
_EITHER = _BETWEEN.pop(b"std(?:out|err)")
_SHORT_RUN = 1024
_SINGLES = 16384
_FIRST_SPAN = 4096
_LONG_RUN = 49152


class K8sText:
    """Takes whole lines of a `k8s-file` log and passes the text of the wanted ones on.

    Attributes:
        skipped: Lines that were no records.
    """

    __slots__ = ("_sieve", "skipped")

    def __init__(self, sieve: Sieve) -> None:
        self._sieve = sieve
        self.skipped = 0

    def feed(self, block: bytes, end: int) -> None:
        """Take `block[:end]`, which ends with a newline. Stops once the sieve has finished."""
        sieve = self._sieve
        if sieve.selection.details:
            self._singles(block[:end])
            return
        pos = 0
        while pos < end and not sieve.finished:
            stop = block.find(b"\n", pos) + 1
            head = _HEAD.match(block, pos, stop)
            if head is not None and head[3] == b"F":
                last = _run_end(block, stop, end, head[0])
                if last - pos >= _SHORT_RUN and self._run(block, pos, last, head):
                    pos = last
                    continue
            stop = block.find(b"\n", min(pos + _SINGLES, end - 1)) + 1
            if head is None or sieve.timed or not self._merged(block, pos, stop, head):
                self._singles(block[pos:stop])
            pos = stop

    def _merged(self, block: bytes, pos: int, stop: int, head: re.Match[bytes]) -> bool:
        """Take records of any time, at once. False if more than that differs."""
        if head[3] != b"F":
            return False
        core = block[head.end() : stop]
        between = _EITHER if self._sieve.mixes else _BETWEEN[head[2]]
        text, parts = between.subn(b"\n", core)
        if parts != core.count(b"\n") - 1:
            return False
        stream = _STREAMS[head[2]]
        if self._sieve.admit(stream, b"") is not None:
            self._sieve.output.add(stream, text)
        return True

    def _singles(self, block: bytes) -> None:
        """Take records of which each may be different."""
        records = _RECORD.findall(block)
        if len(records) == block.count(b"\n"):
            for stamp, name, flag, text in records:
                self._take(stamp, name, flag, text)
                if self._sieve.finished:
                    return
            return
        for line in block.split(b"\n")[:-1]:
            # conmon writes an empty line without the last space.
            single = _RECORD.fullmatch(line + b"\n") or _RECORD.fullmatch(line + b" \n")
            if single is None:
                self.skipped += 1
            else:
                self._take(*single.groups())
            if self._sieve.finished:
                return

    def _take(self, stamp: bytes, name: bytes, flag: bytes, text: bytes) -> None:
        stream = _STREAMS[name]
        try:
            prefix = self._sieve.admit(stream, stamp)
            if prefix is not None:
                end = b"\n" if flag == b"F" else b""
                if self._sieve.selection.details:
                    prefix += b" "  # this format has none
                self._sieve.output.add(stream, prefix + text + end)
        except ValueError:
            self.skipped += 1

    def _run(self, block: bytes, pos: int, stop: int, head: re.Match[bytes]) -> bool:
        """Take records whose heads are the same. False if it turns out that they aren't."""
        begin = head[0]
        core = block[head.end() : stop - 1]
        lines = core.split(b"\n")
        lines[0] = begin + lines[0]
        text = b"\n".join(map(itemgetter(slice(len(begin), None)), lines))
        # The proof is to make the records again.
        if text.replace(b"\n", b"\n" + begin) != core:
            return False
        stream = _STREAMS[head[2]]
        try:
            prefix = self._sieve.admit(stream, head[1])
        except ValueError:
            return False
        if prefix is not None:
            text = prefix + (text.replace(b"\n", b"\n" + prefix) if prefix else text) + b"\n"
            self._sieve.output.add(stream, text)
        return True


def time_of(line: bytes) -> int:
    """The time of a record.

    Raises:
        ValueError: it is no record.
    """
    return stamps.parse(line.partition(b" ")[0])


def _run_end(block: bytes, pos: int, end: int, head: bytes) -> int:
    """Where the records that begin with `head` end, of which one ends at `pos`; at least `pos`."""
    if not block.startswith(head, pos, end):
        return pos
    start, between, span = pos, b"\n" + head, _FIRST_SPAN
    while pos < end and pos - start < _LONG_RUN:
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
