"""What a container has changed in its image's files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from supervisor import network_files
from supervisor.archive import check_there, helper, layers_of
from supervisor.container import Container

if TYPE_CHECKING:
    from supervisor.engine import Engine

_MOUNT_POINTS = ("/proc", "/sys", "/dev", *(f"/etc/{name}" for name in network_files.NAMES))


async def changes(engine: Engine, container: Container) -> list[tuple[str, int]]:
    """Return the paths that differ, in order, each with its kind (`runtime.changes`).

    Places that we have made to mount something are no changes of the container's.

    Raises:
        EngineError: It is being removed, or the machine refuses.
    """
    check_there(container, "compare")
    asked = {"kind": "changes", "hidden": hidden(engine, container)}
    async with helper(engine, container, asked, view=layers_of(engine, container)) as (_, done):
        return [(path, kind) for path, kind in done["done"]]


def hidden(engine: Engine, container: Container) -> list[str]:
    """Places that the engine has made in a container's files to mount something there."""
    return [*_MOUNT_POINTS, *(one.target for one in engine.layers(container).binds)]
