"""Files from URLs: for ADD, and contexts that lie elsewhere."""

from __future__ import annotations

import contextlib
import email.message
import email.utils
import posixpath
from collections.abc import AsyncGenerator, AsyncIterator
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from supervisor.errors import EngineError

CONNECT_SECONDS = 30.0
PAUSE_SECONDS = 60.0
"""How long a server may send nothing."""

MOST_REDIRECTS = 10


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
async def get(url: str) -> AsyncGenerator[Fetched, None]:
    """Have a file come in while the block runs; redirects are followed.

    Raises:
        FetchFailed: It can't be had, or no more of it comes.
    """
    import httpx  # dear, and few need it

    timeout = httpx.Timeout(PAUSE_SECONDS, connect=CONNECT_SECONDS)
    client = httpx.AsyncClient(timeout=timeout, follow_redirects=True, max_redirects=MOST_REDIRECTS)
    try:
        async with client, client.stream("GET", url) as response:
            if response.status_code >= 400:
                raise FetchFailed(
                    f"failed to GET {url} with status {response.status_code} "
                    f"{response.reason_phrase}"
                )
            headers = response.headers
            size = headers.get("content-length", "")
            yield Fetched(
                response.aiter_raw(),
                _name(headers.get("content-disposition", ""), url),
                int(size) if size.isascii() and size.isdigit() else 0,
                _time(headers.get("last-modified", "")),
            )
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        words = str(error) or type(error).__name__
        raise FetchFailed(f'Get "{url}": {words}') from error


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
