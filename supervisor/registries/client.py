"""The engine's one client of registries; what it costs, it costs at its first use."""

from __future__ import annotations

from runtime.images.references import Reference
from supervisor.config import Settings
from supervisor.registries.credentials import Credentials
from supervisor.registries.repository import Repository


class Registries:
    """All registries that this engine talks to. Made inside the event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def repository(
        self, reference: Reference, credentials: Credentials | None, *, push: bool = False
    ) -> Repository:
        """Return the repository that a reference names; nobody is asked yet.

        Args:
            credentials: Shown to the registry that the reference names, and to nobody else.
            push: It is to be written to: mirrors are not asked, and tokens are for writing, too.
        """
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close all connections."""
