"""Images of many layers, put into a store's directory as engines of before wrote them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from runtime.images import catalogue
from tests.real.shim_driver import bare_tree

CREATED_NS = 1_700_000_000 * 10**9


def put_layers(images: Path, count: int) -> list[str]:
    """Layers without archives and short names: busybox, and others with a file or two.

    Returns their diff ids, the lowest first.
    """
    return [_put_layer(images, number) for number in range(count)]


def put_image(images: Path, name: str, diff_ids: list[str]) -> str:
    """An image of layers that are there; returns its id."""
    document = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2023-11-14T22:13:20Z",
        "config": {"Cmd": ["/bin/sh"], "Labels": {"name": name}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created_by": f"step {number}"} for number in range(len(diff_ids))],
    }
    blob = json.dumps(document).encode()
    digits = hashlib.sha256(blob).hexdigest()
    (images / "blobs/sha256").mkdir(parents=True, exist_ok=True)
    (images / "blobs/sha256" / digits).write_bytes(blob)
    listed = catalogue.load(images / "repositories.json")
    listed.with_image(f"sha256:{digits}", CREATED_NS, name).save(images / "repositories.json")
    return f"sha256:{digits}"


def _put_layer(images: Path, number: int) -> str:
    digits = hashlib.sha256(b"layer %d" % number).hexdigest()
    files = images / "layers" / digits / "fs"
    if number:
        (files / f"only{number}").mkdir(parents=True)
        (files / f"from{number}").write_text(f"{number}\n")
        (files / "newest").write_text(f"{number}\n")
    else:
        bare_tree(files)
    record = {"diff_id": f"sha256:{digits}", "size": 10}
    (images / "layers" / digits / "layer.json").write_text(json.dumps(record))
    return f"sha256:{digits}"
