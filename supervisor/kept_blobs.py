"""Archives of layers, read from the store to be sent: each hashed again on its way."""

from __future__ import annotations

import hashlib
import os

from runtime.images.model import Blob
from runtime.images.store import ImageStore
from supervisor.errors import EngineFault

PIECE = 1 << 20
"""Bytes that a thread reads and hashes at a time."""


class DamagedBlob(EngineFault):
    """A kept archive is not what its digest says."""

    def __init__(self, digest: str, what: str) -> None:
        super().__init__(
            f"blob {digest} is damaged ({what}): 'mdocker system check' tells of all; pull or load "
            "the image again"
        )


class BlobReader:
    """A blob read piece by piece; the last one is given once all is known to be right.

    All but `close` wait for the disk: worker thread.
    """

    def __init__(self, store: ImageStore, blob: Blob) -> None:
        self._path = store.blob_path(blob.digest)
        self._blob = blob
        self._hash = hashlib.sha256()
        self._left = blob.size
        self._fd = -1

    def open(self) -> None:
        """Open the file.

        Raises:
            DamagedBlob: It is gone.
            OSError: This machine failed.
        """
        try:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise DamagedBlob(self._blob.digest, "it is gone") from None

    def read(self) -> bytes:
        """Return the next piece; b"" behind the last.

        Raises:
            DamagedBlob: It is not what it was, or can't be read.
        """
        if not self._left:
            return b""
        try:
            piece = os.read(self._fd, min(PIECE, self._left))
        except OSError as error:
            raise DamagedBlob(self._blob.digest, str(error)) from error
        self._hash.update(piece)
        self._left -= len(piece)
        if not piece:
            raise DamagedBlob(self._blob.digest, "it is too short")
        if not self._left:
            self._check()
        return piece

    def _check(self) -> None:
        if os.read(self._fd, 1):
            raise DamagedBlob(self._blob.digest, "it is too long")
        if f"sha256:{self._hash.hexdigest()}" != self._blob.digest:
            raise DamagedBlob(self._blob.digest, "its content has changed")

    def close(self) -> None:
        """Close the file. Again is harmless."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
