"""Push: an image of the store to a registry.

Layers first, several at once (`layer_uploads`), then the configuration, then the manifest, which is
what makes an image of them. What the registry calls the image is noted in the store, with the
manifest, so that the next push of it, or of an image on top of it, knows what is there.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import anyio
import anyio.to_thread
import structlog

from runtime.images.blobs import digest_of
from runtime.images.errors import ImageNotFound
from runtime.images.holding import Hold
from runtime.images.model import Blob, Image
from runtime.images.references import DEFAULT_TAG, Reference
from supervisor import image_events
from supervisor.errors import BadParameter, NotFound
from supervisor.progress import Progress
from supervisor.registries.credentials import Credentials
from supervisor.registries.manifests import Descriptor, Manifest
from supervisor.registries.repository import Repository
from supervisor.transfers import layer_uploads, whereabouts
from supervisor.transfers.pulling import held, short
from supervisor.transfers.pushed_manifest import Stored, build
from supervisor.transfers.together import together

if TYPE_CHECKING:
    from supervisor.engine import Engine

log = structlog.get_logger()


class Asked(NamedTuple):
    """What is to be pushed, and by whom.

    Attributes:
        reference: The name that it is pushed by, without a digest.
        all_tags: All names of this repository.
    """

    reference: Reference
    all_tags: bool = False
    credentials: Credentials | None = None


class _Layer(NamedTuple):
    """A layer that is to be pushed, and what the registry may have of it."""

    diff_id: str
    blob: Blob
    seen: list[whereabouts.Seen]


class _Content(NamedTuple):
    """An image as the store has it, read before anything is sent."""

    config: bytes
    layers: list[_Layer]
    stored: Stored | None


async def push(engine: Engine, asked: Asked, progress: Progress) -> None:
    """Bring an image, or all tags of a repository, to the registry that its name says.

    Raises:
        BadParameter: It lies on this machine's own files, or an older engine kept no archive of it.
        NotFound: No image has the name.
        RegistryError: The registry does not take it.
        ImageError: The store's files are damaged, or this machine failed.
    """
    name = asked.reference.familiar_name
    named = _named(engine, asked)
    for tag, image in named.items():
        _refuse_host(f"{name}:{tag}", image)
    progress.say(f"The push refers to repository [{asked.reference.name}]")
    if not named:
        what = "An image does not exist locally with the tag" if asked.all_tags else ""
        tag = asked.reference.tag or DEFAULT_TAG
        raise NotFound(f"{what}: {name}" if what else f"tag does not exist: {name}:{tag}")
    repository = engine.registries.repository(asked.reference, asked.credentials, push=True)
    for tag, image in named.items():
        await _push_one(engine, replace(asked.reference, tag=tag), image, repository, progress)


def _named(engine: Engine, asked: Asked) -> dict[str, Image]:
    """The images that are meant, by their tags."""
    found = {}
    wanted = asked.reference.tag or DEFAULT_TAG
    for image in engine.images.images():
        for name in image.tags:
            repository, _, tag = name.rpartition(":")
            if repository == asked.reference.familiar_name and (asked.all_tags or tag == wanted):
                found[tag] = image
    return dict(sorted(found.items()))


def _refuse_host(name: str, image: Image) -> None:
    if image.built_in or image.base:
        raise BadParameter(
            f"{name} can't be pushed: it lies on this machine's own files (the image host), which "
            "other machines don't have; make it from another base image"
        )


async def _push_one(
    engine: Engine,
    reference: Reference,
    image: Image,
    repository: Repository,
    progress: Progress,
) -> None:
    async with held(engine) as hold:
        content = await _read(engine, reference, image, hold)
        pushed = await _layers(engine, repository, content.layers, progress)
        await _config(repository, content.config)
        manifest = _manifest(content, pushed)
        digest = await repository.put_manifest(reference.tag, manifest.media_type, manifest.data)

        def note() -> None:
            # Who removed it meanwhile does not want it back.
            with contextlib.suppress(ImageNotFound):
                engine.images.resolve(image.id)
                hold.add_image(
                    content.config,
                    digests=(f"{reference.familiar_name}@{digest}",),
                    manifest=manifest.data,
                )

        await anyio.to_thread.run_sync(note, limiter=engine.limits.images)
    size = len(manifest.data)
    progress.say(f"{reference.tag}: digest: {digest} size: {size}")
    progress.aux({"Tag": reference.tag, "Digest": digest, "Size": size})
    image_events.publish(engine, "push", image, reference.familiar_name, reference.familiar)
    log.info("image.pushed", image=image.short_id, name=reference.familiar, digest=digest)


async def _read(engine: Engine, reference: Reference, image: Image, hold: Hold) -> _Content:
    """All that is known of an image, its layers held from now on."""

    def read() -> _Content:
        store = engine.images
        seen = whereabouts.seen(store, image, reference.domain, but=reference.path)
        layers = []
        for diff_id in image.diff_ids:
            layer = hold.layer(diff_id)
            if layer is None or layer.blob is None:
                raise BadParameter(
                    f"{reference.familiar} can't be pushed: mdocker kept no archive of its layer "
                    f"{short(diff_id)}, which an older version unpacked; pull or import it again"
                )
            layers.append(_Layer(diff_id, layer.blob, seen.get(diff_id, [])))
        stored = Stored.read(store.manifest_blob(image))
        return _Content(store.config_blob(image), layers, stored)

    return await anyio.to_thread.run_sync(read, limiter=engine.limits.images)


async def _layers(
    engine: Engine, repository: Repository, layers: list[_Layer], progress: Progress
) -> list[Descriptor]:
    """Have all layers there; returns what they are called, the lowest first."""
    distinct = {layer.diff_id: layer for layer in layers}
    upwards = list(distinct.values())
    for layer in reversed(upwards):
        progress.show(short(layer.diff_id), "Preparing")

    async def send(layer: _Layer) -> Descriptor:
        told = functools.partial(progress.show, short(layer.diff_id))
        return await layer_uploads.upload(engine, repository, layer.blob, layer.seen, told)

    sent = dict(zip(distinct, await together(send, upwards), strict=True))
    return [sent[layer.diff_id] for layer in layers]


async def _config(repository: Repository, config: bytes) -> None:
    """Have the configuration there. Nobody is told of so small a thing."""
    digest = digest_of(config)

    async def pieces() -> AsyncGenerator[bytes, None]:
        yield config

    async def send() -> None:
        async with contextlib.aclosing(pieces()) as whole:
            await repository.upload_blob(whole, len(config), digest)

    if not await repository.has_blob(digest):
        await layer_uploads.patiently(send, lambda action, current=0, total=0: None)


def _manifest(content: _Content, pushed: list[Descriptor]) -> Manifest:
    stored = content.stored
    if stored is not None and stored.fits(digest_of(content.config), pushed):
        return stored.manifest
    return build(content.config, pushed)
