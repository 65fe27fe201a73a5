"""GET /containers/{id}/changes"""

from __future__ import annotations

import msgspec

from supervisor import changes as comparing
from supervisor.api.containers import found
from supervisor.api.messages import Reply, Request
from supervisor.engine import Engine

_encode = msgspec.json.Encoder().encode


async def changes(engine: Engine, request: Request) -> Reply | None:
    """GET /containers/{id}/changes"""
    container = found(engine, request)
    connection = request.connection
    reply = None
    with connection.hangups.cancelling(connection.stream) as scope:
        differing = await comparing.changes(engine, container)
        reply = Reply(body=_encode([{"Path": path, "Kind": kind} for path, kind in differing]))
    if scope.cancelled_caught:
        connection.abandon()
    return reply
