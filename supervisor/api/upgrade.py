"""POST /mdocker/upgrade: have the installed version take over. Ours, Docker has no such thing."""

from __future__ import annotations

from supervisor.api.messages import Reply, Request
from supervisor.engine import Engine


async def upgrade(engine: Engine, request: Request) -> Reply:
    """Answer once the installed version has been tried; whoever connects from then on meets it.

    Raises:
        Conflict: Not now; the text says why.
        EngineFault: The installed version does not start.
    """
    await engine.upgrade.ask()
    return Reply(204)
