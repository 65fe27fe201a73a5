"""One repository of a registry: its manifests, blobs and tags, read and written."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar
from urllib.parse import urlencode

import msgspec

from runtime.images import references
from runtime.images.blobs import digest_of
from runtime.images.errors import InvalidReference
from runtime.images.references import Reference
from supervisor.registries import manifests
from supervisor.registries.backoff import Backoff
from supervisor.registries.connections import Answer
from supervisor.registries.downloads import Download, Waiting
from supervisor.registries.errors import (
    Denied,
    RegistryError,
    RegistryFault,
    Unauthorized,
    WrongContent,
)
from supervisor.registries.exchange import Exchange, Question
from supervisor.registries.links import following
from supervisor.registries.manifests import Manifest
from supervisor.registries.refusals import Subject, refusal
from supervisor.registries.uploads import Uploads

__all__ = ["Repository", "Waiting"]

LARGEST_MANIFEST = 4 * 1024 * 1024
"""Bytes, as in dockerd."""

LARGEST_PAGE = 8 * 1024 * 1024
MOST_PAGES = 10_000

_ACCEPT = ", ".join((*manifests.KNOWN, "*/*;q=0.1"))

_Answered = TypeVar("_Answered")


class Repository:
    """Made by `Registries.repository`; good for one pull or push.

    Args:
        exchanges: Finds who is asked: mirrors, then the registry itself.

    Attributes:
        reference: What it was made for.
    """

    def __init__(
        self,
        reference: Reference,
        exchanges: Callable[[], Awaitable[list[Exchange]]],
        backoff: Backoff,
        *,
        push: bool,
    ) -> None:
        self.reference = reference
        self._find = exchanges
        self._backoff = backoff
        self._push = push
        self._found: list[Exchange] = []
        self._base = f"/v2/{reference.path}"
        actions = "pull,push" if push else "pull"
        self._scopes = (f"repository:{reference.path}:{actions}",)
        self._subject = Subject(reference.familiar_name, pull=not push)

    async def manifest(self, tag_or_digest: str) -> Manifest:
        """Return a manifest: a list as it is, without a choice made.

        Raises:
            ManifestUnknown, PullDenied, RepositoryUnknown, Unauthorized: As the registry says.
            UnsupportedManifest: It is of schema 1, or none of an image.
            WrongContent: It is not what its digest says.
            RegistryError: Anything else.
        """

        async def ask(exchange: Exchange) -> Manifest:
            return await self._backoff.retried(lambda: self._manifest_of(exchange, tag_or_digest))

        return await self._first(ask)

    async def _first(self, ask: Callable[[Exchange], Awaitable[_Answered]]) -> _Answered:
        """Ask one mirror after the other, then the registry itself; the first that answers."""
        exchanges = await self._exchanges()
        while True:
            try:
                return await ask(exchanges[0])
            except RegistryError:
                if len(exchanges) == 1:
                    raise
                # A mirror that does not have it, or is gone, is not asked for its blobs either.
                exchanges.pop(0)

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
        return self._blob(digest, size, waiting)

    @contextlib.asynccontextmanager
    async def _blob(
        self, digest: str, size: int, waiting: Waiting | None
    ) -> AsyncGenerator[AsyncIterator[bytes], None]:
        download = Download(
            await self._exchanges(),
            f"{self._base}/blobs/{digest}",
            self._scopes,
            self._subject,
            digest,
            size,
            self._backoff,
            waiting,
        )
        async with contextlib.aclosing(download.pieces()) as pieces:
            yield pieces

    async def has_blob(self, digest: str) -> bool:
        """Whether the repository has a blob.

        Raises:
            RegistryError: The registry does not say.
        """

        async def ask() -> bool:
            async with self._ask("HEAD", f"/blobs/{digest}") as answer:
                if answer.status not in (200, 404):
                    raise await refusal(answer, self._subject)
                return answer.status == 200

        return await self._backoff.retried(ask)

    async def mount_blob(self, digest: str, from_repository: str) -> bool:
        """Have the registry take a blob from another of its repositories.

        Args:
            from_repository: A path in the same registry, such as `library/busybox`.

        Returns:
            False where it does not: the blob has to be uploaded.

        Raises:
            RegistryError: The registry can't be asked.
        """
        uploads = await self._uploads()
        query = f"?{urlencode({'mount': digest, 'from': from_repository})}"
        try:
            begun = await self._backoff.retried(
                lambda: uploads.begin(query, (f"repository:{from_repository}:pull",))
            )
        except (Denied, Unauthorized):
            return False  # the other repository may be none of ours
        if not begun.mounted:
            await uploads.give_up(begun.where)
        return begun.mounted

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
        return await (await self._uploads()).send(pieces, size, digest)

    async def put_manifest(self, tag_or_digest: str, media_type: str, data: bytes) -> str:
        """Write a manifest and name it; returns its digest.

        Raises:
            RegistryError: The registry refuses; blobs of it may be missing there.
        """
        digest = digest_of(data)

        async def put() -> None:
            async with self._ask(
                "PUT", f"/manifests/{tag_or_digest}", {"Content-Type": media_type}, data
            ) as answer:
                if answer.status not in (200, 201, 202):
                    raise await refusal(answer, self._subject)
                said = answer.headers.get("docker-content-digest", digest)
                if said != digest:
                    raise WrongContent(
                        f"the registry has kept the manifest {digest} as {said[:200]}"
                    )

        await self._backoff.retried(put)
        return digest

    async def tags(self) -> list[str]:
        """Return all tags, in the registry's order.

        Raises:
            RegistryError: The registry does not say.
        """
        return await self._first(self._tags_of)

    async def _tags_of(self, exchange: Exchange) -> list[str]:
        found: list[str] = []
        target = f"{self._base}/tags/list"
        for _ in range(MOST_PAGES):
            page = functools.partial(self._page, exchange, target)
            names, more = await self._backoff.retried(page)
            found += names
            if not more or more == target:
                return found
            target = more
        raise RegistryFault(f"{self.reference.familiar_name} has tags on over {MOST_PAGES} pages")

    async def _page(self, exchange: Exchange, target: str) -> tuple[list[str], str]:
        """Tags of one page, and where the next is."""
        async with exchange.ask(Question("GET", target, self._scopes)) as answer:
            if answer.status != 200:
                raise await refusal(answer, self._subject)
            body = await answer.body(LARGEST_PAGE)
            more = following(answer.url, answer.every("link"))
        try:
            names = msgspec.json.decode(body)["tags"] or []
            for name in names:
                references.with_tag(self.reference.familiar_name, name)
        except (ValueError, TypeError, KeyError, RecursionError, InvalidReference):
            raise RegistryFault(f'Get "{answer.url}": no list of tags') from None
        return list(names), more

    async def _manifest_of(self, exchange: Exchange, wanted: str) -> Manifest:
        by_digest = ":" in wanted
        reference = f"{self.reference.familiar_name}{'@' if by_digest else ':'}{wanted}"
        subject = self._subject._replace(reference=reference)
        question = Question(
            "GET", f"{self._base}/manifests/{wanted}", self._scopes, {"Accept": _ACCEPT}
        )
        async with exchange.ask(question) as answer:
            if answer.status != 200:
                raise await refusal(answer, subject)
            data = await answer.body(LARGEST_MANIFEST)
        found = digest_of(data)
        said = wanted if by_digest else answer.headers.get("docker-content-digest", "")
        if (said.startswith("sha256:") and said != found) or (by_digest and said != found):
            raise WrongContent(
                f"manifest verification failed for digest {said}: {exchange.site.name} sent "
                f"something else ({found})"
            )
        return manifests.make(data, answer.headers.get("content-type", ""), reference)

    def _ask(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        content: bytes = b"",
    ) -> AbstractAsyncContextManager[Answer]:
        """Ask the registry itself."""
        return self._at_home(
            Question(method, self._base + path, self._scopes, headers or {}, content)
        )

    @contextlib.asynccontextmanager
    async def _at_home(self, question: Question) -> AsyncGenerator[Answer, None]:
        exchange = (await self._exchanges())[-1]
        async with exchange.ask(question) as answer:
            yield answer

    async def _exchanges(self) -> list[Exchange]:
        if not self._found:
            self._found = await self._find()
        return self._found

    async def _uploads(self) -> Uploads:
        exchange = (await self._exchanges())[-1]
        return Uploads(exchange, self._base, self._scopes, self._subject)
