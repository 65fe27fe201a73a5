"""From `json-file` records back to text.

A pump's batch shares one constant between its lines, so a run of records is found by looking at its
ends, stripped without looking at a line, and proven by making the records again. Records that stand
alone are matched by one expression; what others wrote goes through the json module, and what is no
record is skipped and counted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from operator import itemgetter
from urllib.parse import quote_plus

from logs import stamps
from logs.framing import Stream
from logs.json_file import HEAD, STREAM_KEY
from logs.selection import Sieve

_STREAMS = {b"stdout": Stream.STDOUT, b"stderr": Stream.STDERR}
_WORD = rb'"[^"\\\n]*(?:\\.[^"\\\n]*)*"'
_END = rb'(?:,"attrs":\{(?:' + _WORD + rb":" + _WORD + rb',?)*\})?,"time":"([^"\\\n]{1,64})"\}\n'
_TAIL = re.compile(rb'","stream":"(stdout|stderr)"' + _END)
_RECORD = re.compile(
    rb'\{"log":"([^"\\\n]*(?:\\.[^"\\\n]*)*)"'
    rb',"stream":"(stdout|stderr)"' + _END
)
_BETWEEN = {
    name: re.compile(
        rb'","stream":"' + name + rb'"' + _END.replace(b"([^", b"(?:[^") + rb'\{"log":"'
    )
    for name in (b"stdout", b"stderr", b"std(?:out|err)")
}
_EITHER = _BETWEEN.pop(b"std(?:out|err)")
_TIME = re.compile(rb'"time":"([^"\\]{1,64})"\}?$')
_SURROGATE = re.compile("[\ud800-\udfff]")
_FIRST_SPAN = 4096
_SHORT_RUN = 1024
_SINGLES = 16384
# Longer runs are taken in parts: the lines of a part then fit into memory that Python has at hand.
_LONG_RUN = 49152

_decode = json.JSONDecoder(strict=False).decode


def unescape(text: bytes) -> bytes:
    """Undo the escapes in the contents, or the joined contents, of JSON strings.

    Raises:
        ValueError: a broken escape, or a bare quotation mark.
    """
    escapes = text.count(b"\\")
    if escapes == text.count(b"\\n"):
        return text.replace(b"\\n", b"\n") if escapes else text
    whole = str(_decode('"' + text.decode("utf-8", "replace") + '"'))
    try:
        return whole.encode()
    except UnicodeEncodeError:
        # Half of a UTF-16 pair, which Go reads as U+FFFD too.
        return _SURROGATE.sub("\ufffd", whole).encode()


class JsonText:
    """Takes whole lines of a `json-file` log and passes the text of the wanted ones on.

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
            self._foreigners(block[:end])
            return
        pos = 0
        while pos < end and not sieve.finished:
            newline = block.find(b"\n", pos)
            match = None
            if block.startswith(HEAD, pos):
                at = block.find(STREAM_KEY, pos, newline)
                if at >= 0:
                    match = _TAIL.fullmatch(block, at, newline + 1)
            if match is not None:
                stop = _run_end(block, newline + 1, end, match[0])
                if stop - pos >= _SHORT_RUN and self._run(block, pos, stop, match):
                    pos = stop
                    continue
            stop = block.find(b"\n", min(pos + _SINGLES, end - 1)) + 1
            if match is None or sieve.timed or not self._merged(block, pos, stop, match):
                self._singles(block[pos:stop])
            pos = stop

    def _run(self, block: bytes, pos: int, stop: int, match: re.Match[bytes]) -> bool:
        """Take records that differ in their text only. False if it turns out that they don't."""
        tail = match[0]
        sieve = self._sieve
        stream = _STREAMS[match[1]]
        try:
            prefix = sieve.admit(stream, match[2])
        except ValueError:
            return False
        ending = b"\\n"
        text = _strip(block, pos, stop, ending + tail)
        if text is None:
            ending = b""
            text = _strip(block, pos, stop, tail)
        if text is None or prefix is None:
            return text is not None
        if ending and b"\\" not in text:
            text = prefix + (text.replace(b"\n", b"\n" + prefix) if prefix else text) + b"\n"
        else:
            # With its ending back, each text is the string that was in the record.
            text = prefix + text.replace(b"\n", ending + prefix) + ending
            try:
                text = unescape(text)
            except ValueError:
                return False
        sieve.output.add(stream, text)
        return True

    def _merged(self, block: bytes, pos: int, stop: int, first: re.Match[bytes]) -> bool:
        """Take records of any time, at once. False if more than that differs."""
        start = block.rfind(b"\n", pos, stop - 1) + 1
        at = block.find(STREAM_KEY, start, stop)
        last = _TAIL.fullmatch(block, at, stop) if at >= 0 else None
        if last is None or not block.startswith(HEAD, start):
            return False
        core = block[pos + len(HEAD) : at]
        between = _EITHER if self._sieve.mixes else _BETWEEN[first[1]]
        text, parts = between.subn(b"", core)
        if parts != core.count(b"\n") or not (self._sieve.mixes or first[1] == last[1]):
            return False
        stream = _STREAMS[first[1]]
        if self._sieve.admit(stream, b"") is not None:
            try:
                self._sieve.output.add(stream, unescape(text))
            except ValueError:
                return False
        return True

    def _singles(self, block: bytes) -> None:
        """Take records of which each may be different."""
        records = _RECORD.findall(block)
        if len(records) == block.count(b"\n"):
            for content, name, stamp in records:
                self._take(content, name, stamp)
                if self._sieve.finished:
                    return
            return
        for line in block.split(b"\n")[:-1]:
            single = _RECORD.fullmatch(line + b"\n")
            if single is None:
                self._foreign(line)
            else:
                self._take(*single.groups())
            if self._sieve.finished:
                return

    def _foreigners(self, block: bytes) -> None:
        """Take records that are to be looked at one by one, attributes and all."""
        for line in block.split(b"\n")[:-1]:
            self._foreign(line)
            if self._sieve.finished:
                return

    def _take(self, content: bytes, name: bytes, stamp: bytes) -> None:
        stream = _STREAMS[name]
        try:
            prefix = self._sieve.admit(stream, stamp)
            if prefix is not None:
                self._sieve.output.add(stream, prefix + unescape(content))
        except ValueError:
            self.skipped += 1

    def _foreign(self, line: bytes) -> None:
        """Take a record that we would have written otherwise, or skip what is none."""
        try:
            record = json.loads(line.decode("utf-8", "replace"))
            text = record["log"]
            stream = _STREAMS[record["stream"].encode()]
            stamp = record["time"].encode()
            prefix = self._sieve.admit(stream, stamp)
            if prefix is None:
                return
            content = _SURROGATE.sub("\ufffd", text).encode()
            if self._sieve.selection.details:
                prefix += spelled(record.get("attrs") or {}) + b" "
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            self.skipped += 1
            return
        self._sieve.output.add(stream, prefix + content)


