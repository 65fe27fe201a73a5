"""Blobs: what is known by the digest of its bytes, one file each.

    <root>/blobs/sha256/<hex>   image configurations, manifests, and the archives of layers

The layout is OCI's (https://github.com/opencontainers/image-spec/blob/main/image-layout.md).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from runtime.images.durable import write_durably

_PREFIX = "sha256:"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def digest_of(data: bytes) -> str:
    """`sha256:…` of some bytes."""
    return _PREFIX + hashlib.sha256(data).hexdigest()


def is_digest(text: str) -> bool:
    """Whether this is `sha256:…`, and nothing else."""
    return _DIGEST.fullmatch(text) is not None


class Blobs:
    """All blobs of one store."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, digest: str) -> Path:
        """Where a blob is, or would be."""
        return self.directory / digest.removeprefix(_PREFIX)

    def put(self, data: bytes) -> str:
        """Keeps some bytes durably; tells their digest.

        Raises:
            OSError: Nothing was kept.
        """
        digest = digest_of(data)
        write_durably(self.path(digest), data)
        return digest

    def read(self, digest: str) -> bytes:
        """A small blob, checked.

        Raises:
            OSError: It is not there.
            ValueError: It is not what its name says.
        """
        data = self.path(digest).read_bytes()
        if digest_of(data) != digest:
            raise ValueError(f"blob {digest.removeprefix(_PREFIX)} does not match its digest")
        return data

    def adopt(self, file: Path, digest: str) -> None:
        """Moves a file here that has this digest."""
        file.replace(self.path(digest))

    def discard(self, digest: str) -> None:
        """Removes one; that it is not there is no error."""
        self.path(digest).unlink(missing_ok=True)

    def all(self) -> Iterator[tuple[str, Path]]:
        """Digest and place of each; names that are no digest's are left out."""
        for path in self.directory.iterdir():
            if len(path.name) == 64:
                yield _PREFIX + path.name, path

    def drafts(self) -> list[Path]:
        """What a crash left of files that were being written; see `durable`."""
        return list(self.directory.glob(".*.tmp"))
