"""Operations whose modules are imported behind the start: who comes back does so sooner.

Not at their first use: all that runs shall be of one version, whatever is installed meanwhile.
"""

from __future__ import annotations

import importlib
import sys

import anyio
import anyio.to_thread
import structlog

from supervisor.api.messages import Reply, Request
from supervisor.api.router import Handler
from supervisor.engine import Engine

log = structlog.get_logger()

REST_S = 1.0
"""Whoever has had the engine started wants something of it first."""

_modules: set[str] = set()
_here: set[str] = set()
"""Those whose import has ended: one that is under way stands in sys.modules, too, half made."""


def late(module: str, name: str) -> Handler:
    """Return a handler that is `supervisor.api.MODULE.NAME`, imported by then.

    Who asks for it before that waits for the import, in a thread.
    """
    path = f"supervisor.api.{module}"
    _modules.add(path)

    async def handle(engine: Engine, request: Request) -> Reply | None:
        if path not in _here:
            await _bring(path)
        handler: Handler = getattr(sys.modules[path], name)
        return await handler(engine, request)

    return handle


async def import_all() -> None:
    """Import what `late` has named; what can't be now (no descriptors, no memory), later."""
    while left := sorted(_modules - _here):
        await anyio.sleep(REST_S)
        for path in left:
            try:
                await _bring(path)
            except (OSError, ImportError, MemoryError) as error:
                log.warning("api.not_imported", module=path, error=str(error))


async def _bring(path: str) -> None:
    """Import a module, or wait until whoever does so is done."""
    await anyio.to_thread.run_sync(importlib.import_module, path)
    _here.add(path)
