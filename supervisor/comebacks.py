"""A moment for clients that a supervisor's death cut off: they come back for the last output.

A container that removes itself takes its log with it. If it ended while no supervisor was there,
whoever ran it in the foreground has not seen its last lines yet. So the removal waits until that
client asks for it (it waits for "removed" once it has all output), or for `COMEBACK_S` at most.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio

from supervisor.container import Container

if TYPE_CHECKING:
    from supervisor.engine import Engine

COMEBACK_S = 10.0
"""How long after its start a supervisor waits for the clients of the one before it."""


async def before_removal(engine: Engine, container: Container) -> None:
    """Wait until the client of an earlier supervisor has come back, if one is to be expected."""
    config, life = container.config, container.life
    in_foreground = config.attach_stdout or config.attach_stderr
    if not in_foreground or not 0 < life.started_ns < engine.started_ns:
        return
    left = COMEBACK_S - (time.time_ns() - engine.started_ns) / 1e9
    if left <= 0 or container.removal is not None:
        return
    container.claimed = anyio.Event()
    with anyio.move_on_after(left):
        await container.claimed.wait()
    container.claimed = None
