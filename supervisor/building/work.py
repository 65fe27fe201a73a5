"""A build from its beginning to its names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import structlog

from runtime.images import references
from runtime.images.model import Image
from supervisor import image_events
from supervisor.building import context, dockerfile, instructions
from supervisor.building.asked import Asked
from supervisor.building.builder import Build
from supervisor.building.errors import StepFailed
from supervisor.building.output import Output
from supervisor.building.staging import Staging
from supervisor.progress import Progress

if TYPE_CHECKING:
    from supervisor.engine import Engine

log = structlog.get_logger()


async def build(
    engine: Engine,
    asked: Asked,
    staging: Staging,
    received: context.Texts | None,
    progress: Progress,
) -> None:
    """Build an image and give it its names. A command that fails is told of, and ends it.

    Args:
        received: What the client has sent is in `staging`; None for a context that is elsewhere.

    Raises:
        DockerfileRefused, BadParameter: The Dockerfile or the context is no good.
        StepFailed: A step can't be done.
        EngineError, ImageError: This machine, or a registry, failed.
    """
    texts = received or await context.fetch(engine, staging, asked.remote, asked.dockerfile)
    data = await context.settle(engine, staging, texts, is_remote=received is None)
    plan = await anyio.to_thread.run_sync(
        lambda: instructions.plan(dockerfile.read(data)), limiter=engine.limits.images
    )
    output = Output(progress, quiet=asked.quiet)
    with engine.builds.build() as needed:
        try:
            image = await Build(engine, asked, plan, staging, output, needed).run()
        except StepFailed as error:
            if not error.exit_code:
                raise
            output.failed(str(error), error.exit_code)
            return
        await _named(engine, image, asked, output)
    log.info("image.built", image=image.short_id, names=asked.names)


async def _named(engine: Engine, image: Image, asked: Asked, output: Output) -> None:
    """Give an image its names, and tell of it."""
    if not asked.quiet:
        await output.say(f"Successfully built {image.short_id}\n")
    for name in asked.names:
        await _tag(engine, image, name)
        if not asked.quiet:
            await output.say(f"Successfully tagged {name}\n")
    output.result(image.id)


async def _tag(engine: Engine, image: Image, name: str) -> None:
    await anyio.to_thread.run_sync(engine.images.tag, image.id, name, limiter=engine.limits.images)
    image_events.publish(engine, "tag", image, references.parse(name).tagged())
