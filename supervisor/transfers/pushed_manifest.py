"""The manifest that a push writes. Pure.

The one that an image came with is written again, byte for byte, as long as it names the very blobs
that the registry has now: then the image keeps its digest. Otherwise it is Docker's schema 2, which
everybody reads; layers compressed by zstd are OCI's alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from runtime.images.blobs import digest_of
from supervisor.registries.errors import UnsupportedManifest
from supervisor.registries.manifests import (
    DOCKER_MANIFEST,
    OCI_MANIFEST,
    Descriptor,
    ImageManifest,
    Manifest,
    parse_image,
)

OCI_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"


class Stored:
    """The manifest that an image came with, or was pushed with last.

    Attributes:
        manifest: As it is kept.
        parts: What it says.
    """

    __slots__ = ("manifest", "parts")

    def __init__(self, manifest: Manifest, parts: ImageManifest) -> None:
        self.manifest = manifest
        self.parts = parts

    @classmethod
    def read(cls, data: bytes | None) -> Stored | None:
        """Read what the store has; None where that is nothing that we understand."""
        if not data:
            return None
        try:
            # OCI has it that a manifest need not say what it is: Docker's must.
            media_type = str(json.loads(data).get("mediaType") or OCI_MANIFEST)
            manifest = Manifest(media_type, digest_of(data), data)
            return cls(manifest, parse_image(manifest))
        except (ValueError, AttributeError, RecursionError, UnsupportedManifest):
            return None

    def fits(self, config: str, layers: Sequence[Descriptor]) -> bool:
        """Whether it names this configuration and these layers."""
        ours = [layer.digest for layer in self.parts.layers]
        return self.parts.config.digest == config and ours == [layer.digest for layer in layers]


def is_zstd(media_type: str) -> bool:
    """Whether a layer is compressed by zstd."""
    return media_type.endswith("zstd")


def is_compressed(media_type: str) -> bool:
    """Whether a layer is compressed at all."""
    return media_type.endswith(("gzip", "zstd"))


def build(config: bytes, layers: Sequence[Descriptor]) -> Manifest:
    """Return a new manifest of an image.

    Args:
        layers: Compressed ones, the lowest first.
    """
    as_oci = any(is_zstd(layer.media_type) for layer in layers)
    kind = OCI_MANIFEST if as_oci else DOCKER_MANIFEST

    def media_type(layer: Descriptor) -> str:
        if not as_oci:
            return DOCKER_GZIP
        return OCI_ZSTD if is_zstd(layer.media_type) else OCI_GZIP

    document = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": {
            "mediaType": OCI_CONFIG if as_oci else DOCKER_CONFIG,
            "size": len(config),
            "digest": digest_of(config),
        },
        "layers": [
            {"mediaType": media_type(layer), "size": layer.size, "digest": layer.digest}
            for layer in layers
        ],
    }
    data = json.dumps(document, indent=3).encode()
    return Manifest(kind, digest_of(data), data)
