"""Update: another restart policy, other limits; what runs has them at once.

All that a request asks for is done, or nothing: limits first, as the kernel may refuse them, then
the record. A container that does not run gets them with its next start.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import anyio
import anyio.to_thread
import structlog

from runtime import changed_limits
from runtime.errors import RuntimeRefused
from supervisor import lifecycle, restarting, store
from supervisor.container import Container, ContainerConfig, Resources
from supervisor.errors import Conflict, EngineFault
from supervisor.kernel_limits import former_limits_of, limits_of
from supervisor.states import ALIVE, State

if TYPE_CHECKING:
    from supervisor.engine import Engine

log = structlog.get_logger()

Change: TypeAlias = Callable[[ContainerConfig], ContainerConfig]
"""Makes the new configuration of the one that there is, or raises what is wrong with that."""

WORTH_A_WORD = 0.05
"""Memory that a new limit does not count is told of from this part of the limit on."""


async def update(engine: Engine, container: Container, change: Change) -> list[str]:
    """Change a container's limits and policy; see `Engine.update`."""
    async with container.phase_lock:
        before = container.config
        after = change(before)
        _check(container, after)
        if after == before:
            _tell(engine, container)
            return []
        # Half of it would be worse than the wait, which the kernel bounds.
        with anyio.CancelScope(shield=True):
            warnings = await _apply(engine, container, before.resources, after.resources)
            container.config = after
            try:
                store.save(engine.directory(container), container)
            except OSError as error:
                container.config = before
                await _apply(engine, container, after.resources, before.resources)
                raise EngineFault(
                    f"cannot update container {container.name}: {error.strerror}; "
                    "all stays as it was"
                ) from error
        _tell(engine, container)
        if after.restart != before.restart:
            restarting.policy_changed(engine, container)
    return warnings


def _tell(engine: Engine, container: Container) -> None:
    engine.events.publish("container", "update", container.id, lifecycle.attributes(container))


def _check(container: Container, after: ContainerConfig) -> None:
    if container.config.auto_remove and after.restart.name != "no":
        raise Conflict(
            f"Cannot update container {container.id}: Restart policy cannot be updated because "
            "AutoRemove is enabled for the container"
        )
    if container.state in (State.REMOVING, State.GONE, State.DEAD):
        raise Conflict(
            f"Cannot update container {container.id}: Container is marked for removal and cannot "
            'be "update".'
        )


async def _apply(
    engine: Engine, container: Container, before: Resources, after: Resources
) -> list[str]:
    """Give a container that runs its new limits; return what is to be said about it.

    Raises:
        EngineFault: They can't be had; it has those that it had.
    """
    run = container.run
    if before == after or run is None or container.state not in ALIVE:
        return []
    try:
        work = functools.partial(
            changed_limits.change,
            engine.cgroups,
            container.id,
            former_limits_of(before),
            limits_of(after),
        )
        done = await anyio.to_thread.run_sync(work, limiter=engine.limits.updates)
    except RuntimeRefused as error:
        raise EngineFault(f"Cannot update container {container.id}: {error}") from error
    except OSError as error:
        if container.run is not run and error.errno in (errno.ENOENT, errno.ENODEV):
            return []  # it has ended meanwhile: the next run has them
        where = f": {error.filename}" if error.filename else ""
        raise EngineFault(
            f"Cannot update container {container.id}: {error.strerror}{where}"
        ) from error
    log.info("container.limits_changed", container=container.short_id)
    if container.run is run:
        engine.ooms.watch(engine, container, run, limited=after.memory > 0)
    if not done.uncounted:
        return []
    lifecycle.keep(engine, container, memory_uncounted=True)
    if done.uncounted < after.memory * WORTH_A_WORD:
        return []
    return [
        f"{container.name} had no memory limit when it was started: the "
        f"{done.uncounted / 2**20:.1f} MiB that it holds already are not counted, the limit is "
        "for what it takes from now on; a restart makes it hold for all"
    ]
