"""What a pull, a load or a build has in hand: layers that nobody may remove before there is an
image that they belong to.

    with store.hold() as hold:
        layer = hold.layer(diff_id) or unpacked by hold.begin_layer()
        image = hold.add_image(configuration, tags=["busybox:latest"])

What no image came to use goes when the hold is closed, or after a kill with the next `sweep`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from runtime.images import adding
from runtime.images.contents import Contents
from runtime.images.errors import ImportRefused
from runtime.images.model import Image, Layer
from runtime.images.unpacking import Unpacked, UnpackJob


class Hold:
    """Layers in hand. May be used from any thread; `ImageStore.hold` makes it."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents
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
        with self._contents.writing:
            layer = self._contents.layers.find(diff_id)
            if layer is not None:
                self._contents.keep(diff_id, self._kept)
            return layer

    def begin_layer(self, digest: str = "", file: Path | None = None) -> UnpackJob[Layer]:
        """Starts the unpacking of a layer; what it makes is kept.

        Args:
            digest: What the archive is known as, `sha256:…`; empty if nobody knows.
            file: The archive, if it is in the store's staging already. It becomes the blob.

        Raises:
            ImportFailed: The child can't be started.
        """

        def commit(unpacked: Unpacked) -> Layer:
            if digest and unpacked.blob.digest != digest:
                raise ImportRefused(
                    f"layer verification failed for digest {digest}: it is {unpacked.blob.digest}"
                )
            with self._contents.writing:
                layer, _ = self._contents.layers.put(unpacked)
                self._contents.keep(layer.diff_id, self._kept)
                return layer

        return self._contents.begin_unpacking(commit, is_layer=True, file=file)

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
        return adding.put_image(self._contents, config, tags, digests, manifest, self._kept)

    def close(self) -> None:
        """Lets go. Removes layers that are of no use now: worker thread. Again is harmless."""
        if not self._closed:
            self._closed = True
            with self._contents.writing:
                garbage = self._contents.let_go(self._kept)
            for _, directory in garbage:
                self._contents.discard(directory)
