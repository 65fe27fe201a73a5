"""One layer on its way to a registry: not if it is there, mounted if it is near, else sent."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import anyio

from runtime.images.model import Blob
from supervisor.registries.errors import RegistryError
from supervisor.registries.manifests import Descriptor
from supervisor.registries.repository import Repository
from supervisor.transfers.compressing import pieces_of
from supervisor.transfers.layer_downloads import Told
from supervisor.transfers.pushed_manifest import OCI_GZIP, is_compressed
from supervisor.transfers.whereabouts import Seen

if TYPE_CHECKING:
    from supervisor.engine import Engine

MOST_MOUNTS = 4
"""Repositories of which a registry is asked to take a layer, before it is sent."""

WAITS_S = (1, 2, 4, 8)
"""Before a blob is sent again, after a failure that may pass."""

_Sent = TypeVar("_Sent")


async def upload(
    engine: Engine,
    repository: Repository,
    blob: Blob,
    seen: Sequence[Seen],
    told: Told,
) -> Descriptor:
    """Have a layer at a registry; returns what it is called there.

    Args:
        blob: Its archive in the store.
        seen: Other archives of the same layer that the registry may have.

    Raises:
        RegistryError: The registry does not take it.
        DamagedBlob: It is not what it was.
    """
    ours = Descriptor(blob.media_type, blob.digest, blob.size)
    candidates = [*seen]
    if is_compressed(blob.media_type) and ours.digest not in {one.blob.digest for one in seen}:
        candidates.append(Seen(ours))
    slots = engine.limits.uploads_to_registries
    if not slots.value:
        told("Waiting")
    async with slots:
        for one in candidates:
            if await repository.has_blob(one.blob.digest):
                told("Layer already exists")
                return one.blob
        places = [(one.blob, path) for one in candidates for path in one.paths]
        for there, path in places[:MOST_MOUNTS]:
            if await repository.mount_blob(there.digest, path):
                told(f"Mounted from {path}")
                return there
        sent = await patiently(lambda: _send(engine, repository, blob, told), told)
        told("Pushed")
    known = {one.blob.digest: one.blob for one in candidates}
    return known.get(sent.digest, sent)


async def patiently(send: Callable[[], Awaitable[_Sent]], told: Told) -> _Sent:
    """Send something, from its beginning again after failures that may pass.

    Raises:
        RegistryError: It can't be sent.
    """
    for seconds in WAITS_S:
        try:
            return await send()
        except RegistryError as error:
            if not error.temporary:
                raise
        told(f"Retrying in {seconds} second{'' if seconds == 1 else 's'}")
        await anyio.sleep(seconds)
    return await send()


async def _send(engine: Engine, repository: Repository, blob: Blob, told: Told) -> Descriptor:
    compress = not is_compressed(blob.media_type)

    def read(done: int) -> None:
        told("Pushing", done, blob.size)

    async with contextlib.aclosing(pieces_of(engine, blob, compress=compress, read=read)) as pieces:
        if not compress:
            await repository.upload_blob(pieces, blob.size, blob.digest)
            return Descriptor(blob.media_type, blob.digest, blob.size)
        digest, size = await repository.upload_blob(pieces, None, None)
        return Descriptor(OCI_GZIP, digest, size)
