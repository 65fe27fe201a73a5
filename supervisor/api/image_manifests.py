"""What of an image the store has for which platform: one, as it is pulled and built for one."""

from __future__ import annotations

import json
from typing import Any

from runtime.images.model import Image
from runtime.images.store import ImageStore

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"


def summaries(
    store: ImageStore, image: Image, archives: int, containers: list[str]
) -> list[dict[str, Any]]:
    """Return the `Manifests` of an image. Reads files.

    Args:
        archives: Bytes of its layers as they came.
        containers: The ids of those that use it.

    Raises:
        StoreCorrupted: Its manifest can't be read.
    """
    descriptor, documents = _descriptor(store, image)
    platform = {"architecture": image.architecture, "os": image.os}
    return [
        {
            "ID": descriptor["digest"],
            "Descriptor": descriptor | {"platform": platform},
            "Available": True,
            "Size": {
                "Content": archives + documents,
                "Total": archives + documents + image.size,
            },
            "Kind": "image",
            "ImageData": {
                "Platform": platform,
                "Containers": containers,
                "Size": {"Unpacked": image.size},
            },
        }
    ]


def _descriptor(store: ImageStore, image: Image) -> tuple[dict[str, Any], int]:
    """What names the image, and the bytes of the documents that describe it.

    One that was made here has no manifest before it is pushed: its configuration names it.
    """
    if image.built_in:
        return {"mediaType": _CONFIG, "digest": image.id, "size": 0}, 0
    config = len(store.config_blob(image))
    manifest = store.manifest_blob(image)
    if manifest is None:
        return {"mediaType": _CONFIG, "digest": image.id, "size": config}, config
    kind = json.loads(manifest).get("mediaType") or _MANIFEST
    described = {"mediaType": kind, "digest": image.manifest, "size": len(manifest)}
    return described, config + len(manifest)
