"""Images for the benchmarks, made here: one of 300 MB in five layers, and five hundred small ones.

What compresses is text of a kind (about 3 to 1), the rest is noise: half and half, as programs and
data are. Files are a few kB to some MB, some thousand in all. The same in each run.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

LAYERS_MB = (110, 80, 60, 35, 15)
_SMALL_FILES = 900  # in each layer
_SEED = 20261122
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass(frozen=True)
class Blob:
    """Something that a registry keeps by its digest."""

    media_type: str
    data: bytes

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.data).hexdigest()}"

    @property
    def descriptor(self) -> dict[str, object]:
        return {"mediaType": self.media_type, "size": len(self.data), "digest": self.digest}


@dataclass(frozen=True)
class MadeImage:
    """An image as a registry keeps it.

    Attributes:
        blobs: Configuration first, then the layers, the lowest first.
        unpacked: Bytes of its layers' tars.
    """

    manifest: Blob
    blobs: tuple[Blob, ...]
    unpacked: int


def big_image() -> MadeImage:
    """The one of 300 MB."""
    layers, diff_ids, unpacked = [], [], 0
    for number, megabytes in enumerate(LAYERS_MB):
        tar = layer_tar(number, megabytes << 20)
        unpacked += len(tar)
        diff_ids.append(f"sha256:{hashlib.sha256(tar).hexdigest()}")
        packer = zlib.compressobj(1, wbits=31)
        layers.append(Blob(_LAYER, packer.compress(tar) + packer.flush()))
    config = Blob(_CONFIG, configuration(diff_ids))
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": config.descriptor,
        "layers": [layer.descriptor for layer in layers],
    }
    return MadeImage(Blob(_MANIFEST, json.dumps(manifest).encode()), (config, *layers), unpacked)


def configuration(diff_ids: list[str], **labels: str) -> bytes:
    """What an image says of itself."""
    return json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "2026-01-02T03:04:05Z",
            "config": {"Cmd": ["/bin/sh"], "Labels": labels or None},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": [{"created": "2026-01-02T03:04:05Z", "created_by": "bench"}] * len(diff_ids),
        }
    ).encode()


def layer_tar(number: int, size: int) -> bytes:
    """The tar of a layer of about so many bytes."""
    chance = random.Random(_SEED + number)
    words = [chance.randbytes(chance.randrange(3, 9)).hex().encode() for _ in range(3000)]
    text = b" ".join(chance.choices(words, k=600_000))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, length in _files(chance, number, size):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mtime = length, 1_700_000_000
            entry.mode = 0o755 if chance.random() < 0.1 else 0o644
            tar.addfile(entry, io.BytesIO(_content(chance, text, length)))
    return out.getvalue()


def _files(chance: random.Random, layer: int, size: int) -> Iterator[tuple[str, int]]:
    left = size
    for number in range(_SMALL_FILES):
        length = min(left, int(chance.paretovariate(1.1) * 2000))
        length = min(length, 400_000)
        yield f"layer{layer}/{number // 50:03}/small{number:04}", length
        left -= length
    number = 0
    while left > 0:
        length = min(left, chance.randrange(1 << 20, 12 << 20))
        yield f"layer{layer}/big/{number}", length
        left -= length
        number += 1


def _content(chance: random.Random, text: bytes, length: int) -> bytes:
    if chance.random() < 0.5:
        return chance.randbytes(length)
    parts, left = [], length
    while left:
        begin = chance.randrange(len(text) - 50_000)
        part = text[begin : begin + min(left, 50_000)]
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def many_images(path: Path, count: int) -> Path:
    """An archive for `load` with so many images, all of one layer, each with a name."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as layer:
        entry = tarfile.TarInfo("file")
        entry.size = 4
        layer.addfile(entry, io.BytesIO(b"one\n"))
    diff_id = f"sha256:{hashlib.sha256(tar.getvalue()).hexdigest()}"
    listed = []
    with tarfile.open(path, "w") as archive:
        _add(archive, "layer.tar", tar.getvalue())
        for number in range(count):
            config = configuration([diff_id], number=str(number))
            name = f"{hashlib.sha256(config).hexdigest()}.json"
            _add(archive, name, config)
            tags = [f"many/image{number:03}:1"]
            listed.append({"Config": name, "RepoTags": tags, "Layers": ["layer.tar"]})
        _add(archive, "manifest.json", json.dumps(listed).encode())
    return path


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))
