"""Files from URLs: for ADD, and contexts that lie elsewhere."""

from __future__ import annotations

import contextlib
import email.message
import email.utils
import posixpath
from collections.abc import AsyncGenerator, AsyncIterator
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from supervisor.downloads import DownloadRefused, downloading
from supervisor.errors import EngineError
from supervisor.registries.client import Registries
from supervisor.registries.errors import RegistryError


class FetchFailed(EngineError):
    """A URL could not be had."""


class Fetched(NamedTuple):
    """A file that comes in.

    Attributes:
        name: What its server, or the URL, calls it; empty for nothing.
        size: Bytes; 0 where nobody says.
        modified_ns: ns since the epoch; 0 where nobody says.
    """

    pieces: AsyncIterator[bytes]
    name: str
    size: int
    modified_ns: int


@contextlib.asynccontextmanager
async def get(registries: Registries, url: str) -> AsyncGenerator[Fetched, None]:
    """Have a file come in while the block runs; redirects are followed.

    Raises:
        FetchFailed: It can't be had, or no more of it comes.
    """
    try:
        async with (
            downloading(registries, url) as answer,
            contextlib.aclosing(answer.pieces()) as pieces,
        ):
            headers = answer.headers
            yield Fetched(
                pieces,
                _name(headers.get("content-disposition", ""), url),
                answer.length or 0,
                _time(headers.get("last-modified", "")),
            )
    except (RegistryError, DownloadRefused) as error:
        raise FetchFailed(str(error)) from error


def _name(disposition: str, url: str) -> str:
    name = posixpath.basename(unquote(urlsplit(url).path))
    if not name:
        message = email.message.EmailMessage()
        message["content-disposition"] = disposition
        name = posixpath.basename(message.get_filename() or "")
    return "" if name in (".", "..") or "\0" in name else name


def _time(text: str) -> int:
    try:
        return int(email.utils.parsedate_to_datetime(text).timestamp()) * 10**9
    except (ValueError, TypeError, OverflowError):
        return 0
