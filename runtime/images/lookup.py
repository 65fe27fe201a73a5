"""Which image a name or an id means. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from runtime.images import references
from runtime.images.catalogue import Catalogue
from runtime.images.errors import AmbiguousImage, ImageNotFound, InvalidReference, StoreCorrupted
from runtime.images.model import Image

_DIGITS = 64


class Known(NamedTuple):
    """All images at one moment. Replaced as a whole, never altered, so reading needs no lock.

    Attributes:
        catalogue: What repositories.json says.
        images: Image id -> image, the usable ones.
        broken: Image id -> why it can't be used.
        retired: Image id -> what was removed while containers had it.
    """

    catalogue: Catalogue
    images: Mapping[str, Image]
    broken: Mapping[str, str]
    retired: Mapping[str, Image] = MappingProxyType({})

    def layers_in_use(self) -> set[str]:
        """The diff ids of all usable images, and of those that are retired."""
        images = (*self.images.values(), *self.retired.values())
        return {diff_id for image in images for diff_id in image.diff_ids}


HOST_NAME = "host:latest"


def find(reference: str, known: Known, host: Callable[[], Image]) -> Image:
    """The image that a name[:tag], an id or an unambiguous beginning of an id means.

    A whole id is one, whatever is called so; then names come first and beginnings of ids last.

    Args:
        host: Gives the built-in image, and may have to build it: called only if it matters.

    Raises:
        ImageNotFound, AmbiguousImage, InvalidReference: Docker's texts.
        StoreCorrupted: The image is listed but can't be used.
    """
    digits = references.id_prefix(reference)
    if digits is not None and len(digits) == _DIGITS:
        return _by_id(f"sha256:{digits}", reference, known, host)
    shown = reference
    try:
        shown = references.parse(reference).tagged()
    except InvalidReference:
        if digits is None:
            raise
    else:
        if shown == HOST_NAME:
            return host()
        named = known.catalogue.tags.get(shown) or known.catalogue.digests.get(_untagged(shown))
        if named is not None:
            return _by_id(named, shown, known, host)
    if digits is None:
        raise ImageNotFound(shown)
    ids = {*known.catalogue.images, host().id}
    found = [image_id for image_id in ids if image_id.startswith(f"sha256:{digits}")]
    if len(found) > 1:
        raise AmbiguousImage(reference)
    if not found:
        raise ImageNotFound(shown)
    return _by_id(found[0], reference, known, host)


def _untagged(name: str) -> str:
    """A name with a digest, without the tag it may have too: that says nothing then."""
    repository, at, digest = name.partition("@")
    path, slash, last = repository.rpartition("/")
    return f"{path}{slash}{last.partition(':')[0]}{at}{digest}"


def _by_id(image_id: str, reference: str, known: Known, host: Callable[[], Image]) -> Image:
    if image_id in known.images:
        return known.images[image_id]
    if image_id in known.broken:
        raise StoreCorrupted(f"image {reference} is damaged: {known.broken[image_id]}")
    if image_id == host().id:
        return host()
    raise ImageNotFound(reference)
