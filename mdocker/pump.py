"""From a stream of the engine's to our stdout and stderr, as fast as both go."""

from __future__ import annotations

import select

from mdocker.client import Stream
from mdocker.frames import Demultiplexer
from mdocker.output import reader_left, write_all, write_streams

RAW = "application/vnd.docker.raw-stream"


def show(stream: Stream) -> None:
    """Write a stream out until it ends.

    Raises:
        BrokenPipeError: Who read our stdout has gone.
        EngineUnreachable: The engine went away in the middle.
    """
    frames = None if stream.headers.get("content-type") == RAW else Demultiplexer()
    poller = select.poll()
    poller.register(stream, select.POLLIN)
    reader_left(poller)
    while not stream.ended:
        if not stream.pending:
            ready = dict(poller.poll())
            if stream.fileno() not in ready:
                raise BrokenPipeError
        pieces = stream.read()
        if frames is None:
            write_all(1, pieces)
        else:
            for piece in pieces:
                write_streams(frames.feed(piece))
