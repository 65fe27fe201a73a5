"""`load`: images out of an archive, streamed from a client.

The archive is taken apart by a confined child (`runtime.images.archive_staging`), as its documents
may stand behind its layers, and in an order of its own. Then what they name is unpacked, two layers
at once, each by a confined child as those of a pull, and checked against what they say. Half an
image is never there: layers are held until the image is made, and what no image came to use goes.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import structlog

from runtime.images.archive_members import StagedArchive
from runtime.images.blobs import digest_of
from runtime.images.errors import ImageError, ImageNotFound, ImportRefused
from runtime.images.holding import Hold
from runtime.images.model import Image, Layer
from runtime.images.unpacking import UnpackJob
from supervisor import image_events, image_making
from supervisor.loadable import LayerFile, Loadable, loadables
from supervisor.pipes import write_all
from supervisor.progress import EVERY_S, Progress
from supervisor.registries.manifests import PlatformSpec
from supervisor.transfers.pulling import held, short
from supervisor.transfers.together import together

if TYPE_CHECKING:
    from supervisor.engine import Engine

log = structlog.get_logger()

AT_ONCE = 2
"""Layers of one archive that are unpacked at the same time: the disk is the same for all."""


async def load(
    engine: Engine,
    pieces: AsyncIterator[bytes],
    progress: Progress,
    *,
    platform: PlatformSpec | None = None,
    quiet: bool = False,
) -> list[Image]:
    """Load all images of an archive, one after the other; each is there whole, or not at all.

    Args:
        pieces: The archive as it comes.
        platform: Take the images for this one, and no others.
        quiet: Tell of images, and not how far their layers are.

    Raises:
        ImageError: The archive is no good, or this machine failed. Images that were told of before
            are there.
        UnsupportedManifest: It holds something else than images.
    """
    async with _staged(engine, pieces) as archive, held(engine) as hold:
        found = await anyio.to_thread.run_sync(
            loadables, archive, platform, limiter=engine.limits.images
        )
        made = []
        for one in found:
            layers = await _Layers(engine, hold, archive, None if quiet else progress).load(one)
            with anyio.CancelScope(shield=True):  # bounded by the disk; a whole image is told of
                made.append(await _add(engine, hold, one, layers, progress))
        return made


@contextlib.asynccontextmanager
async def _staged(
    engine: Engine, pieces: AsyncIterator[bytes]
) -> AsyncGenerator[StagedArchive, None]:
    """Have an archive's files in staging while the block runs."""
    async with image_making.making(engine, engine.images.begin_staging) as job:
        await _feed(job, pieces)
        archive = await image_making.finish(engine, job)
    try:
        yield archive
    finally:
        await image_making.taken_back(engine, archive.remove, engine.limits.removals)


async def _feed(job: UnpackJob[StagedArchive], pieces: AsyncIterator[bytes]) -> None:
    os.set_blocking(job.stdin_fd, False)
    async for piece in pieces:
        if not await write_all(job.stdin_fd, piece):
            return  # the child has seen enough: its result says why
    job.close_stdin()


async def _add(
    engine: Engine, hold: Hold, one: Loadable, layers: Sequence[Layer], progress: Progress
) -> Image:
    for tag in one.tags:
        with contextlib.suppress(ImageNotFound):
            before = engine.images.resolve(tag)
            if before.id != digest_of(one.config):
                progress.line(
                    {
                        "stream": f"The image {tag} already exists, renaming the old one with ID "
                        f"{before.id} to empty string\n"
                    }
                )
    # A layer that was here already may be kept in another form than the manifest names.
    is_kept = all(
        layer.blob is not None and layer.blob.digest == file.listed
        for layer, file in zip(layers, one.layers, strict=True)
    )
    image = await anyio.to_thread.run_sync(
        functools.partial(
            hold.add_image, one.config, tags=one.tags, manifest=one.manifest if is_kept else b""
        ),
        limiter=engine.limits.images,
    )
    image_events.publish(engine, "load", image, image.id)
    log.info("image.loaded", image=image.short_id, tags=one.tags, size_bytes=image.size)
    for text in [f"Loaded image: {tag}" for tag in one.tags] or [f"Loaded image ID: {image.id}"]:
        progress.line({"stream": f"{text}\n"})
    return image


class _Layers:
    """The layers of images of one archive."""

    def __init__(
        self, engine: Engine, hold: Hold, archive: StagedArchive, progress: Progress | None
    ) -> None:
        self._engine = engine
        self._hold = hold
        self._archive = archive
        self._progress = progress
        self._turns = anyio.Semaphore(AT_ONCE)

    async def load(self, one: Loadable) -> list[Layer]:
        """Have all layers of an image in hand; those that are not here are unpacked."""
        files = {file.diff_id: file for file in one.layers}
        known = await anyio.to_thread.run_sync(
            self._known, list(files), limiter=self._engine.limits.images
        )
        missing = [file for file in files.values() if file.diff_id not in known]
        for layer in await together(self._unpack, missing):
            known[layer.diff_id] = layer
        return [known[file.diff_id] for file in one.layers]

    def _known(self, diff_ids: Sequence[str]) -> dict[str, Layer]:
        """Those that are here. One that an older engine has unpacked comes anew, with its blob."""
        found = {diff_id: self._hold.layer(diff_id) for diff_id in diff_ids}
        return {
            diff_id: layer
            for diff_id, layer in found.items()
            if layer is not None and layer.blob is not None
        }

    async def _unpack(self, file: LayerFile) -> Layer:
        try:
            async with self._turns:
                layer = await self._unpacked(file)
        except ImageError as error:
            raise type(error)(f"layer {short(file.diff_id)}: {error}") from error
        if layer.diff_id != file.diff_id:
            raise ImportRefused(
                f'invalid diffID for layer {file.number}: expected "{file.diff_id}", got '
                f'"{layer.diff_id}"'
            )
        return layer

    async def _unpacked(self, file: LayerFile) -> Layer:
        path = self._archive.path(file.member)
        begin = functools.partial(self._hold.begin_layer, file.listed, path)
        async with image_making.making(self._engine, begin) as job:
            if self._progress is not None:
                await self._watch(file, job, self._progress)
            layer = await image_making.finish(self._engine, job)
        if self._progress is not None:
            size = file.member.size
            self._progress.show(short(file.diff_id), "Loading layer", size, size)
        return layer

    async def _watch(self, file: LayerFile, job: UnpackJob[Layer], progress: Progress) -> None:
        """Tell how far the child is, until it has come to its end."""
        running = True
        while running:
            progress.show(short(file.diff_id), "Loading layer", job.taken, file.member.size)
            with anyio.move_on_after(EVERY_S):
                await anyio.wait_readable(job.result_fd)
                running = False
