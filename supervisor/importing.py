"""`import`: an image of a root file system's archive, as it comes."""

from __future__ import annotations

import functools
import os
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from runtime.images.model import Image
from supervisor import image_events, image_making
from supervisor.pipes import write_all
from supervisor.progress import Progress

if TYPE_CHECKING:
    from supervisor.engine import Engine


class Asked(NamedTuple):
    """What the image is to be.

    Attributes:
        name: `name[:tag]`, or empty for an untagged one.
        message: The comment in its history.
        changes: Dockerfile instructions.
        size: Bytes of the archive, 0 where nobody knows.
        every: Bytes between two things that are told of its progress.
    """

    name: str
    message: str = ""
    changes: Sequence[str] = ()
    size: int = 0
    every: int = 0


async def import_archive(
    engine: Engine, asked: Asked, pieces: AsyncIterator[bytes], progress: Progress
) -> Image:
    """Import, or leave nothing behind.

    Raises:
        ImageError: The archive is no good, the image can't have that name, or the machine failed.
    """
    begin = functools.partial(
        engine.images.begin_import, asked.name, asked.message, list(asked.changes)
    )
    async with image_making.making(engine, begin) as job:
        os.set_blocking(job.stdin_fd, False)
        received = told = 0
        async for piece in pieces:
            if not await write_all(job.stdin_fd, piece):
                break  # the child has seen enough: its result says why
            received += len(piece)
            if received - told >= asked.every:
                told = received
                progress.show("", "Importing", received, asked.size)
        job.close_stdin()
        image = await image_making.finish(engine, job)
    if asked.name:
        image_events.publish(engine, "tag", image, engine.images.checked_name(asked.name))
    image_events.publish(engine, "import", image, image.id)
    for warning, count in job.warnings.items():
        progress.say(f"warning: {warning} ({count})")
    progress.say(image.id)
    return image
