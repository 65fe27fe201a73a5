"""Manifests as registries send them."""

from __future__ import annotations

import json

from supervisor.registries import manifests

CONFIG = {"mediaType": manifests.OCI_CONFIG, "digest": "sha256:" + "c" * 64, "size": 7}
LAYER = {"mediaType": f"{manifests.OCI_LAYER}+gzip", "digest": "sha256:" + "a" * 64, "size": 9}
IMAGE = {"schemaVersion": 2, "config": CONFIG, "layers": [LAYER]}


def entry(number, os="", architecture="", variant=""):
    """An entry of a list; without a platform if it has no system."""
    platform = {"os": os, "architecture": architecture, "variant": variant}
    found = {
        "mediaType": manifests.OCI_MANIFEST,
        "digest": f"sha256:{number:064x}",
        "size": 1,
    }
    return found | ({"platform": platform} if os else {})


INDEX = {"schemaVersion": 2, "manifests": [entry(1, "linux", "amd64")]}


def text(document):
    return json.dumps(document).encode()
