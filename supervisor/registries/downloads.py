"""A blob as it streams: checked, and gone on with where it broke."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import AsyncGenerator, Callable, Sequence

import anyio

from supervisor.registries.authentication import Scopes
from supervisor.registries.backoff import Backoff
from supervisor.registries.connections import Answer
from supervisor.registries.errors import (
    RegistryError,
    RegistryFault,
    RegistryUnreachable,
    WrongContent,
)
from supervisor.registries.exchange import Exchange, Question
from supervisor.registries.refusals import Subject, refusal

Waiting = Callable[[float], None]
"""Told that something failed and is tried again after so many seconds."""

PROGRESS = 1024 * 1024
"""Bytes that make a try count as none of those in a row that failed."""

_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.ASCII)


class Download:
    """One blob on its way.

    Args:
        sources: Registries that may have it, each with the path of the blob there; mirrors first.
            One that fails is not asked again while there is another behind it.
        size: Bytes, as its descriptor says.
        waiting: Told before each new try after a failure.
    """

    def __init__(
        self,
        sources: Sequence[Exchange],
        path: str,
        scopes: Scopes,
        subject: Subject,
        digest: str,
        size: int,
        backoff: Backoff,
        waiting: Waiting | None,
    ) -> None:
        self._sources = list(sources)
        self._path = path
        self._scopes = scopes
        self._subject = subject
        self._digest = digest
        self._size = size
        self._backoff = backoff
        self._waiting = waiting
        self._done = 0
        self._hash = hashlib.sha256()
        self._failures = 0

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The blob. Its last piece is handed out once all of it was checked.

        Raises:
            WrongContent: It is not what its digest or size says.
            RegistryError: None of the sources could give all of it.
        """
        held = b""
        while True:
            began = self._done
            try:
                async with contextlib.aclosing(self._rest()) as rest:
                    async for piece in rest:
                        self._count(piece)
                        if held:
                            yield held
                        held = piece
                break
            except RegistryError as error:
                await self._after(error, self._done - began)
        found = f"sha256:{self._hash.hexdigest()}"
        if found != self._digest:
            raise WrongContent(
                f"verification failed for digest {self._digest}: {self._sources[0].site.name} "
                f"sent something else ({found}); nothing of it was used"
            )
        if held:
            yield held

    def _count(self, piece: bytes) -> None:
        self._done += len(piece)
        if self._done > self._size:
            raise WrongContent(
                f"{self._sources[0].site.name} sent more than the {self._size} bytes that "
                f"{self._digest} has"
            )
        self._hash.update(piece)

    async def _after(self, error: RegistryError, progress: int) -> None:
        """Prepare another try, or raise."""
        if len(self._sources) > 1:
            self._sources.pop(0)
            return
        self._failures = 1 if progress >= PROGRESS else self._failures + 1
        wait = self._backoff.wait_after(error, self._failures, self._backoff.tries)
        if wait is None:
            raise error
        if self._waiting is not None:
            self._waiting(wait)
        await anyio.sleep(wait)

    async def _rest(self) -> AsyncGenerator[bytes, None]:
        """What is missing, from the first source."""
        offset = self._done
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        question = Question("GET", self._path, self._scopes, headers)
        async with self._sources[0].ask(question) as answer:
            skip = await self._begin(answer, offset)
            async with contextlib.aclosing(answer.pieces()) as pieces:
                async for piece in pieces:
                    if skip >= len(piece):
                        skip -= len(piece)
                    elif skip:
                        yield piece[skip:]
                        skip = 0
                    else:
                        yield piece
            if self._done < self._size:
                raise RegistryUnreachable(
                    f'Get "{answer.url}": unexpected EOF after {self._done} of {self._size} bytes'
                )

    async def _begin(self, answer: Answer, offset: int) -> int:
        """Look what is about to come; returns how many bytes of it we have already.

        Raises:
            WrongContent: It has another length than the blob.
            RegistryError: It is no part of the blob.
        """
        if answer.status == 206 and offset:
            found = _RANGE.fullmatch(answer.headers.get("content-range", "").strip().lower())
            if found is None or int(found[1]) != offset:
                raise RegistryFault(f'Get "{answer.url}": another part than the one asked for')
            self._check_size(answer, None if found[3] == "*" else int(found[3]))
            expected, skip = self._size - offset, 0
        elif answer.status == 200:
            expected, skip = self._size, offset
        else:
            raise await refusal(answer, self._subject)
        if answer.length is not None:
            self._check_size(answer, answer.length + self._size - expected)
        return skip

    def _check_size(self, answer: Answer, size: int | None) -> None:
        if size is not None and size != self._size:
            raise WrongContent(
                f'Get "{answer.url}": {self._digest} has {self._size} bytes by its descriptor, '
                f"and {size} by the registry's answer"
            )
