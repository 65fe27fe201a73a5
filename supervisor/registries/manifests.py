"""Manifests: OCI's and Docker's schema 2, of one image and of several platforms. Pure."""

from __future__ import annotations

import dataclasses

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"

LISTS = frozenset({OCI_INDEX, DOCKER_LIST})
"""Media types of manifests that name others, one for each platform."""


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


@dataclasses.dataclass(frozen=True, slots=True)
class PlatformSpec:
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


def parse_image(manifest: Manifest) -> ImageManifest:
    """Read the manifest of one image.

    Raises:
        UnsupportedManifest: It is none, or of something that is no image.
    """
    raise NotImplementedError


def parse_list(manifest: Manifest) -> tuple[Descriptor, ...]:
    """Read the entries of a manifest list (an OCI index).

    Raises:
        UnsupportedManifest: It is none.
    """
    raise NotImplementedError
