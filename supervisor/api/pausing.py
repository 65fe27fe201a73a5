"""POST /containers/{id}/pause and /unpause."""

from __future__ import annotations

from supervisor.api.containers import found
from supervisor.api.messages import Reply, Request
from supervisor.engine import Engine

_DONE = Reply(204)


async def pause(engine: Engine, request: Request) -> Reply:
    """POST /containers/{id}/pause"""
    await engine.pause(found(engine, request))
    return _DONE


async def unpause(engine: Engine, request: Request) -> Reply:
    """POST /containers/{id}/unpause"""
    await engine.unpause(found(engine, request))
    return _DONE
