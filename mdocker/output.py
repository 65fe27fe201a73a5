"""Writing to descriptors, and tables as Docker prints them. No terminal library.

rich would add 30 to 55 ms to every table; it is imported for progress bars alone, and only
where a terminal looks at them.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Sequence

from mdocker.frames import STDERR

_MOST_VECTORS = 512
_LEAST_WIDTH = 10
_PADDING = 3

line_end = "\n"
"""What ends a line on stderr; with a carriage return while our terminal is raw."""


def _nothing(waits: bool) -> None:
    """Nobody has to be told."""


waits_long: Callable[[bool], None] = _nothing
"""Told when an engine is waited for that may not come, and when that is over."""


def write_all(descriptor: int, pieces: Sequence[bytes | memoryview]) -> None:
    """Write every byte, also to a descriptor that somebody has made non-blocking.

    Raises:
        BrokenPipeError: The reader has gone.
        OSError: As writev(2) has it, such as a full disk.
    """
    left = list(pieces)
    while left:
        batch = left[:_MOST_VECTORS]
        try:
            written = os.writev(descriptor, batch)
        except BlockingIOError:
            poller = select.poll()
            poller.register(descriptor, select.POLLOUT)
            poller.poll()
            continue
        done = 0
        for piece in batch:
            if written < len(piece):
                break
            written -= len(piece)
            done += 1
        del left[:done]
        if written:
            left[0] = memoryview(left[0])[written:]


def write_streams(pieces: Sequence[tuple[int, memoryview]]) -> None:
    """Write demultiplexed output to our stdout and stderr, in its order."""
    start = 0
    while start < len(pieces):
        stream = pieces[start][0]
        end = start + 1
        while end < len(pieces) and pieces[end][0] == stream:
            end += 1
        descriptor = 2 if stream >= STDERR else 1
        write_all(descriptor, [piece for _, piece in pieces[start:end]])
        start = end


def reader_left(poller: select.poll, descriptor: int = 1) -> None:
    """Have a poller wake when the reader of our stdout goes away (POLLERR needs no asking)."""
    try:
        poller.register(descriptor, 0)
    except ValueError:
        # stdout is closed: then nobody can leave it.
        return


def say(text: str) -> None:
    """Print a line on stdout."""
    sys.stdout.write(text + "\n")


def complain(text: str) -> None:
    """Print `mdocker: text` on stderr, behind what stdout has got so far."""
    sys.stdout.flush()
    sys.stderr.write(f"mdocker: {legible(text, 2)}{line_end}")
    sys.stderr.flush()


def warn(text: str) -> None:
    """Print an engine's warning on stderr, as Docker's client does."""
    sys.stdout.flush()
    sys.stderr.write(f"WARNING: {text.removeprefix('WARNING: ')}\n")
    sys.stderr.flush()


def table(rows: Sequence[Sequence[str]]) -> str:
    """Lay out rows (the first is the heading) in columns as Docker's tables are.

    A column is as wide as its widest cell and three spaces, ten at least; the last one is not
    padded.
    """
    columns = max((len(row) for row in rows), default=0)
    widths = [
        max(
            _LEAST_WIDTH,
            *(len(row[column]) + _PADDING for row in rows if column < len(row) - 1),
        )
        if any(column < len(row) - 1 for row in rows)
        else 0
        for column in range(columns)
    ]
    lines = []
    for row in rows:
        cells = [cell.ljust(widths[column]) for column, cell in enumerate(row[:-1])]
        lines.append("".join((*cells, *row[-1:])) + "\n")
    return "".join(lines)


def is_terminal(descriptor: int) -> bool:
    """Tell whether a person looks at it."""
    return os.isatty(descriptor)


def legible(text: str, descriptor: int = 1) -> str:
    """A text in which a payload may have a say, such as the name of a file, for who looks at it.

    Characters that would steer a person's terminal are shown as Python writes them; a program that
    reads a pipe or a file gets them as they are.
    """
    if not is_terminal(descriptor):
        return text
    return "".join(one if one.isprintable() or one in "\n\t" else ascii(one)[1:-1] for one in text)


def wants_colour(descriptor: int) -> bool:
    """Tell whether colours are welcome: on a terminal, unless NO_COLOR is set to anything."""
    return (
        is_terminal(descriptor)
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM") != "dumb"
    )
