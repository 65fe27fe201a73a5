"""Pull: an image from a registry into the store.

Manifest, configuration, then all layers at once (`layer_downloads`). The image is in the catalogue
when all of them are here; before that, whatever happens, what came is held by this pull alone and
goes with it.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import anyio
import anyio.to_thread
import structlog

from runtime.images import configuration
from runtime.images.errors import ImageError
from runtime.images.holding import Hold
from runtime.images.lookup import HOST_NAME
from runtime.images.model import Image
from runtime.images.references import DEFAULT_TAG, Reference
from supervisor import image_events, image_making
from supervisor.progress import Progress
from supervisor.registries import manifests, platforms
from supervisor.registries.credentials import Credentials
from supervisor.registries.errors import NoMatchingPlatform, NotThere, UnsupportedManifest
from supervisor.registries.manifests import Descriptor, ImageManifest, Manifest, PlatformSpec
from supervisor.registries.repository import Repository
from supervisor.transfers.layer_downloads import Wanted, is_here
from supervisor.transfers.together import together

if TYPE_CHECKING:
    from supervisor.engine import Engine

log = structlog.get_logger()

LARGEST_CONFIG = 4 * 1024 * 1024
"""Bytes of an image's configuration, which is read whole."""


class Asked(NamedTuple):
    """What is to be pulled, and by whom.

    Attributes:
        reference: With neither tag nor digest, `latest` is meant.
        platform: As a person writes it; empty for this machine's.
    """

    reference: Reference
    platform: str = ""
    credentials: Credentials | None = None


class _Found(NamedTuple):
    """What a registry has under a name.

    Attributes:
        digest: What the name means there: of a list of platforms, the list's.
        manifest: Of the image that was chosen.
        parts: What it says.
    """

    digest: str
    manifest: Manifest
    parts: ImageManifest


async def pull(engine: Engine, asked: Asked, progress: Progress) -> Image:
    """Have the newest image of a name from its registry; all of it or nothing.

    Raises:
        BadParameter: `platform` is none.
        RegistryError: The registry does not have it, or not for us, or not as it says.
        ImageError: It is no image that can be used here, or this machine failed.
    """
    if asked.reference.digest:  # what its tag means does not matter then
        asked = asked._replace(reference=replace(asked.reference, tag=""))
    reference, name = asked.reference, asked.reference.tagged()
    platform = platforms.parse(asked.platform)
    if name == HOST_NAME:
        progress.say(f"Status: {name} is made of this machine: there is nothing to pull")
        return engine.images.host()
    repository = engine.registries.repository(reference, asked.credentials)
    tag = reference.digest or reference.tag or DEFAULT_TAG
    found = await _find(repository, tag, platform)
    progress.say(f"Pulling from {reference.path}", tag)
    before = _named(engine, name)
    async with held(engine) as hold:
        image = await _bring(engine, asked, repository, found, hold, progress)
    progress.say(f"Digest: {found.digest}")
    newer = "Image is up to date" if before == image.id else "Downloaded newer image"
    progress.say(f"Status: {newer} for {name}")
    image_events.publish(engine, "pull", image, reference.familiar_name, name)
    log.info("image.pulled", image=image.short_id, name=name, digest=found.digest)
    return image


async def pull_all_tags(engine: Engine, asked: Asked, progress: Progress) -> None:
    """Pull whatever a repository has, one tag after the other; ends at the first that fails.

    Raises:
        As `pull`.
    """
    repository = engine.registries.repository(asked.reference, asked.credentials)
    tags = await repository.tags()
    if not tags:
        raise NotThere(f"the repository {asked.reference.familiar_name} has no tags")
    for tag in tags:
        await pull(engine, asked._replace(reference=replace(asked.reference, tag=tag)), progress)


@contextlib.asynccontextmanager
async def held(engine: Engine) -> AsyncGenerator[Hold, None]:
    """Hold layers while the block runs; those that no image came to use are removed."""
    hold = engine.images.hold()
    try:
        yield hold
    finally:
        await image_making.taken_back(engine, hold.close, engine.limits.images)


async def _find(repository: Repository, tag: str, platform: PlatformSpec) -> _Found:
    first = manifest = await repository.manifest(tag)
    if first.is_list:
        chosen = platforms.choose(manifests.parse_list(first), platform)
        manifest = await repository.manifest(chosen.digest)
    return _Found(first.digest, manifest, manifests.parse_image(manifest))