def spelled(attributes: Mapping[str, str]) -> bytes:
    """Attributes as `docker logs --details` shows them: in order, escaped as in a URL."""
    words = (f"{quote_plus(k)}={quote_plus(attributes[k])}" for k in sorted(attributes))
    return ",".join(words).encode()


def _strip(block: bytes, pos: int, stop: int, tail: bytes) -> bytes | None:
    """What stands between `HEAD` and `tail` in records of `block[pos:stop]`, joined by newlines.

    None if a record begins or ends in another way: the proof is to make the records again from it.
    """
    if not block.endswith(tail, pos, stop):
        return None
    core = block[pos + len(HEAD) : stop - len(tail)]
    lines = core.split(b"\n")
    lines[0] = HEAD + lines[0]
    lines[-1] += tail[:-1]
    text = b"\n".join(map(itemgetter(slice(len(HEAD), 1 - len(tail))), lines))
    return text if text.replace(b"\n", tail + HEAD) == core else None


def time_of(line: bytes) -> int:
    """The time of a record.

    Raises:
        ValueError: it is no record.
    """
    found = _TIME.search(line)
    if found is None:
        raise ValueError("no time in this line")
    return stamps.parse(found[1])


def _run_end(block: bytes, pos: int, end: int, tail: bytes) -> int:
    """Where the records that end in `tail` end, of which one ends at `pos`; at least `pos`.

    Looks at the next record first and then ever farther, so that a record that stands alone is
    cheap.
    """
    newline = block.find(b"\n", pos, end)
    if newline < 0 or not block.endswith(tail, pos, newline + 1):
        return pos
    start, pos, span = pos, newline + 1, _FIRST_SPAN
    while pos < end and pos - start < _LONG_RUN:
        probe = min(pos + span, end)
        found = block.rfind(tail, pos, probe)
        if found < 0:
            break
        pos = found + len(tail)
        if probe - pos > len(tail) and probe < end and block.find(b"\n", pos, probe) >= 0:
            break
        span *= 4
    return pos
