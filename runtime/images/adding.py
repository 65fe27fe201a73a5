"""How an image gets into a store: layer, configuration, catalogue; undone where one fails."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from runtime.images import configuration, references
from runtime.images.blobs import digest_of
from runtime.images.contents import Contents
from runtime.images.errors import (
    BuiltInImage,
    ImageNotFound,
    ImportFailed,
    ImportRefused,
    InvalidReference,
)
from runtime.images.lookup import HOST_NAME
from runtime.images.model import Image, Layer
from runtime.images.unpacking import Unpacked, words_of


@dataclass(frozen=True, slots=True)
class New:
    """What an image will be, beside its files.

    Attributes:
        tag: `name:tag`, or empty.
        parent: What it is made of; None where its layer is all of it.
        is_step: Its layer lies above others, or is the first of several; an empty one is none.
    """

    tag: str
    step: configuration.Step
    inherited: dict[str, Any] = field(default_factory=dict)
    parent: Image | None = None
    is_step: bool = False


def checked_name(name: str) -> str:
    """The whole `name:tag` that a new image may have; empty for none.

    Raises:
        InvalidReference, BuiltInImage: It may not; Docker's texts.
    """
    if not name:
        return ""
    reference = references.parse(name)
    if reference.digest:
        raise InvalidReference("cannot import digest reference")
    tag = reference.tagged()
    if tag == HOST_NAME:
        raise BuiltInImage(f"the name {HOST_NAME} is taken by the built-in image: choose another")
    return tag


def commit(contents: Contents, unpacked: Unpacked, new: New) -> Image:
    """Makes an image whose topmost layer has just been unpacked.

    Raises:
        ImageNotFound: Its parent has gone meanwhile.
        OSError: Nothing was added.
    """
    with contents.writing:
        if new.is_step and unpacked.is_empty:
            return _add(contents, new, None)
        _parent_of(contents, new)  # before anything is moved
        layer, is_new = contents.layers.put(unpacked)
        try:
            return _add(contents, new, layer)
        except BaseException:
            if is_new:
                taken = contents.layers.take(layer.diff_id)
                if taken is not None:
                    taken.rename(unpacked.directory)
            raise


def add_step(contents: Contents, new: New) -> Image:
    """Makes an image that has just the layers of its parent.

    Raises:
        ImageNotFound: The parent is gone.
        ImportFailed: This machine failed, such as by a full disk.
    """
    try:
        with contents.writing:
            return _add(contents, new, None)
    except OSError as error:
        raise ImportFailed(f"cannot store the image: {words_of(error)}") from error


def put_image(
    contents: Contents,
    config: bytes,
    tags: Sequence[str],
    digests: Sequence[str],
    manifest: bytes,
    kept: set[str],
) -> Image:
    """Makes an image of layers that are kept; see `Hold.add_image`."""
    document = configuration.checked(config)
    names = [checked_name(tag) for tag in tags]
    missing = set(document["rootfs"].get("diff_ids") or ()) - kept
    if missing:
        raise ImportRefused(
            f"the image's configuration names a layer that it did not come with: {min(missing)}"
        )
    try:
        with contents.writing:
            return _put_image(contents, config, names, digests, manifest)
    except OSError as error:
        raise ImportFailed(f"cannot store the image: {words_of(error)}") from error


def _put_image(
    contents: Contents,
    config: bytes,
    tags: Sequence[str],
    digests: Sequence[str],
    manifest: bytes,
) -> Image:
    image_id = digest_of(config)
    before = contents.known.catalogue
    replaced = before.manifests.get(image_id, "")
    manifest_id = digest_of(manifest) if manifest else replaced
    listed = before.with_image(image_id, time.time_ns(), digests=digests, manifest=manifest_id)
    for tag in tags:
        listed = listed.with_image(image_id, 0, tag)
    new = [
        blob
        for blob in filter(None, (manifest, config))
        if not contents.blobs.path(digest_of(blob)).exists()
    ]
    try:
        for blob in new:
            contents.blobs.put(blob)
        contents.save(listed, contents.read(image_id, listed))
    except BaseException:
        for blob in new:
            contents.blobs.discard(digest_of(blob))
        raise
    if replaced not in ("", manifest_id):
        contents.blobs.discard(replaced)
    return contents.known.images[image_id]


def _add(contents: Contents, new: New, layer: Layer | None) -> Image:
    """Configuration and catalogue of a new image whose layers are here."""
    parent_id = _parent_of(contents, new)
    created_ns = time.time_ns()
    below = new.parent.diff_ids if new.parent else ()
    step = new.step._replace(empty_layer=layer is None)
    diff_ids = (*below, layer.diff_id) if layer else below
    blob = configuration.encode(new.inherited, created_ns, diff_ids, step, new.parent)
    image_id = digest_of(blob)
    try:
        contents.blobs.put(blob)
        tagged_ns = created_ns if new.tag else 0
        listed = contents.known.catalogue.with_image(
            image_id, created_ns, new.tag, parent_id, tagged_ns=tagged_ns
        )
        contents.save(listed, contents.read(image_id, listed))
    except BaseException:
        contents.blobs.discard(image_id)
        raise
    return contents.known.images[image_id]


def _parent_of(contents: Contents, new: New) -> str:
    """Its parent's id; that must be there still, since its layers go with it."""
    if new.parent is None:
        return ""
    if new.parent.id in contents.known.retired:
        return ""  # it has its layers, and is no image any more
    if not new.parent.built_in and new.parent.id not in contents.known.images:
        raise ImageNotFound(new.parent.id)
    return new.parent.id
