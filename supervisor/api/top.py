"""GET /containers/{id}/top"""

from __future__ import annotations

import msgspec

from supervisor.api.containers import found
from supervisor.api.messages import Reply, Request
from supervisor.engine import Engine

_encode = msgspec.json.Encoder().encode


async def top(engine: Engine, request: Request) -> Reply:
    """GET /containers/{id}/top"""
    listing = await engine.top(found(engine, request), request.parameter("ps_args"))
    return Reply(body=_encode({"Titles": listing.titles, "Processes": listing.processes}))
