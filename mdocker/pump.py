"""From a stream of the engine's to our stdout and stderr, as fast as both go."""

from __future__ import annotations

import select
from collections.abc import Callable

from mdocker.connection import Stream
from mdocker.frames import Demultiplexer
from mdocker.output import reader_left, write_all, write_streams

RAW = "application/vnd.docker.raw-stream"


def show(stream: Stream, meanwhile: tuple[int, Callable[[], None]] | None = None) -> None:
    """Write a stream out until it ends.

    Args:
        stream: Its content type tells whether it is framed.
        meanwhile: A descriptor, and what to call whenever it is readable.

    Raises:
        BrokenPipeError: Who read our stdout has gone.
        EngineUnreachable: The engine went away in the middle.
    """
    frames = None if stream.headers.get("content-type") == RAW else Demultiplexer()
    poller = select.poll()
    poller.register(stream, select.POLLIN)
    reader_left(poller)
    if meanwhile is not None:
        poller.register(meanwhile[0], select.POLLIN)
    while not stream.ended:
        ready = dict(poller.poll()) if not stream.pending else {stream.fileno(): select.POLLIN}
        if meanwhile is not None and meanwhile[0] in ready:
            meanwhile[1]()
        if stream.fileno() in ready:
            pieces = stream.read()
            if frames is None:
                write_all(1, pieces)
                continue
            for piece in pieces:
                write_streams(frames.feed(piece))
        elif 1 in ready:
            raise BrokenPipeError
