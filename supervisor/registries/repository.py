"""One repository of a registry: its manifests, blobs and tags, read and written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from runtime.images.references import Reference
from supervisor.registries.manifests import Manifest

Waiting = Callable[[float], None]
"""Told that something failed and is tried again after so many seconds."""


class Repository:
    """Made by `Registries.repository`; good for one pull or push.

    Attributes:
        reference: What it was made for.
    """

    def __init__(self, reference: Reference) -> None:
        self.reference = reference

    async def manifest(self, tag_or_digest: str) -> Manifest:
        """Return a manifest: a list as it is, without a choice made.

        Raises:
            ManifestUnknown, PullDenied, RepositoryUnknown, Unauthorized: As the registry says.
            UnsupportedManifest: It is of schema 1, or none of an image.
            WrongContent: It is not what its digest says, or too big.
            RegistryError: Anything else.
        """
        raise NotImplementedError

    def blob(
        self, digest: str, size: int, *, waiting: Waiting | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Read a blob: `async with repository.blob(digest, size) as pieces: async for …`.

        Whatever breaks is gone on with from where it broke. The last piece is handed out once
        all of it was checked.

        Args:
            size: Bytes, as its descriptor says.
            waiting: Told before each new try after a failure.

        Raises:
            WrongContent: It is not what its digest or size says; while the pieces are read.
            BlobUnknown: The registry does not have it.
            RegistryError: Anything else; at the entry, or while the pieces are read.
        """
        raise NotImplementedError

    async def has_blob(self, digest: str) -> bool:
        """Whether the repository has a blob."""
        raise NotImplementedError

    async def mount_blob(self, digest: str, from_repository: str) -> bool:
        """Have the registry take a blob from another of its repositories.

        Args:
            from_repository: A path in the same registry, such as `library/busybox`.

        Returns:
            False where it does not: the blob has to be uploaded.
        """
        raise NotImplementedError

    async def upload_blob(
        self, pieces: AsyncIterator[bytes], size: int | None, digest: str | None
    ) -> tuple[str, int]:
        """Send a blob as it comes.

        Args:
            size: Bytes, None if they are not known yet.
            digest: None if it is not known yet; else what comes must have it.

        Returns:
            Its digest and size.

        Raises:
            WrongContent: What came has another digest or size; the registry has nothing of it.
            RegistryError: Anything else. Where `temporary` is set, begin anew.
        """
        raise NotImplementedError

    async def put_manifest(self, tag_or_digest: str, media_type: str, data: bytes) -> str:
        """Write a manifest and name it; returns its digest."""
        raise NotImplementedError

    async def tags(self) -> list[str]:
        """Return all tags, in the registry's order."""
        raise NotImplementedError
