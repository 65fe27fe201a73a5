"""How an answer begins behind which the connection carries the bytes of a container's streams."""

from __future__ import annotations

from collections.abc import Sequence

from supervisor.api.messages import Request

RAW = b"application/vnd.docker.raw-stream"
MULTIPLEXED = b"application/vnd.docker.multiplexed-stream"


def head(request: Request, headers: Sequence[tuple[bytes, bytes]] = (), *, raw: bool) -> bytes:
    """The answer's head: 101 for clients that ask for an upgrade, 200 for others.

    Args:
        headers: In addition to those that every such answer has.
        raw: The bytes of a terminal follow, not frames.
    """
    more = b"".join(b"%b: %b\r\n" % header for header in headers)
    if not request.wants_upgrade:
        return b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n%b\r\n" % (RAW, more)
    content_type = MULTIPLEXED if request.version >= (1, 42) and not raw else RAW
    return (
        b"HTTP/1.1 101 UPGRADED\r\nContent-Type: %b\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
        b"%b\r\n" % (content_type, more)
    )
