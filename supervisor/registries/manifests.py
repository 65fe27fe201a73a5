"""Manifests: OCI's and Docker's schema 2, of one image and of several platforms. Pure."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, NamedTuple

import msgspec

from runtime.images.blobs import digest_of
from supervisor.registries.errors import UnsupportedManifest

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"

LISTS = frozenset({OCI_INDEX, DOCKER_LIST})
"""Media types of manifests that name others, one for each platform."""

KNOWN = (OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST)

OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"

OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
LAYERS = {
    OCI_LAYER: OCI_LAYER,
    f"{OCI_LAYER}+gzip": f"{OCI_LAYER}+gzip",
    f"{OCI_LAYER}+zstd": f"{OCI_LAYER}+zstd",
    "application/vnd.docker.image.rootfs.diff.tar": OCI_LAYER,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": f"{OCI_LAYER}+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": f"{OCI_LAYER}+zstd",
}
"""Media types of layers that can be unpacked, and what OCI calls each."""

DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)

_CONFIGS = frozenset({OCI_CONFIG, DOCKER_CONFIG})
_SCHEMA_1 = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)
_GENERIC = frozenset({"", "application/json", "application/octet-stream", "text/plain"})
"""What is said of anything, so of nothing."""


@dataclasses.dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as it came, its digest checked.

    Attributes:
        media_type: One of the four above.
        digest: `sha256:…` of `data`.
        data: Its bytes, which must be kept as they are.
    """

    media_type: str
    digest: str
    data: bytes

    @property
    def is_list(self) -> bool:
        """Whether it names manifests, one for each platform, and is none of an image."""
        return self.media_type in LISTS


class PlatformSpec(NamedTuple):
    """What a list says about one of its entries; empty where it says nothing."""

    os: str = ""
    architecture: str = ""
    variant: str = ""
    os_version: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Descriptor:
    """What a manifest says about something that it names.

    Attributes:
        size: Bytes.
        platform: Of an entry of a list, else None.
    """

    media_type: str
    digest: str
    size: int
    platform: PlatformSpec | None = None
    annotations: dict[str, str] = dataclasses.field(default_factory=dict, compare=False)


@dataclasses.dataclass(frozen=True, slots=True)
class ImageManifest:
    """What an image is made of.

    Attributes:
        config: The image's configuration, a blob.
        layers: The archives of its layers, blobs, the lowest first.
    """

    config: Descriptor
    layers: tuple[Descriptor, ...]


def make(data: bytes, content_type: str, name: str) -> Manifest:
    """Tell what came for a manifest, by the registry's word for it and by what it says itself.

    Args:
        content_type: As the answer has it, perhaps none that means anything.
        name: What was asked for, for errors.

    Raises:
        UnsupportedManifest: It is of schema 1, of no image, or could be read in two ways.
    """
    document = _document(data)
    announced = content_type.partition(";")[0].strip().lower()
    if announced in _SCHEMA_1 or document.get("schemaVersion") == 1:
        raise UnsupportedManifest(
            f"the image {name} has a manifest of Docker's schema 1, which is deprecated and not "
            "read: ask its author to build and push it anew, or do so yourself by a docker that "
            "can still pull it"
        )
    named = document.get("mediaType")
    if announced in _GENERIC:
        announced = ""
    if announced and named and named != announced:
        # Two programs could take it for two things (CVE-2021-41190).
        raise UnsupportedManifest(
            f"the manifest of {name} is a {shown(named)} by its own word and a {announced} by the "
            "registry's"
        )
    media_type = announced or named or (OCI_INDEX if "manifests" in document else OCI_MANIFEST)
    if media_type not in KNOWN:
        raise UnsupportedManifest(
            f"unsupported media type {shown(media_type)}: {name} is no image that can be run"
        )
    if ("layers" if media_type in LISTS else "manifests") in document:
        raise UnsupportedManifest(f"the manifest of {name} is of one image and of several")
    return Manifest(media_type, digest_of(data), data)


def parse_image(manifest: Manifest) -> ImageManifest:
    """Read the manifest of one image.

    Raises:
        UnsupportedManifest: It is none, or of something that is no image.
    """
    document = _document(manifest.data)
    if manifest.is_list:
        raise UnsupportedManifest(f"{manifest.digest} names several manifests, and is none")
    config = _descriptor(document.get("config"))
    if config.media_type not in _CONFIGS:
        raise UnsupportedManifest(
            f"unsupported media type {shown(config.media_type)}: {manifest.digest} is no image "
            "that can be run"
        )
    layers = document.get("layers")
    if not isinstance(layers, list):
        raise _damaged("it names no layers")
    return ImageManifest(config, tuple(_layer(one) for one in layers))


def parse_list(manifest: Manifest) -> tuple[Descriptor, ...]:
    """Read the entries of a manifest list (an OCI index).

    Raises:
        UnsupportedManifest: It is none.
    """
    if not manifest.is_list:
        raise UnsupportedManifest(f"{manifest.digest} is one manifest, and names no others")
    entries = _document(manifest.data).get("manifests")
    if not isinstance(entries, list):
        raise _damaged("it names no manifests")
    return tuple(_descriptor(one) for one in entries)


def _layer(value: object) -> Descriptor:
    found = _descriptor(value)
    if ".foreign." in found.media_type or ".nondistributable." in found.media_type:
        raise UnsupportedManifest(
            f"the layer {found.digest} is not to be had from a registry ({found.media_type}): "
            "images of Windows can't be run here"
        )
    if found.media_type not in LAYERS:
        raise UnsupportedManifest(
            f"unsupported media type {shown(found.media_type)} of the layer {found.digest}: give "
            "tar, tar with gzip, or tar with zstd"
        )
    return found


def _document(data: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged("it is no JSON") from error
    if not isinstance(document, dict):
        raise _damaged("it is no JSON object")
    if not isinstance(document.get("mediaType"), str | None):
        raise _damaged("its mediaType is no text")
    return document


def _descriptor(value: object) -> Descriptor:
    if not isinstance(value, dict):
        raise _damaged("something that it names is no object")
    media_type, digest, size = value.get("mediaType"), value.get("digest"), value.get("size")
    if not isinstance(media_type, str):
        raise _damaged("something that it names has no mediaType")
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise _damaged(f"something that it names has no digest of sha256: {shown(digest)}")
    if type(size) is not int or not 0 <= size < 2**63:
        raise _damaged(f"{digest} has no size")
    annotations = value.get("annotations")
    if not isinstance(annotations, dict):
        annotations = {}
    return Descriptor(
        media_type,
        digest,
        size,
        _platform(value.get("platform")),
        {key: text for key, text in annotations.items() if isinstance(text, str)},
    )


def _platform(value: object) -> PlatformSpec | None:
    if not isinstance(value, dict):
        return None
    words = [value.get(name) for name in ("os", "architecture", "variant", "os.version")]
    return PlatformSpec(*(word if isinstance(word, str) else "" for word in words))


def shown(value: object) -> str:
    """What a registry sent, as an error repeats it."""
    text = value if isinstance(value, str) else repr(value)
    return "".join(sign if sign.isprintable() else "?" for sign in text[:200])


def _damaged(why: str) -> UnsupportedManifest:
    return UnsupportedManifest(f"the manifest is damaged: {why}")
