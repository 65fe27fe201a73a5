"""HTTP to registries: one pool for each host, made at its first use, closed when it is idle.

httpx does the HTTP. Its import takes a third of a second, and certificates and proxies are the
disk's and the environment's matter, so all of this is done in a thread, and not at our start.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import anyio.to_thread

from supervisor.registries import certificates, failures, proxies
from supervisor.registries.errors import RegistryFault, RegistryUnreachable

if TYPE_CHECKING:
    import ssl

    import httpx

IDLE_S = 5.0
"""Nothing was asked for so long: all connections are closed."""


PIECE = 256 * 1024
"""Bytes that are read at a time, as many as asyncio takes from a socket: of less, each piece would
be cut from what is left by copying it, which took a third of all that a download takes."""

THREADS = 8
"""Origins whose certificates are read at the same time."""

Begin = Callable[[Callable[[], Awaitable[None]]], None]
"""Starts a task, in which nothing can go wrong that would reach anybody else."""


class Patience(NamedTuple):
    """How long a registry may take, in seconds; a whole blob may take any time.

    Attributes:
        connect: Until it is connected, TLS included.
        silence: Between two pieces, either way.
        small: For all of an answer that is read whole, such as a manifest.
    """

    connect: float = 30.0
    silence: float = 60.0
    small: float = 120.0


class Origin(NamedTuple):
    """Who is talked to.

    Attributes:
        scheme: http or https.
        host: Without brackets, in lower case.
        verify: Whether its certificate has to be good.
    """

    scheme: str
    host: str
    port: int
    verify: bool = True

    @classmethod
    def of(cls, url: str, *, verify: bool = True) -> Origin:
        """The origin of a URL. Raises ValueError where it has none."""
        return cls(*proxies.host_and_port(url), verify)

    @property
    def authority(self) -> str:
        """HOST, or HOST:PORT where the port is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == proxies.DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def same_as(self, other: Origin) -> bool:
        """Whether a secret for the one may be shown to the other."""
        return self[:3] == other[:3]


class _Pool(NamedTuple):
    client: httpx.AsyncClient
    stamp: certificates.Stamp


