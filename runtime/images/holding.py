"""What a pull, a load or a build has in hand: layers that nobody may remove before there is an
image that they belong to.

    with store.hold() as hold:
        layer = hold.layer(diff_id) or unpacked by hold.begin_layer()
        image = hold.add_image(configuration, tags=["busybox:latest"])

What no image came to use goes when the hold is closed, or after a kill with the next `sweep`.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from runtime.images.errors import ImportRefused
from runtime.images.model import Image, Layer
from runtime.images.unpacking import Unpacked, UnpackJob

if TYPE_CHECKING:
    from runtime.images.store import ImageStore


class Hold:
    """Layers in hand. May be used from any thread; `ImageStore.hold` makes it."""

    def __init__(self, store: ImageStore) -> None:
        self._store = store
        self._kept: set[str] = set()
        self._closed = False

    def __enter__(self) -> Hold:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def layer(self, diff_id: str) -> Layer | None:
        """A layer that is here already, kept from now on; None if it is not. Reads a small file."""
        return self._store.keep_layer(diff_id, self._kept)

    def begin_layer(self, digest: str = "") -> UnpackJob[Layer]:
        """Starts the unpacking of a layer; what it makes is kept.

        Args:
            digest: What the archive is known as, `sha256:…`; empty if nobody knows.

        Raises:
            ImportFailed: The child can't be started.
        """

        def commit(unpacked: Unpacked) -> Layer:
            if digest and unpacked.blob.digest != digest:
                raise ImportRefused(
                    f"layer verification failed for digest {digest}: it is {unpacked.blob.digest}"
                )
            return self._store.put_layer(unpacked, self._kept)

        return self._store.begin_unpacking(commit, is_layer=True)

    def add_image(
        self,
        config: bytes,
        *,
        tags: Sequence[str] = (),
        digests: Sequence[str] = (),
        manifest: bytes = b"",
    ) -> Image:
        """Makes an image of layers that are held. Durable; an image that is here gets the names.

        Args:
            config: Its configuration, whose digest is its id.
            tags: `name:tag`; each moves to it from the image that has it.
            digests: `name@sha256:…`.
            manifest: What a registry or an archive said of it.

        Raises:
            ImportRefused: It is no configuration of an image for Linux, or names a layer that is
                not held.
            InvalidReference, BuiltInImage: A name that it can't have.
            ImportFailed: This machine failed, such as by a full disk.
        """
        return self._store.put_image(config, tags, digests, manifest, self._kept)

    def close(self) -> None:
        """Lets go. Removes layers that are of no use now: worker thread. Again is harmless."""
        if not self._closed:
            self._closed = True
            self._store.let_go(self._kept)
