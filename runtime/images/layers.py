"""Unpacked layers, one directory each.

    <root>/layers/<diff id>/fs           an overlay lower directory
    <root>/layers/<diff id>/layer.json
                                         {"diff_id", "size",
                                          "blob": {"digest", "size", "media_type"}}
    <root>/blobs/sha256/<hex>            the archive that it was unpacked from
    <root>/short/<first digits>          leads to its `fs`; see `short_names`

A layer's directory appears and vanishes whole, by a rename. Its blob is there before it, and goes
after it.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator
from pathlib import Path

from runtime.images.blobs import Blobs, is_digest
from runtime.images.durable import sync_directory, write_durably
from runtime.images.model import Blob, Layer
from runtime.images.short_names import ShortNames
from runtime.images.unpacking import BLOB, Unpacked

_PREFIX = "sha256:"
_RECORD = "layer.json"


class Layers:
    """All layers of one store. Whoever adds or takes one must hold the store's lock."""

    def __init__(self, directory: Path, staging: Path, blobs: Blobs) -> None:
        """Opens the directory, and mends what leads to its layers.

        Raises:
            OSError: It can't be read, or names in it can't be made.
        """
        self.directory = directory
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._names = ShortNames(directory.parent / "short", directory)
        self._staging = staging
        self._blobs = blobs

    def path(self, diff_id: str) -> Path:
        """A layer's own directory, with `fs` and its record."""
        return self.directory / diff_id.removeprefix(_PREFIX)

    def lower(self, diff_id: str) -> str:
        """What overlayfs is told of a layer: a short path of its `fs`. Looks at no disk."""
        try:
            return self._names.path(diff_id.removeprefix(_PREFIX))
        except KeyError:
            return str(self.path(diff_id) / "fs")

    def misnamed(self) -> list[str]:
        """What is wrong with the short paths, in words. Reads each of them."""
        return self._names.amiss()

    def get(self, diff_id: str) -> Layer:
        """A layer, from its record.

        Raises:
            OSError: It is not there.
            ValueError, KeyError, TypeError: Its record is not what was written.
        """
        record = json.loads((self.path(diff_id) / _RECORD).read_bytes())
        blob = None
        if kept := record.get("blob"):
            blob = Blob(str(kept["digest"]), int(kept["size"]), str(kept["media_type"]))
        return Layer(diff_id, int(record["size"]), blob)

    def find(self, diff_id: str) -> Layer | None:
        """A layer, or None if it is not there, or damaged, or what is asked for is no digest."""
        # Strangers write these: one with a path in it would be found, and taken, by another name.
        if not is_digest(diff_id):
            return None
        try:
            return self.get(diff_id)
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def all(self) -> Iterator[str]:
        """The diff ids of all that is here."""
        for path in self.directory.iterdir():
            if len(path.name) == 64:
                yield _PREFIX + path.name

    def put(self, unpacked: Unpacked) -> tuple[Layer, bool]:
        """Takes over what was unpacked: the layer, and whether it is new here.

        Two archives with the same tar in them are one layer, and the first one's blob is kept.

        Raises:
            OSError: Nothing was added.
        """
        diff_id = _PREFIX + unpacked.diff_id
        known = self.find(diff_id)
        if known is not None and known.blob is not None:
            return known, False
        layer = Layer(diff_id, unpacked.size, unpacked.blob)
        record = {
            "diff_id": diff_id,
            "size": layer.size,
            "blob": {
                "digest": unpacked.blob.digest,
                "size": unpacked.blob.size,
                "media_type": unpacked.blob.media_type,
            },
        }
        encoded = json.dumps(record).encode()
        self._blobs.adopt(unpacked.directory / BLOB, unpacked.blob.digest)
        try:
            if self.path(diff_id).exists():
                # An older engine kept no archive of it: now there is one.
                write_durably(self.path(diff_id) / _RECORD, encoded)
                return layer, False
            write_durably(unpacked.directory / _RECORD, encoded)
            self._names.add(unpacked.diff_id)
            try:
                unpacked.directory.rename(self.path(diff_id))
                sync_directory(self.directory)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):  # it was not renamed
                    self.path(diff_id).rename(unpacked.directory)
                self._forget_name(unpacked.diff_id)
                raise
        except BaseException:
            self._blobs.discard(unpacked.blob.digest)
            raise
        return layer, True

    def take(self, diff_id: str) -> Path | None:
        """Moves a layer into staging, to be removed there, and forgets its blob.

        Returns:
            Where it is now; None if it was not there.
        """
        layer = self.find(diff_id)
        directory = self._staging / f"removed-{secrets.token_hex(8)}"
        try:
            self.path(diff_id).rename(directory)
        except FileNotFoundError:
            return None
        self._forget_name(diff_id.removeprefix(_PREFIX))
        if layer is not None and layer.blob is not None:
            self._blobs.discard(layer.blob.digest)
        return directory

    def _forget_name(self, digits: str) -> None:
        """One that can't be removed leads nowhere, and goes when the store is opened again."""
        with contextlib.suppress(OSError):
            self._names.remove(digits)
