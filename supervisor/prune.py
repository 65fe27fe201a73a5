"""Prune: every container that does not run goes, and how much disk that gives back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import structlog

from supervisor.container import Container
from supervisor.errors import Conflict, EngineFault, NoSuchContainer
from supervisor.remove import remove
from supervisor.states import State
from supervisor.tree_sizes import disk_bytes

if TYPE_CHECKING:
    from supervisor.engine import Engine

log = structlog.get_logger()


async def prune(engine: Engine, chosen: Callable[[Container], bool]) -> tuple[list[str], int]:
    """Remove every container that does not run and that `chosen` accepts, all at once.

    Returns:
        Their ids, and the bytes that were freed.
    """
    doomed = [
        c
        for c in engine.containers
        # What a build has before or behind its command is not over.
        if c.state in (State.CREATED, State.EXITED, State.DEAD)
        and not c.config.of_build
        and chosen(c)
    ]
    removed: list[str] = []
    freed = 0

    async def prune_one(container: Container) -> None:
        nonlocal freed
        size = await anyio.to_thread.run_sync(
            disk_bytes, engine.directory(container), limiter=engine.limits.removals
        )
        try:
            await remove(engine, container)
        except (Conflict, NoSuchContainer, EngineFault) as error:
            log.warning("container.not_pruned", error=str(error))
            return
        removed.append(container.id)
        freed += size

    async with anyio.create_task_group() as group:
        for container in doomed:
            group.start_soon(prune_one, container)
    engine.events.publish("container", "prune", "", {"reclaimed": str(freed)})
    return removed, freed
