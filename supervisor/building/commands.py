"""RUN: a command runs in a container, which becomes the next image."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

import anyio
import msgspec
import structlog

from runtime.images.configuration import Step
from runtime.images.model import Image
from supervisor import commit, image_making, store
from supervisor.building.asked import Config
from supervisor.building.errors import StepFailed
from supervisor.building.output import CommandOutput, Output
from supervisor.container import Container, ContainerConfig
from supervisor.errors import EngineError
from supervisor.states import State

if TYPE_CHECKING:
    from supervisor.engine import Engine


log = structlog.get_logger()

REMOVE_SECONDS = 30.0
"""How long the end of a build waits for that of its container; it is killed with SIGKILL."""


@contextlib.asynccontextmanager
async def container_of(
    engine: Engine, config: ContainerConfig, *, keep_failed: bool
) -> AsyncGenerator[Container, None]:
    """Have a container for one step; it is gone when the block is left.

    Args:
        keep_failed: One whose command has failed stays, for who wants to look into it.

    Raises:
        EngineError: It can't be made.
    """
    container = await engine.create(None, config)
    try:
        yield container
    except StepFailed:
        if keep_failed:
            await keep(engine, container)
        else:
            await _remove(engine, container)
        raise
    except BaseException:
        await _remove(engine, container)
        raise


async def run(engine: Engine, container: Container, output: Output, shown: str) -> None:
    """Run a container to its end, and tell what it prints.

    Args:
        shown: Its command, in words about its failing.

    Raises:
        StepFailed: It has failed; it carries the exit code.
        EngineError: It can't be started.
    """
    attachment, _ = engine.attach(container, stdout=True, stderr=True)
    ended = engine.waiter(container, "next-exit")
    try:
        await engine.start(container)
        printed = CommandOutput()
        async with contextlib.aclosing(aiter(attachment)) as live:
            async for stream, data in live:
                if text := printed.text(stream, data):
                    await output.say(text)
        if text := printed.rest() + attachment.lost:
            await output.say(text)
        result = await ended.result()
    finally:
        engine.detach(container, attachment)
    if result.code or result.error:
        more = f": {result.error}" if result.error else ""
        raise StepFailed(
            f"The command '{shown}' returned a non-zero code: {result.code}{more}",
            result.code or 1,
        )


async def committed(
    engine: Engine, container: Container, parent: Image, config: Config, step: Step
) -> Image:
    """Make the next image of what a container has changed.

    Raises:
        EngineError, ImageError: As `supervisor.commit.commit`.
    """
    begin = functools.partial(engine.images.begin_commit, parent, config, step)
    async with image_making.making(engine, begin) as job:
        await commit.pack(engine, container, job, pause=False)
        with anyio.CancelScope(shield=True):  # bounded by the disk
            image = await image_making.finish(engine, job)
    return image


async def remove(engine: Engine, container: Container) -> None:
    """Remove a container of a step that is done, with what it has mounted."""
    with anyio.CancelScope(shield=True):
        await _remove(engine, container)


async def keep(engine: Engine, container: Container) -> None:
    """Make it a container like any other."""
    if container.state is State.GONE:
        return
    container.config = msgspec.structs.replace(container.config, of_build=False)
    with anyio.move_on_after(REMOVE_SECONDS, shield=True):
        try:
            await store.save_patiently(engine.directory(container), container)
        except OSError as error:
            log.error("build.container_not_kept", error=error.strerror)


async def _remove(engine: Engine, container: Container) -> None:
    if container.state is State.GONE:
        return
    with anyio.move_on_after(REMOVE_SECONDS, shield=True):
        try:
            await engine.remove(container, force=True, volumes=True)
        except EngineError as error:
            log.error("build.container_not_removed", container=container.short_id, error=str(error))
