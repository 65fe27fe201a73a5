"""Files by their URL: what `import` and a build's ADD fetch."""

from __future__ import annotations

import base64
import contextlib
import http
from collections.abc import AsyncGenerator
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from supervisor.errors import BadParameter, EngineError
from supervisor.registries.client import Registries
from supervisor.registries.connections import Answer
from supervisor.registries.errors import RegistryError

MOST_REDIRECTS = 10
_LONGEST_REASON = 4096
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class DownloadRefused(EngineError):
    """A server does not give a file."""


class NoSuchFile(DownloadRefused):
    """It does not have it."""

    status = 404


@contextlib.asynccontextmanager
async def downloading(registries: Registries, url: str) -> AsyncGenerator[Answer, None]:
    """Have the answer to a GET whose body can be read while the block runs.

    Redirects are followed. A name and password in the URL are shown to its own host alone.

    Args:
        registries: Has the connections, proxies and certificates.
        url: http or https.

    Raises:
        BadParameter: It is no such URL.
        DownloadRefused: The server refuses; Docker's words.
        RegistryError: Nobody answers.
    """
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(MOST_REDIRECTS + 1):
            address, headers = _split(url)
            request = registries.connections.request("GET", address, verify=True, headers=headers)
            answer = await stack.enter_async_context(request)
            where = answer.headers.get("location", "")
            if answer.status not in _REDIRECTS or not where:
                break
            await stack.aclose()
            url = urljoin(address, where)
        else:
            raise DownloadRefused(f'Get "{answer.url}": stopped after {MOST_REDIRECTS} redirects')
        if answer.status != http.HTTPStatus.OK:
            raise await _refusal(answer)
        yield answer


def _split(url: str) -> tuple[str, dict[str, str]]:
    """The URL without a name and password, and the header that says them."""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            raise BadParameter(f'unsupported protocol scheme "{parts.scheme}": give http or https')
        if not parts.hostname:
            raise BadParameter(f'Get "{url}": no host in request URL')
        user, secret = unquote(parts.username or ""), unquote(parts.password or "")
    except ValueError as error:
        raise BadParameter(f"invalid URL: {error}") from None
    address = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))
    if not user and not secret:
        return address, {}
    word = base64.b64encode(f"{user}:{secret}".encode()).decode()
    return address, {"Authorization": f"Basic {word}"}


async def _refusal(answer: Answer) -> DownloadRefused:
    reason = ""
    if 0 < (answer.length or 0) <= _LONGEST_REASON:
        with contextlib.suppress(RegistryError, UnicodeDecodeError):
            lines = (await answer.body(_LONGEST_REASON)).decode().strip().splitlines()
            reason = f": {lines[0]}" if len(lines) == 1 else ""
    with contextlib.suppress(ValueError):
        reason = f" {http.HTTPStatus(answer.status).phrase}{reason}"
    words = f"failed to GET {answer.url} with status {answer.status}{reason}"
    return (NoSuchFile if answer.status == http.HTTPStatus.NOT_FOUND else DownloadRefused)(words)
