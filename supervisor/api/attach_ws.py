"""GET /containers/{id}/attach/ws: a container's streams over a WebSocket (RFC 6455)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio.to_thread
import msgspec

from logs.framing import Stream
from logs.spots import START
from supervisor import escape_keys
from supervisor.api.attach import Asked, attend
from supervisor.api.containers import found
from supervisor.api.messages import Reply, Request
from supervisor.api.parameters import flag
from supervisor.api.streams import asked_streams
from supervisor.engine import Engine
from supervisor.errors import BadParameter

if TYPE_CHECKING:
    from supervisor.api.web_socket import WebSocket

CHOICE_SINCE = (1, 42)
"""The version from which on the query chooses the streams; before, all three are attached."""

_ALL = frozenset({Stream.STDOUT, Stream.STDERR})


async def attach(engine: Engine, request: Request) -> Reply | None:
    """GET /containers/{id}/attach/ws

    stdout and stderr come as binary messages, without frames that tell them apart, as in Docker.
    What the client sends, text or binary, is the input.
    """
    container = found(engine, request)
    choosing = request.version >= CHOICE_SINCE
    asked = Asked(
        streams=asked_streams(request) if choosing else _ALL,
        stdin=flag(request, "stdin") if choosing else True,
        live=flag(request, "stream"),
        begin=START if flag(request, "logs") else None,
        keys=escape_keys.parse(request.parameter("detachKeys")),
    )
    try:
        channel = await anyio.to_thread.run_sync(_channel, request, limiter=engine.limits.readers)
    except BadParameter as error:
        body = msgspec.json.encode({"message": str(error)}) + b"\n"
        return Reply(400, body, headers=((b"Sec-WebSocket-Version", b"13"),))
    await attend(engine, container, asked, channel)
    return None


def _channel(request: Request) -> WebSocket:
    """In a thread: the import takes 10 to 40 ms, which nobody pays who never attaches like this.

    Raises:
        BadParameter: The request is no handshake.
    """
    from supervisor.api.web_socket import WebSocket

    return WebSocket(request)
