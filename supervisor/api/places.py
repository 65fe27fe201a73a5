"""Places in a container's output, for clients that come back after a supervisor's death.

Beyond Docker: a client of logs or of an attachment that asks for `places=1` is told where it is: in
the header `Mdocker-Resume`, and between the frames of output by frames of stream number 4, whose
payload is a line. It asks with `resume=PLACE` to go on behind one.

    1234-64-9f3a.5.0   so many bytes of whole records are in the log's file, and a checksum tells
                       which file; 5 bytes of stdout and 0 of stderr are beyond that: a line begun
    -                  no log can tell what was printed
    end                this was all: the connection ends for that reason
"""

from __future__ import annotations

import struct

from logs.spots import Spot
from supervisor.api.messages import Request
from supervisor.api.parameters import flag
from supervisor.attachments import PLACE

MISSED = (b"Mdocker-Missed", b"1")
"""The header that says that the place to go on at is gone: it goes on with what is left."""

UNKNOWN = b"-"
END = b"end"

_head = struct.Struct(">BxxxL").pack


def frame(word: bytes) -> bytes:
    """A frame that tells a place."""
    return _head(PLACE, len(word) + 1) + word + b"\n"


def header(word: bytes) -> tuple[bytes, bytes]:
    """The header that tells a place."""
    return b"Mdocker-Resume", word


def are_wanted(request: Request) -> bool:
    """Whether the client asks for places."""
    return flag(request, "places")


def read_place(text: str) -> Spot:
    """Where in the log a client wants to go on.

    Raises:
        ValueError: It is none of the places that we give.
    """
    return Spot.read(text.partition(".")[0])