async def _bring(
    engine: Engine,
    asked: Asked,
    repository: Repository,
    found: _Found,
    hold: Hold,
    progress: Progress,
) -> Image:
    """All that an image is made of, then the image."""
    reference, parts = asked.reference, found.parts
    config = await _kept_config(engine, parts.config.digest, hold)
    is_known = bool(config)
    if not is_known:
        config = await _config(repository, parts.config)
    if asked.platform:
        _check_platform(config, platforms.parse(asked.platform), reference)
    if not is_known:
        diff_ids = _diff_ids(config)
        configuration.checked(config)  # what can't become an image is not downloaded
        await _layers(engine, repository, parts, diff_ids, hold, progress)

    def add() -> Image:
        return hold.add_image(
            config,
            tags=() if reference.digest else (reference.tagged(),),
            digests=(f"{reference.familiar_name}@{found.digest}",),
            manifest=found.manifest.data if _is_of_kept(parts, config, hold) else b"",
        )

    return await anyio.to_thread.run_sync(add, limiter=engine.limits.images)


def _is_of_kept(parts: ImageManifest, config: bytes, hold: Hold) -> bool:
    """Whether a manifest names just the archives that are kept.

    Of a layer that was here nobody has looked at the archive that it names. A push believes what it
    says, and would have strangers say what is in our images.
    """
    layers = [hold.layer(diff_id) for diff_id in _diff_ids(config)]
    kept = [layer.blob.digest for layer in layers if layer is not None and layer.blob is not None]
    return kept == [blob.digest for blob in parts.layers]


async def _kept_config(engine: Engine, digest: str, hold: Hold) -> bytes:
    """The configuration of an image that is here whole, which is held then; empty if none is."""

    def read() -> bytes:
        try:
            image = engine.images.resolve(digest)
            is_whole = all(is_here(hold, diff_id) for diff_id in image.diff_ids)
            return engine.images.config_blob(image) if is_whole else b""
        except ImageError:  # not there, or damaged
            return b""

    return await anyio.to_thread.run_sync(read, limiter=engine.limits.images)


async def _config(repository: Repository, wanted: Descriptor) -> bytes:
    if wanted.size > LARGEST_CONFIG:
        raise UnsupportedManifest(
            f"the image's configuration has {wanted.size} bytes, at most {LARGEST_CONFIG} are read"
        )
    async with repository.blob(wanted.digest, wanted.size) as pieces:
        return b"".join([piece async for piece in pieces])


async def _layers(
    engine: Engine,
    repository: Repository,
    parts: ImageManifest,
    diff_ids: list[str],
    hold: Hold,
    progress: Progress,
) -> None:
    if len(diff_ids) != len(parts.layers):
        raise UnsupportedManifest(
            f"the manifest has {len(parts.layers)} layers and the image's configuration "
            f"{len(diff_ids)}: they do not belong together"
        )
    # An image may have the same layer twice.
    pairs = zip(diff_ids, parts.layers, strict=True)
    wanted = {diff_id: Wanted(diff_id, blob) for diff_id, blob in pairs}
    for one in wanted.values():
        progress.show(short(one.blob.digest), "Pulling fs layer")

    async def bring(one: Wanted) -> None:
        told = functools.partial(progress.show, short(one.blob.digest))
        await engine.layer_downloads.bring(one, repository, hold, told)

    await together(bring, list(wanted.values()))


def short(digest: str) -> str:
    """What people see of a digest."""
    return digest.removeprefix("sha256:")[:12]


def _diff_ids(config: bytes) -> list[str]:
    """What the configuration says of the layers; the store checks the rest of it."""
    try:
        found = json.loads(config)["rootfs"]["diff_ids"]
    except (ValueError, KeyError, TypeError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise UnsupportedManifest("invalid rootfs in image configuration: it is of no image")
    return found


def _check_platform(config: bytes, wanted: PlatformSpec, reference: Reference) -> None:
    """Refuse the only image that there is, if it is for another platform than was asked for."""
    document = json.loads(config)
    actual = PlatformSpec(str(document.get("os", "")), str(document.get("architecture", "")))
    if (actual.os, actual.architecture) != (wanted.os, wanted.architecture):
        raise NoMatchingPlatform(
            f"{reference.familiar} is for {platforms.shown(actual)}, not for the platform asked "
            f"for: {platforms.shown(wanted)}"
        )


def _named(engine: Engine, name: str) -> str:
    """The id of the image that has a name; empty if none does."""
    try:
        return engine.images.resolve(name).id
    except ImageError:  # one that is damaged is made anew
        return ""
