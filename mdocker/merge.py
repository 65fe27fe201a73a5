"""The logs of several containers as one: in the order of time, each line with its name.

Every source is asked for timestamps, and the lines are merged by them. Without --follow that is
exact: nothing is printed before each source has shown its next line or its end. With --follow a
source that stays silent would hold up all others for ever, so one that has had nothing to say
for a moment is taken for *live*: its history is through, and nobody waits for it any more.
"""

from __future__ import annotations

import heapq
import math
import select
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mdocker.comeback import Output
from mdocker.frames import STDERR, STDOUT
from mdocker.output import reader_left, wants_colour, write_all

if TYPE_CHECKING:
    import re

_QUIET_S = 0.05
_MOST_QUEUED = 20_000
_FOUND = b"\x1b[1;31m%b\x1b[0m"
_COLOURS = ("36", "33", "32", "35", "34", "96", "93", "92", "95", "94")


class Source:
    """One container's log.

    Attributes:
        name: What stands before each line.
        live: Its history is through (or nobody follows, and this stays False).
        heard: When it said something last, or began (by the monotonic clock, in seconds).
    """

    def __init__(self, name: str, output: Output, pattern: re.Pattern[bytes] | None = None) -> None:
        """Take a log that was asked for with timestamps.

        Args:
            name: What stands before each line; nothing for a log that is shown alone.
            output: Where its lines come from.
            pattern: Lines in which it is not found are left out.
        """
        self.name = name
        self.output = output
        self._pattern = pattern
        self.live = False
        self.heard = time.monotonic()
        self.lines: deque[tuple[bytes, int, bytes]] = deque()
        self._rests = {STDOUT: b"", STDERR: b""}

    @property
    def blocks(self) -> bool:
        """Whether the next line in time may still come from here."""
        return not self.lines and not self.live and not self.output.ended

    def read(self) -> None:
        """Take what has come and cut it into lines."""
        self.heard = time.monotonic()
        for stream, part in self.output.read():
            self._cut(STDERR if stream >= STDERR else STDOUT, bytes(part))
        if self.output.ended:
            for stream, rest in self._rests.items():
                if rest:
                    self._add(stream, rest)

    def _cut(self, stream: int, data: bytes) -> None:
        *lines, rest = (self._rests[stream] + data).split(b"\n")
        self._rests[stream] = rest
        for line in lines:
            self._add(stream, line)

    def _add(self, stream: int, line: bytes) -> None:
        moment, _, text = line.partition(b" ")
        # A terminal ends its lines with \r\n: to an expression's $ that is the end, too.
        if self._pattern is None or self._pattern.search(text.removesuffix(b"\r")):
            self.lines.append((moment, stream, text))

    def coloured(self, text: bytes) -> bytes:
        """Return a line with what the pattern finds in it in colour."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda found: found[0] and _FOUND % found[0], text)


def show_merged(sources: Sequence[Source], *, follow: bool, timestamps: bool) -> None:
    """Write the logs out until all have ended.

    Args:
        sources: Logs that were asked for with timestamps.
        follow: Whether they go on.
        timestamps: Whether to show the moments, too.

    Raises:
        BrokenPipeError: Who read our stdout has gone.
        EngineUnreachable: The engine went away in the middle.
    """
    poller = select.poll()
    reader_left(poller)
    polled: dict[Source, int] = {}
    colours = {STDOUT: wants_colour(STDOUT), STDERR: wants_colour(STDERR)}
    prefixes = _prefixes([source.name for source in sources], colours)
    while True:
        for source in sources:
            # A source far ahead of the others waits with its bytes in the socket.
            wanted = not source.output.ended and len(source.lines) < _MOST_QUEUED
            if wanted and source not in polled:
                polled[source] = source.output.fileno()
                poller.register(polled[source], select.POLLIN)
            elif not wanted and source in polled:
                poller.unregister(polled.pop(source))
        _emit(sources, prefixes, colours, timestamps)
        if not polled and all(source.output.ended for source in sources):
            return
        pending = [source for source in sources if source.output.pending]
        ready = dict(poller.poll(0 if pending else _patience(sources) if follow else None))
        if 1 in ready:
            raise BrokenPipeError
        for source in sources:
            if source in pending or polled.get(source) in ready:
                connection = source.output.connection
                source.read()
                if source.output.connection != connection:
                    poller.unregister(polled.pop(source))  # it goes on over another one
            elif follow and time.monotonic() - source.heard >= _QUIET_S:
                source.live = True


def _patience(sources: Sequence[Source]) -> float | None:
    """Return for how many ms to wait for a source that holds up the others; None if none does."""
    held = [source.heard for source in sources if source.blocks]
    if not held:
        return None
    # Rounded up, or the wait would end a little too early again and again.
    return max(0, math.ceil((min(held) + _QUIET_S - time.monotonic()) * 1000))


def _emit(
    sources: Sequence[Source],
    prefixes: Sequence[tuple[bytes, bytes]],
    colours: Mapping[int, bool],
    timestamps: bool,
) -> None:
    """Write every line that no earlier one can follow."""
    if any(source.blocks for source in sources):
        return
    heads = [(source.lines[0][0], index) for index, source in enumerate(sources) if source.lines]
    heapq.heapify(heads)
    out: list[bytes] = []
    current = STDOUT
    while heads:
        _, index = heads[0]
        source = sources[index]
        moment, stream, text = source.lines.popleft()
        if stream != current and out:
            write_all(current, [b"".join(out)])
            out = []
        current = stream
        stamp = moment + b" " if timestamps else b""
        if colours[stream]:
            text = source.coloured(text)
        out.append(b"%b%b%b\n" % (prefixes[index][stream - 1], stamp, text))
        if source.lines:
            heapq.heapreplace(heads, (source.lines[0][0], index))
        elif source.blocks:
            break
        else:
            heapq.heappop(heads)
    if out:
        write_all(current, [b"".join(out)])


def _prefixes(names: Sequence[str], colours: Mapping[int, bool]) -> list[tuple[bytes, bytes]]:
    """Return each source's prefix on stdout and on stderr."""
    width = max(map(len, names), default=0)
    prefixes = []
    for index, name in enumerate(names):
        plain = f"{name:<{width}} | ".encode() if name else b""
        colour = _COLOURS[index % len(_COLOURS)].encode()
        coloured = b"\x1b[%bm%b\x1b[0m" % (colour, plain) if name else b""
        prefixes.append(
            (coloured if colours[STDOUT] else plain, coloured if colours[STDERR] else plain)
        )
    return prefixes
