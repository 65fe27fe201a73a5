"""What a registry is likely to have of an image's layers, by what was pulled from it or pushed.

An image's digests say which repositories it is in, its manifest what its layers are called there.
So no record of its own is needed. Where it is is a guess: the registry is asked before anything
relies on it. What it is is none: manifests are kept of archives alone that were looked at here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from runtime.images import references
from runtime.images.errors import ImageError
from runtime.images.model import Image
from runtime.images.store import ImageStore
from supervisor.registries.manifests import Descriptor
from supervisor.transfers.pushed_manifest import Stored


class Seen(NamedTuple):
    """An archive of a layer that somebody has seen.

    Attributes:
        blob: What it is called.
        paths: Repositories of the registry that may have it, sorted.
    """

    blob: Descriptor
    paths: tuple[str, ...] = ()


def seen(store: ImageStore, image: Image, domain: str, *, but: str = "") -> dict[str, list[Seen]]:
    """What is known of each layer of an image, by diff id; those of its own manifest first.

    Reads a file for each image that has a layer of its.

    Args:
        domain: The registry.
        but: A repository's path that is left out.
    """
    wanted = set(image.diff_ids)
    others = (one for one in store.images() if one.id != image.id and not one.built_in)
    found: dict[str, dict[str, tuple[Descriptor, set[str]]]] = {}
    for one in (image, *others):
        if wanted.isdisjoint(one.diff_ids):
            continue
        paths = _paths(one.digests, domain) - {but}
        stored = Stored.read(_manifest(store, one, image))
        if stored is None or not (paths or one is image):
            continue
        for diff_id, blob in zip(one.diff_ids, stored.parts.layers, strict=False):
            if diff_id in wanted:
                known = found.setdefault(diff_id, {}).setdefault(blob.digest, (blob, set()))
                known[1].update(paths)
    return {
        diff_id: [Seen(blob, tuple(sorted(paths))) for blob, paths in blobs.values()]
        for diff_id, blobs in found.items()
    }


def _manifest(store: ImageStore, one: Image, wanted: Image) -> bytes | None:
    try:
        return store.manifest_blob(one)
    except ImageError:
        if one is wanted:
            raise
        return None  # another image is damaged: this one does not need it


def _paths(digests: Iterable[str], domain: str) -> set[str]:
    named = (references.parse(digest) for digest in digests)
    return {reference.path for reference in named if reference.domain == domain}