class Answer:
    """An answer whose head has come.

    Attributes:
        status: Of HTTP.
        headers: Case does not matter.
        method: What was asked.
        url: Who answers, without a query: it may hold secrets.
        origin: Who answers.
    """

    def __init__(
        self, response: httpx.Response, origin: Origin, where: failures.Where, longest: float
    ) -> None:
        self._response = response
        self._longest = longest
        self._where = where
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.method = where.method
        self.url = where.url
        self.origin = origin

    def every(self, name: str) -> list[str]:
        """All values of a header that may come several times."""
        return self._response.headers.get_list(name)

    @property
    def length(self) -> int | None:
        """The announced Content-Length, None if there is none."""
        text = self.headers.get("content-length", "")
        return int(text) if text.isascii() and text.isdigit() else None

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes.

        Raises:
            RegistryUnreachable: It breaks off, or stalls.
        """
        raw = self._response.aiter_raw()
        try:
            with failures.told(self._where):
                async for piece in raw:
                    yield piece
        finally:
            with anyio.CancelScope(shield=True):
                await self._response.aclose()
                # httpx's generators lie within each other, and closing the outer one leaves the
                # others to the garbage collector: with the connection gone they come to an end.
                with contextlib.suppress(Exception):
                    async for _ in raw:
                        pass

    async def body(self, limit: int) -> bytes:
        """The whole body.

        Raises:
            RegistryFault: It has more than `limit` bytes.
            RegistryUnreachable: It breaks off, stalls, or comes by drops.
        """
        found, size = [], 0
        with anyio.move_on_after(self._longest):
            async with contextlib.aclosing(self.pieces()) as pieces:
                async for piece in pieces:
                    found.append(piece)
                    size += len(piece)
                    if size > limit:
                        raise RegistryFault(
                            f"{self._where}: the answer has more than the {limit} bytes that are "
                            "read"
                        )
            return b"".join(found)
        raise RegistryUnreachable(
            f"{self._where}: i/o timeout: {size} bytes came in {self._longest:g} s"
        )


class Connections:
    """All connections to registries, proxies and token servers.

    Args:
        agent: The User-Agent.
        begin: Starts the task that closes idle connections; without, `aclose` does it.
    """

    def __init__(
        self,
        agent: str,
        patience: Patience,
        directory: Path = certificates.CERTIFICATES,
        begin: Begin | None = None,
    ) -> None:
        self._agent = agent
        self._patience = patience
        self._directory = directory
        self._begin = begin
        self._pools: dict[Origin, _Pool] = {}
        self._outdated: list[httpx.AsyncClient] = []
        self._making: dict[Origin, anyio.Lock] = {}
        self._threads = anyio.CapacityLimiter(THREADS)
        self._busy = 0
        self._quiet_since = 0.0
        self._watching = False

    @contextlib.asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        *,
        verify: bool,
        headers: Mapping[str, str],
        content: bytes | AsyncIterator[bytes] = b"",
    ) -> AsyncGenerator[Answer, None]:
        """Ask, and read the answer while the block runs. Nothing is followed or tried again.

        Raises:
            RegistryUnreachable: Nobody answers.
            RegistryFault: What answers speaks no HTTP, or the address is none.
        """
        try:
            origin = Origin.of(url, verify=verify)
        except ValueError:
            raise RegistryFault(f"the registry sends to {url.partition('?')[0]}: no address") from (
                None
            )
        where = failures.Where(method, url.partition("?")[0], origin.host, origin.port)
        self._busy += 1
        try:
            client = await self._client(origin)
            with failures.told(where):
                request = client.build_request(
                    method,
                    url,
                    content=content,
                    headers={"User-Agent": self._agent, "Accept-Encoding": "identity", **headers},
                )
                # Two readers of addresses must agree on whom a secret is for.
                port = request.url.port or proxies.DEFAULT_PORTS[origin.scheme]
                if (request.url.scheme, request.url.host, port) != origin[:3]:
                    raise RegistryFault(f"the registry sends to {where.url}: no address")
                response = await client.send(request, stream=True, auth=None)
            try:
                yield Answer(response, origin, where, self._patience.small)
            finally:
                await response.aclose()
        finally:
            self._busy -= 1
            self._quiet_since = time.monotonic()
            self._watch()

    async def aclose(self) -> None:
        """Close all."""
        clients = [pool.client for pool in self._pools.values()] + self._outdated
        self._pools, self._outdated = {}, []
        for client in clients:
            await client.aclose()

    def _watch(self) -> None:
        if self._begin is not None and not self._watching:
            self._watching = True
            self._begin(self._close_when_idle)

    async def _close_when_idle(self) -> None:
        try:
            idle = False
            while not idle:
                await anyio.sleep(IDLE_S)
                idle = not self._busy and time.monotonic() - self._quiet_since >= IDLE_S
            await self.aclose()
        finally:
            self._watching = False

    async def _client(self, origin: Origin) -> httpx.AsyncClient:
        # Whose certificates lie on a disk that hangs keeps nobody else waiting.
        run = functools.partial(anyio.to_thread.run_sync, limiter=self._threads)
        async with self._making.setdefault(origin, anyio.Lock()):
            library = await run(_library)
            directory = self._directory / origin.authority
            stamp = certificates.Stamp()
            if origin.scheme == "https":
                stamp = await run(certificates.stamp, directory)
            pool = self._pools.get(origin)
            if pool is not None and pool.stamp == stamp:
                return pool.client
            if pool is not None:
                self._outdated.append(pool.client)  # somebody may be reading from it
            client = await run(self._make, library, origin, directory)
            self._pools[origin] = _Pool(client, stamp)
            return client

    def _make(self, library: Any, origin: Origin, directory: Path) -> httpx.AsyncClient:  # noqa: ANN401
        from http.cookiejar import CookieJar, DefaultCookiePolicy

        context: ssl.SSLContext | bool = False
        if origin.scheme == "https":
            context = certificates.context(directory, verify=origin.verify)
        proxy = proxies.from_environment(os.environ).of(origin.scheme, origin.host, origin.port)
        connect, silence, _ = self._patience
        try:
            client: httpx.AsyncClient = library.AsyncClient(
                verify=context,
                proxy=proxy or None,
                trust_env=False,
                follow_redirects=False,
                timeout=library.Timeout(silence, connect=connect, pool=None),
                limits=library.Limits(max_connections=None, max_keepalive_connections=16),
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            )
        except (ValueError, ImportError) as error:
            raise RegistryFault(
                f"cannot use the proxy {proxies.masked(proxy)}: {error}; see HTTP_PROXY, "
                "HTTPS_PROXY and NO_PROXY in the engine's environment"
            ) from error
        return client


@functools.cache
def _library() -> ModuleType:
    for name in ("httpx", "httpcore"):
        # They log addresses, in whose queries there may be secrets.
        logging.getLogger(name).setLevel(logging.WARNING)
    connection = importlib.import_module("httpcore").AsyncHTTP11Connection
    connection.READ_NUM_BYTES = PIECE
    return importlib.import_module("httpx")
