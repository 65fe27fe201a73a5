"""Remove: a container that does not run goes, with its directory and its log."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import msgspec
import structlog

from runtime.images.trees import remove_tree
from supervisor import disk, volumes_mounted
from supervisor.container import Container
from supervisor.errors import Conflict, EngineFault, NoSuchContainer
from supervisor.lifecycle import attributes, change
from supervisor.phases import Laps
from supervisor.states import ACTIVE, Event, State, after
from supervisor.waiting import tell_failed_removal, tell_removal

if TYPE_CHECKING:
    from supervisor.engine import Engine

log = structlog.get_logger()


async def remove(engine: Engine, container: Container, volumes: bool = False) -> None:
    """Delete a container that does not run, with its directory and its log.

    Args:
        volumes: With its anonymous volumes; those of one that removes itself go in any case.

    Raises:
        Conflict: It runs, or is being removed already.
        NoSuchContainer: Somebody else has removed it meanwhile.
        EngineFault: The directory can't be deleted; the container is `dead` and can be retried.
    """
    if container.state is State.REMOVING:
        raise Conflict(f"removal of container {container.name} is already in progress")
    if container.state not in ACTIVE:
        # Few removals go at once: those that would hang wait outside.
        await disk.answers(engine.directory(container))
    async with container.phase_lock:
        laps = Laps("remove")
        if container.state is State.GONE:
            raise NoSuchContainer(container.name)
        if container.state is State.PAUSED:
            raise Conflict(
                f'cannot remove container "{container.name}": container is paused and must be '
                "unpaused first, or force remove"
            )
        if container.state in ACTIVE:
            raise Conflict(
                f'cannot remove container "{container.name}": container is {container.state}: '
                "stop the container before removing or force remove"
            )
        volumes |= container.config.auto_remove or container.life.remove_volumes
        try:
            change(engine, container, Event.REMOVE, remove_volumes=volumes)
        except OSError as error:
            # A full disk must not keep people from deleting.
            log.warning("container.removal_not_written", error=error.strerror)
            container.life = msgspec.structs.replace(container.life, state=State.REMOVING)
        await engine.limits.uploads.end(container.id)
        # Who waits for its removal may ask again after our death, though it has never run.
        engine.ends.note_last(container.id, container.life.exit_code, time.time_ns())
        engine.ready_logs.drop(container.id)
        with anyio.CancelScope(shield=True):
            # Deleting is bounded by the disk alone, and half of it is of no use to anybody.
            try:
                engine.cgroups.remove(container.id)
                if volumes:
                    await volumes_mounted.remove_anonymous(engine, container)
                await volumes_mounted.drop_drafts(engine, container)
                await anyio.to_thread.run_sync(
                    delete_directory,
                    engine.directory(container),
                    limiter=engine.limits.removals,
                )
            except OSError as error:
                container.life = msgspec.structs.replace(
                    container.life, state=after(State.REMOVING, Event.REMOVE_FAILED)
                )
                fault = EngineFault(
                    f"cannot remove container {container.name}: {error.strerror}: "
                    f"{error.filename}; free what holds it and remove it again"
                )
                tell_failed_removal(container, str(fault))
                raise fault from error
        engine.containers.discard(container)
        container.life = msgspec.structs.replace(
            container.life, state=after(State.REMOVING, Event.REMOVED)
        )
    if container.config.image_id in engine.images.retired:
        await _release_images(engine)
    engine.counts.over(laps.done())
    for attachment in container.attachments:
        attachment.end()
    engine.events.publish("container", "destroy", container.id, attributes(container))
    log.info("container.removed", container=container.short_id, phase="remove")
    tell_removal(container)


async def _release_images(engine: Engine) -> None:
    """Remove what containers needed of images that are gone; what can't be goes the next time."""
    used = {one.config.image_id for one in engine.containers}
    with anyio.CancelScope(shield=True):
        try:
            await anyio.to_thread.run_sync(
                engine.images.release, used, limiter=engine.limits.removals
            )
        except OSError as error:
            log.warning("images.not_released", error=error.strerror)


REMOVED_SUFFIX = ".removed"


def delete_directory(directory: Path, rename: Callable[[Path, Path], None] = os.rename) -> None:
    """Delete a container's directory: out of sight at one stroke, then piece by piece.

    A supervisor that dies meanwhile leaves a directory whose name ends in ".removed", which the
    next one sweeps; it never finds half a container.
    """
    doomed = directory.with_name(directory.name + REMOVED_SUFFIX)
    try:
        rename(directory, doomed)
    except FileNotFoundError:
        if not doomed.exists():
            return
    remove_tree(doomed)
