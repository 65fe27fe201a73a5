"""Commit: an image of what a container is now.

Its upper directory becomes a layer (`runtime.layer_packing`) on its image's. The process that reads
it writes straight to the one that makes the new layer (`runtime.images.unpacking`): not a byte goes
through here, and whoever dies, what is not in the store's catalogue is swept.

While its files are read a container that runs is paused, unless that is not wanted. The pause ends
with the reading whatever happens; if this supervisor dies meanwhile, its successor ends it.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import structlog

from runtime.images.configuration import Step
from runtime.images.model import Image
from runtime.images.unpacking import UnpackJob
from supervisor import image_events, image_making, pausing
from supervisor.archive import check_there, helper, layers_of
from supervisor.changes import hidden
from supervisor.container import Container
from supervisor.errors import Conflict
from supervisor.helper_process import Unread
from supervisor.lifecycle import attributes
from supervisor.states import State

if TYPE_CHECKING:
    from supervisor.engine import Engine

log = structlog.get_logger()


class Asked(NamedTuple):
    """What the image is to be.

    Attributes:
        name: `name[:tag]`, or empty for an untagged one.
        inherited: Its configuration (`Image.config`).
        pause: Whether the container is to stand still meanwhile.
    """

    name: str
    inherited: Mapping[str, Any]
    author: str = ""
    comment: str = ""
    pause: bool = True


class Readers:
    """Who reads files of containers that stand still for it."""

    def __init__(self) -> None:
        self._count: dict[str, int] = {}

    @contextlib.asynccontextmanager
    async def held_still(self, engine: Engine, container: Container) -> AsyncGenerator[None, None]:
        """Have a container paused while the block runs. One that is, or does not run, is left so.

        Raises:
            EngineFault: A process of it can't be stopped.
        """
        self._count[container.id] = self._count.get(container.id, 0) + 1
        try:
            if container.state is State.RUNNING:
                with contextlib.suppress(Conflict):  # it has ended or been paused meanwhile
                    await pausing.pause(engine, container, briefly=True)
            yield
        finally:
            self._count[container.id] -= 1
            if not self._count[container.id]:
                del self._count[container.id]
                pausing.end_brief(engine, container)


async def commit(engine: Engine, container: Container, asked: Asked) -> Image:
    """Make an image of a container; all of it or nothing.

    Raises:
        ImageError: Its own image is gone, or the new one can't have that name, or the disk refused.
        Conflict: It is being removed.
        BadParameter: It has files that no image can have.
        EngineFault: The machine refused.
    """
    check_there(container, "commit")
    parent = engine.images.of_container(container.config.image_id)
    config = container.config
    step = Step(
        asked.comment,
        asked.author,
        " ".join(config.cmd),
        container=container.id,
        container_image=config.image,
    )
    begin = functools.partial(engine.images.begin_commit, parent, asked.inherited, step, asked.name)
    async with image_making.making(engine, begin) as job:
        await pack(engine, container, job, pause=asked.pause)
        check_there(container, "commit")  # what is being removed lacks files
        with anyio.CancelScope(shield=True):  # bounded by the disk; a whole image is told of
            image = await image_making.finish(engine, job)
            _tell(engine, container, image, asked, job)
    return image


async def pack(engine: Engine, container: Container, job: UnpackJob[Image], *, pause: bool) -> None:
    """Write what a container has changed into the making of an image.

    Args:
        pause: Whether it is to stand still meanwhile.

    Raises:
        Conflict, NoSuchContainer: It is being removed.
        BadParameter: It has files that no image can have.
        EngineFault: The machine refused.
    """
    async with contextlib.AsyncExitStack() as stack:
        if pause:
            await stack.enter_async_context(engine.readers.held_still(engine, container))
        order = {"kind": "layer", "hidden": hidden(engine, container)}
        view = layers_of(engine, container)
        work = helper(engine, container, order, view=view, output=job.stdin_fd)
        with contextlib.suppress(Unread):  # the end of the other process says more
            one, _ = await stack.enter_async_context(work)
            job.close_stdin()
            await one.answer()
    job.close_stdin()


def _tell(
    engine: Engine, container: Container, image: Image, asked: Asked, job: UnpackJob[Image]
) -> None:
    name = engine.images.checked_name(asked.name)
    if name:
        image_events.publish(engine, "tag", image, name)
    more = {"comment": asked.comment, "imageID": image.id, "imageRef": name}
    engine.events.publish("container", "commit", container.id, attributes(container, **more))
    log.info(
        "container.committed",
        container=container.short_id,
        image=image.short_id,
        size_bytes=image.size,
        left_out=job.warnings,
    )
