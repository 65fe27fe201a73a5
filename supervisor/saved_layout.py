"""The archive that `save` makes: an OCI image layout that is docker's format, too. Pure.

As docker from version 25 on writes it: each configuration, manifest and layer once, as
`blobs/sha256/…`, and beside them `oci-layout` and `index.json` (https://github.com/opencontainers/
image-spec/blob/main/image-layout.md) and docker's `manifest.json`, which name them. The small
documents come first: who reads a stream knows then what is in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from runtime import archive_headers
from runtime.archive_headers import Entry
from runtime.images import references
from runtime.images.blobs import digest_of
from runtime.images.model import Blob
from supervisor.registries.manifests import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST

END = archive_headers.END

_BLOBS = "blobs/sha256/"
_FILE, _DIRECTORY = 0o644, 0o755


class Saved(NamedTuple):
    """An image to be saved.

    Attributes:
        names: `name:tag`, those that were asked for.
        config: Its configuration.
        layers: Their archives, the lowest first.
        manifest: What it came with; empty for one to be made.
    """

    names: tuple[str, ...]
    config: bytes
    layers: tuple[Blob, ...]
    manifest: bytes = b""


class Part(NamedTuple):
    """A piece of the archive.

    Attributes:
        head: Bytes as they are.
        blob: What follows them, and is to be filled up to whole blocks of a tar.
    """

    head: bytes
    blob: Blob | None = None


def parts(images: Sequence[Saved]) -> Iterator[Part]:
    """Yield all of the archive in its order."""
    entries: list[dict[str, Any]] = []
    listed: list[dict[str, Any]] = []
    documents: dict[str, bytes] = {}
    for image in images:
        manifest = image.manifest or _manifest(image)
        documents |= {digest_of(data): data for data in (image.config, manifest)}
        entries += _entries(manifest, image.names)
        listed.append(_listed(image))
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    yield Part(_file("oci-layout", _json({"imageLayoutVersion": "1.0.0"})))
    yield Part(_file("index.json", _json(index)))
    yield Part(_file("manifest.json", _json(listed)))
    yield Part(_directory("blobs/") + _directory(_BLOBS))
    for digest, data in documents.items():
        yield Part(_file(_place(digest), data))
    for blob in distinct(images):
        yield Part(_header(_place(blob.digest), blob.size), blob)
    yield Part(END)


def distinct(images: Iterable[Saved]) -> list[Blob]:
    """Each layer's archive once."""
    return list({blob.digest: blob for image in images for blob in image.layers}.values())


def size(images: Sequence[Saved]) -> int:
    """Bytes of the whole archive."""
    total = 0
    for part in parts(images):
        total += len(part.head)
        if part.blob is not None:
            total += part.blob.size + len(padding(part.blob.size))
    return total


def padding(length: int) -> bytes:
    """What fills so many bytes up to whole blocks."""
    return bytes(-length % archive_headers.BLOCK)


def _manifest(image: Saved) -> bytes:
    """The manifest of an image that came without one, or with one of other archives."""
    config = {
        "mediaType": OCI_CONFIG,
        "digest": digest_of(image.config),
        "size": len(image.config),
    }
    layers = [
        {"mediaType": blob.media_type, "digest": blob.digest, "size": blob.size}
        for blob in image.layers
    ]
    return _json(
        {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers}
    )


def _entries(manifest: bytes, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """What the index has for one image: an entry for each name, or one without any."""
    entry = {
        "mediaType": json.loads(manifest).get("mediaType", OCI_MANIFEST),
        "digest": digest_of(manifest),
        "size": len(manifest),
    }
    for name in names:
        reference = references.parse(name)
        annotations = {
            "io.containerd.image.name": f"{reference.name}:{reference.tag}",
            "org.opencontainers.image.ref.name": reference.tag,
        }
        yield {**entry, "annotations": annotations}
    if not names:
        yield entry


def _listed(image: Saved) -> dict[str, Any]:
    """What manifest.json has for one image."""
    return {
        "Config": _place(digest_of(image.config)),
        "RepoTags": list(image.names) or None,
        "Layers": [_place(blob.digest) for blob in image.layers],
    }


def _place(digest: str) -> str:
    return _BLOBS + digest.removeprefix("sha256:")


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _file(name: str, data: bytes) -> bytes:
    return _header(name, len(data)) + data + padding(len(data))


def _header(name: str, length: int) -> bytes:
    # No time of its own: the same images give the same bytes.
    entry = Entry(name.encode(), archive_headers.REGULAR, _FILE, 0, 0, 0)
    entry.size = length
    return entry.spell()


def _directory(name: str) -> bytes:
    return Entry(name.encode(), archive_headers.DIRECTORY, _DIRECTORY, 0, 0, 0).spell()
