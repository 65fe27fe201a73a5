"""A blob on its way into a registry, as it comes: nothing of it is kept."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import NamedTuple
from urllib.parse import quote

import anyio

from supervisor.registries.authentication import Scopes
from supervisor.registries.connections import Answer
from supervisor.registries.errors import RegistryError, RegistryFault, WrongContent
from supervisor.registries.exchange import Exchange, Question
from supervisor.registries.refusals import Subject, refusal

CANCEL_SECONDS = 2.0
"""How long a registry is told that an upload is given up; if it does not hear, it cleans up."""

_BLOB = "application/octet-stream"


class Begun(NamedTuple):
    """What a registry says to the wish for an upload.

    Attributes:
        mounted: It has taken the blob from another of its repositories.
        where: Where to send it, otherwise.
    """

    mounted: bool
    where: str = ""


class _Checked:
    """Pieces on their way, held to what was announced of them.

    Args:
        size: Bytes, None for any number.
        digest: None for any.
    """

    def __init__(self, pieces: AsyncIterator[bytes], size: int | None, digest: str | None) -> None:
        self._pieces = pieces
        self._announced = size
        self._wanted = digest
        self.size = 0
        self.ended = False
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Raises WrongContent where they are others; the registry is left without an end then."""
        try:
            async for piece in self._pieces:
                self.size += len(piece)
                if self._announced is not None and self.size > self._announced:
                    raise self._wrong(f"more than the {self._announced} bytes that were announced")
                self._hash.update(piece)
                if piece:
                    yield piece
        finally:
            if isinstance(self._pieces, AsyncGenerator):
                await self._pieces.aclose()
        if self._announced is not None and self.size < self._announced:
            raise self._wrong(f"{self.size} bytes, and {self._announced} were announced")
        if self._wanted not in (None, self.digest):
            raise self._wrong(f"the digest {self.digest}, and {self._wanted} was announced")
        self.ended = True

    def _wrong(self, what: str) -> WrongContent:
        return WrongContent(f"the blob to be pushed has {what}")


class Uploads:
    """Uploads into one repository.

    Args:
        base: Its path, such as `/v2/bird/nest`.
    """

    def __init__(self, exchange: Exchange, base: str, scopes: Scopes, subject: Subject) -> None:
        self._exchange = exchange
        self._base = base
        self._scopes = scopes
        self._subject = subject

    async def begin(self, query: str = "", more: Scopes = ()) -> Begun:
        """Ask where to send a blob, or to take it from elsewhere.

        Raises:
            RegistryError: The registry refuses.
        """
        question = Question("POST", f"{self._base}/blobs/uploads/{query}", (*self._scopes, *more))
        async with self._exchange.ask(question) as answer:
            if answer.status == 201 and query:
                return Begun(mounted=True)
            if answer.status != 202:
                raise await refusal(answer, self._subject)
            return Begun(mounted=False, where=self._location(answer))

    async def send(
        self, pieces: AsyncIterator[bytes], size: int | None, digest: str | None
    ) -> tuple[str, int]:
        """Send a blob; see `Repository.upload_blob`."""
        checked = _Checked(pieces, size, digest)
        begun = await self.begin()
        try:
            if digest is not None and size is not None:
                await self._put(begun.where, digest, checked, size)
            else:
                where = await self._patch(begun.where, checked, size)
                await self._put(where, checked.digest, None, 0)
        except BaseException:
            await self.give_up(begun.where)
            raise
        return checked.digest, checked.size

    async def give_up(self, where: str) -> None:
        """Tell the registry that nothing more comes; whether it hears is its own matter."""
        with (
            anyio.move_on_after(CANCEL_SECONDS, shield=True),
            contextlib.suppress(RegistryError),
        ):
            async with self._exchange.ask(Question("DELETE", where, self._scopes)):
                pass

    async def _patch(self, where: str, checked: _Checked, size: int | None) -> str:
        headers = {} if size is None else {"Content-Length": str(size)}
        async with self._sending(where, "PATCH", headers, checked) as answer:
            if answer.status not in (202, 204):
                raise await refusal(answer, self._subject)
            return self._location(answer)

    async def _put(self, where: str, digest: str, checked: _Checked | None, size: int) -> None:
        target = f"{where}{'&' if '?' in where else '?'}digest={quote(digest, safe='')}"
        headers = {"Content-Length": str(size)}
        async with self._sending(target, "PUT", headers, checked) as answer:
            if answer.status not in (201, 204):
                raise await refusal(answer, self._subject)
            said = answer.headers.get("docker-content-digest", digest)
            if said != digest:
                raise RegistryFault(f"the registry has kept {digest} as {said[:200]}")

    @contextlib.asynccontextmanager
    async def _sending(
        self, where: str, method: str, headers: dict[str, str], checked: _Checked | None
    ) -> AsyncGenerator[Answer, None]:
        headers = {"Content-Type": _BLOB, **headers}
        if checked is None:
            async with self._exchange.ask(Question(method, where, self._scopes, headers)) as answer:
                yield answer
            return
        async with contextlib.aclosing(checked.pieces()) as pieces:
            question = Question(method, where, self._scopes, headers, pieces)
            async with self._exchange.ask(question) as answer:
                if answer.status < 400 and not checked.ended:
                    raise RegistryFault(f"{answer.url} answers before it has all of the blob")
                yield answer

    def _location(self, answer: Answer) -> str:
        where = answer.headers.get("location", "")
        if not where:
            raise RegistryFault(f"{answer.url} does not say where to send a blob")
        return where
