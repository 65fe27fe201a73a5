"""One question to one registry: the way to it, who asks, and where it sends us."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

import anyio

from supervisor.registries.authentication import Authenticator, Scopes
from supervisor.registries.connections import Answer, Connections, Origin
from supervisor.registries.credentials import Credentials
from supervisor.registries.endpoints import Endpoint, Site
from supervisor.registries.errors import RegistryFault, RegistryUnreachable

MOST_REDIRECTS = 10
LONGEST_TOKEN_ANSWER = 1024 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SAME_METHOD = frozenset({307, 308})
_READS = frozenset({"GET", "HEAD"})


class Ways:
    """Which of a registry's ways leads to it, remembered between pulls."""

    def __init__(self) -> None:
        self._known: dict[str, Endpoint] = {}
        self._looking: dict[str, anyio.Lock] = {}

    async def to(self, site: Site, connections: Connections) -> Endpoint:
        """Return the way to a registry; looks which it is if that is not known.

        Raises:
            RegistryUnreachable: None leads there.
        """
        if len(site.ways) == 1:
            return site.ways[0]
        async with self._looking.setdefault(site.name, anyio.Lock()):
            found = self._known.get(site.name)
            if found is None:
                found = self._known[site.name] = await _look(site, connections)
            return found

    def forget(self, site: Site) -> None:
        """It was not to be reached: look again next time."""
        self._known.pop(site.name, None)


async def _look(site: Site, connections: Connections) -> Endpoint:
    for endpoint in site.ways[:-1]:
        with contextlib.suppress(RegistryUnreachable):
            async with connections.request(
                "GET", f"{endpoint.url}/v2/", verify=endpoint.verify, headers={}
            ):
                return endpoint
    return site.ways[-1]


class Question(NamedTuple):
    """What is asked.

    Attributes:
        target: A path, or the address that the registry itself has named.
        scopes: What a token has to allow.
        content: An iterator can be sent once alone.
    """

    method: str
    target: str
    scopes: Scopes
    headers: Mapping[str, str] = {}
    content: bytes | AsyncIterator[bytes] = b""


class Exchange:
    """Questions of one client to one registry."""

    def __init__(
        self, site: Site, connections: Connections, ways: Ways, credentials: Credentials | None
    ) -> None:
        self.site = site
        self._connections = connections
        self._ways = ways
        self._credentials = None if site.mirror else credentials
        self._authenticators: dict[Endpoint, Authenticator] = {}

    async def endpoint(self) -> Endpoint:
        """Return the way that is gone.

        Raises:
            RegistryUnreachable: None leads there.
        """
        return await self._ways.to(self.site, self._connections)

    def authenticator(self, endpoint: Endpoint) -> Authenticator:
        """Return who shows our credentials there."""
        found = self._authenticators.get(endpoint)
        if found is None:
            secure = endpoint.verify and endpoint.url.startswith("https:")

            async def ask(
                method: str, url: str, headers: Mapping[str, str], form: bytes | None
            ) -> tuple[Answer, bytes]:
                return await self._ask_tokens(endpoint, method, url, headers, form)

            found = Authenticator(ask, self._credentials, secure=secure)
            self._authenticators[endpoint] = found
        return found

    @contextlib.asynccontextmanager
    async def ask(self, question: Question) -> AsyncGenerator[Answer, None]:
        """Ask, and read the answer while the block runs, whatever its status is.

        A 401 of the registry itself is followed by one more try with what it asks for; redirections
        are followed.

        Raises:
            RegistryUnreachable: Nobody answers.
            Unauthorized: It wants to know who asks, and nobody has said, or it was refused.
            RegistryError: Anything else below or beside the answer.
        """
        async with contextlib.AsyncExitStack() as stack:
            yield await self._asked(stack, question)

    async def _asked(self, stack: contextlib.AsyncExitStack, question: Question) -> Answer:
        endpoint = await self.endpoint()
        authenticator = self.authenticator(endpoint)
        shown = await authenticator.header(question.scopes)
        try:
            answer = await self._follow(stack, endpoint, question, shown)
            # Who a registry redirects to does not say where our password is to be shown.
            home = Origin.of(endpoint.url).same_as(answer.origin)
            if answer.status == 401 and home and isinstance(question.content, bytes):
                better, scopes = await authenticator.after_refusal(answer, question.scopes, shown)
                if better is not None:
                    await stack.aclose()
                    question = question._replace(scopes=scopes)
                    answer = await self._follow(stack, endpoint, question, better)
        except RegistryUnreachable:
            self._ways.forget(self.site)
            raise
        return answer

    async def _follow(
        self,
        stack: contextlib.AsyncExitStack,
        endpoint: Endpoint,
        question: Question,
        authorization: str | None,
    ) -> Answer:
        """Ask, and ask where the answer sends us. Secrets stay with who they are for."""
        home = Origin.of(endpoint.url)
        method = question.method
        url = self.address(endpoint, question.target)
        for _ in range(MOST_REDIRECTS):
            headers = dict(question.headers)
            if authorization is not None and _is_at(url, home):
                headers["Authorization"] = authorization
            # Where an insecure registry sends us, anybody between may have written: no certificate
            # there would mean anything.
            answer = await stack.enter_async_context(
                self._connections.request(
                    method,
                    url,
                    verify=endpoint.verify,
                    headers=headers,
                    content=question.content,
                )
            )
            where = answer.headers.get("location", "")
            if answer.status not in _REDIRECTS or not where:
                return answer
            if method not in _READS and (
                answer.status not in _SAME_METHOD or not isinstance(question.content, bytes)
            ):
                return answer
            await stack.aclose()
            url = _redirected(url, where)
        raise RegistryFault(f"stopped after {MOST_REDIRECTS} redirects at {url.partition('?')[0]}")

    def address(self, endpoint: Endpoint, target: str) -> str:
        """Return the whole address of a path or of a `Location`.

        A registry behind something that does its TLS may call itself http://; it is not left for
        that.
        """
        try:
            url = urljoin(f"{endpoint.url}/", target)
            parts, home = urlsplit(url), urlsplit(endpoint.url)
        except ValueError:
            raise RegistryFault(f"{self.site.name} sends to no address") from None
        if (parts.scheme, home.scheme) == ("http", "https") and parts.hostname == home.hostname:
            url = parts._replace(scheme="https", netloc=home.netloc).geturl()
        return url

    async def _ask_tokens(
        self,
        endpoint: Endpoint,
        method: str,
        url: str,
        headers: Mapping[str, str],
        form: bytes | None,
    ) -> tuple[Answer, bytes]:
        sent = dict(headers)
        if form is not None:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        async with self._connections.request(
            method,
            url,
            verify=endpoint.verify,
            headers=sent,
            content=form or b"",
        ) as answer:
            return answer, await answer.body(LONGEST_TOKEN_ANSWER)


def _is_at(url: str, home: Origin) -> bool:
    try:
        return Origin.of(url).same_as(home)
    except ValueError:
        return False


def _redirected(url: str, where: str) -> str:
    try:
        target = urljoin(url, where)
        scheme = urlsplit(target).scheme
    except ValueError:
        raise RegistryFault(f"{url.partition('?')[0]} redirects to no address") from None
    if url.startswith("https:") and scheme != "https":
        raise RegistryFault(
            f"{url.partition('?')[0]} redirects from https to "
            f"{target.partition('?')[0]}: that is not followed"
        )
    return target
