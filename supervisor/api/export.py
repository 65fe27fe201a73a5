"""GET /containers/{id}/export: a container's whole root as an archive, without its mounts."""

from __future__ import annotations

from supervisor.api.archive import send_archive
from supervisor.api.containers import found
from supervisor.api.messages import Request
from supervisor.archive import check_there
from supervisor.engine import Engine

# As Docker's: clients look at the bytes, not at this.
CONTENT_TYPE = b"application/octet-stream"


async def export(engine: Engine, request: Request) -> None:
    """GET /containers/{id}/export"""
    container = found(engine, request)
    check_there(container, "export")
    await send_archive(engine, request, container, {"kind": "export"}, CONTENT_TYPE, "export")
