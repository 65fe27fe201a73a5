"""The engine's one client of registries; what it costs, it costs at its first use."""

from __future__ import annotations

import os
from pathlib import Path

from runtime.images.references import Reference
from supervisor.config import Settings
from supervisor.registries import endpoints
from supervisor.registries.backoff import Backoff
from supervisor.registries.certificates import CERTIFICATES
from supervisor.registries.configuration import RegistryOptions
from supervisor.registries.connections import Begin, Connections, Patience
from supervisor.registries.credentials import Credentials
from supervisor.registries.exchange import Exchange, Ways
from supervisor.registries.repository import Repository
from supervisor.release import VERSION

PATIENCE = Patience()
BACKOFF = Backoff()


class Registries:
    """All registries that this engine talks to. Made inside the event loop.

    Args:
        begin: Starts the task that closes idle connections; without, `aclose` does it.
        certificates: Where certificates of registries are, one directory for each.
    """

    def __init__(
        self,
        settings: Settings,
        begin: Begin | None = None,
        *,
        patience: Patience = PATIENCE,
        backoff: Backoff = BACKOFF,
        certificates: Path = CERTIFICATES,
    ) -> None:
        self.options: RegistryOptions = settings.registries
        self.backoff = backoff
        self._connections = Connections(_agent(), patience, certificates, begin)
        self._ways = Ways()

    def repository(
        self, reference: Reference, credentials: Credentials | None, *, push: bool = False
    ) -> Repository:
        """Return the repository that a reference names; nobody is asked yet.

        Args:
            credentials: Shown to the registry that the reference names, and to nobody else.
            push: It is to be written to: mirrors are not asked, and tokens are for writing, too.
        """

        async def exchanges() -> list[Exchange]:
            sites = []
            if reference.domain in endpoints.HUB_NAMES and not push:
                sites += endpoints.mirrors(self.options)
            sites.append(await endpoints.registry(reference.domain, self.options))
            return [Exchange(site, self._connections, self._ways, credentials) for site in sites]

        return Repository(reference, exchanges, self.backoff, push=push)

    async def exchange(self, domain: str, credentials: Credentials | None) -> Exchange:
        """Return who asks a registry about itself."""
        site = await endpoints.registry(domain, self.options)
        return Exchange(site, self._connections, self._ways, credentials)

    @property
    def connections(self) -> Connections:
        """For what is fetched by its URL, with the same proxies and certificates."""
        return self._connections

    async def aclose(self) -> None:
        """Close all connections."""
        await self._connections.aclose()


def _agent() -> str:
    """Who we say we are: some registries look at it, and know what begins with docker/."""
    kernel = os.uname()
    return f"mdocker/{VERSION} os/linux arch/{kernel.machine} kernel/{kernel.release}"
