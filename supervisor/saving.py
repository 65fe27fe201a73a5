"""`save`: images as one archive, streamed.

The archives of layers are sent as they are kept, each hashed again on its way: a damaged one breaks
the answer off before its last piece. What is sent is held, so no removal takes it meanwhile.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import anyio
import anyio.to_thread

from runtime.images import references
from runtime.images.errors import InvalidReference
from runtime.images.holding import Hold
from runtime.images.model import Blob, Image
from runtime.images.store import ImageStore
from supervisor import image_platforms, saved_layout
from supervisor.errors import Unsupported
from supervisor.kept_blobs import BlobReader, DamagedBlob
from supervisor.registries.manifests import Manifest, PlatformSpec, parse_image
from supervisor.saved_layout import Saved
from supervisor.transfers.pulling import held

if TYPE_CHECKING:
    from supervisor.engine import Engine


class Asked(NamedTuple):
    """An image, and by which of its names it was asked for."""

    image: Image
    names: tuple[str, ...]


class Archive:
    """Images that are held while they are sent.

    Attributes:
        images: What is saved.
        size: Bytes of the whole archive.
    """

    def __init__(self, engine: Engine, asked: Sequence[Asked], saved: Sequence[Saved]) -> None:
        self.images = [one.image for one in asked]
        self.size = saved_layout.size(saved)
        self._engine = engine
        self._saved = saved

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield the archive.

        Raises:
            DamagedBlob: A blob is not what it was; before its last piece.
        """
        for part in saved_layout.parts(self._saved):
            yield part.head
            if part.blob is not None:
                async with contextlib.aclosing(self._of_blob(part.blob)) as pieces:
                    async for piece in pieces:
                        yield piece
                if filling := saved_layout.padding(part.blob.size):
                    yield filling

    async def _of_blob(self, blob: Blob) -> AsyncGenerator[bytes, None]:
        reader = BlobReader(self._engine.images, blob)
        in_thread = functools.partial(anyio.to_thread.run_sync, limiter=self._engine.limits.readers)
        try:
            await in_thread(reader.open)
            while piece := await in_thread(reader.read):
                yield piece
        finally:
            reader.close()


@contextlib.asynccontextmanager
async def archived(
    engine: Engine, names: Sequence[str], platform: PlatformSpec | None = None
) -> AsyncGenerator[Archive, None]:
    """Have images ready to be sent while the block runs.

    Args:
        names: Names, ids; a name without a tag means all of its tags.
        platform: What they must be for.

    Raises:
        ImageError: One of them is not there.
        NotFound: One of them is for another platform.
        Unsupported: One can't be saved: it lies on this machine's files, or an older engine kept no
            archive of a layer.
    """
    asked = _asked(engine.images, names)
    for one in asked:
        _check(one.image, platform)
    async with held(engine) as hold:
        saved = await anyio.to_thread.run_sync(
            lambda: [_saved(engine.images, hold, one) for one in asked],
            limiter=engine.limits.readers,
        )
        yield Archive(engine, asked, saved)


def _asked(store: ImageStore, names: Sequence[str]) -> list[Asked]:
    """Each image once, with all names that were asked for, in the order of their asking."""
    found: dict[str, Asked] = {}
    for name in names:
        for image, tags in _meant(store, name):
            known = found.get(image.id, Asked(image, ()))
            found[image.id] = Asked(image, tuple(dict.fromkeys((*known.names, *tags))))
    return list(found.values())


def _meant(store: ImageStore, name: str) -> list[tuple[Image, tuple[str, ...]]]:
    try:
        reference = references.parse(name)
    except InvalidReference:
        return [(store.resolve(name), ())]  # a whole id, or nothing
    if not reference.tag and not reference.digest:
        of_all = [
            (image, tags)
            for image in store.images()
            if (tags := _tags_in(image, reference.familiar_name))
        ]
        if of_all:
            return of_all
    image = store.resolve(name)
    tag = reference.tagged()
    return [(image, (tag,) if tag in image.tags else ())]


def _tags_in(image: Image, repository: str) -> tuple[str, ...]:
    return tuple(tag for tag in image.tags if tag.rpartition(":")[0] == repository)


def _check(image: Image, platform: PlatformSpec | None) -> None:
    name = image.tags[0] if image.tags else image.short_id
    if image.built_in or image.base:
        raise Unsupported(
            f"{name} can't be saved: its files are this machine's own ('host'), and not in the "
            "image. Save an image with a root file system of its own"
        )
    image_platforms.check(image, platform)


def _saved(store: ImageStore, hold: Hold, asked: Asked) -> Saved:
    """What is sent of an image, held. Reads files."""
    image = asked.image
    blobs: list[Blob] = []
    for diff_id in image.diff_ids:
        layer = hold.layer(diff_id)
        if layer is None or layer.blob is None:
            raise Unsupported(
                f"image {image.short_id} can't be saved: an older engine has unpacked its layer "
                f"{diff_id} and kept no archive of it. Load or pull the image again, or 'mdocker "
                "export' a container of it"
            )
        path = store.blob_path(layer.blob.digest)
        if not path.exists():
            raise DamagedBlob(layer.blob.digest, "it is gone")
        blobs.append(layer.blob)
    manifest = store.manifest_blob(image) or b""
    if manifest and not _is_of(manifest, image, blobs):
        manifest = b""
    return Saved(asked.names, store.config_blob(image), tuple(blobs), manifest)


def _is_of(manifest: bytes, image: Image, blobs: Sequence[Blob]) -> bool:
    """Whether a manifest names just the archives that are kept.

    The same layer may have come twice, compressed in two ways: one of them is kept.
    """
    parsed = parse_image(Manifest("", image.manifest, manifest))
    return [layer.digest for layer in parsed.layers] == [blob.digest for blob in blobs]
