"""What registries refuse, or do wrong, as one tree over `supervisor.errors.EngineError`.

    RegistryError                   status  meaning
    ├── RegistryUnreachable         500     no connection, broken off, or silent for too long
    ├── RegistryFault               500     it answers with a 5xx, or not as a registry does
    ├── TooManyRequests             429     the registry's own limit (`toomanyrequests: …`)
    ├── Unauthorized                401     it wants to know who asks, or knows and does not agree
    ├── Denied                      403     this name may not be written to, or read
    ├── NotThere                    404
    │   ├── PullDenied                      no such repository, or not for everybody
    │   ├── ManifestUnknown                 the repository has no such tag or digest
    │   ├── RepositoryUnknown
    │   ├── BlobUnknown
    │   └── NoMatchingPlatform              a manifest list without this machine's platform
    ├── WrongContent                500     a digest or a size that is not what was announced
    └── UnsupportedManifest         400     schema 1, or a media type that is no image

Texts are those that Docker's users and tools know, with what to do next where Docker is silent.
"""

from __future__ import annotations

from typing import ClassVar

from supervisor.errors import EngineError


class RegistryError(EngineError):
    """Base of all.

    Attributes:
        temporary: Whether the same may succeed a little later: who can begin anew, may try again.
    """

    temporary: ClassVar[bool] = False


class RegistryUnreachable(RegistryError):
    """Nobody answers, the connection broke off, or nothing came for too long."""

    temporary = True


class RegistryFault(RegistryError):
    """It answers, with a failure of its own or with what no registry says."""

    temporary = True


class TooManyRequests(RegistryError):
    """The registry's limit was reached, also after the wait that it asked for."""

    status = 429


class Unauthorized(RegistryError):
    """No credentials, or wrong ones."""

    status = 401


class Denied(RegistryError):
    """The registry knows who asks, and does not allow it."""

    status = 403


class NotThere(RegistryError):
    """The registry does not have it."""

    status = 404


class PullDenied(NotThere):
    """A repository that is not there looks like one that is not for everybody."""

    def __init__(self, familiar_name: str, words: str) -> None:
        super().__init__(
            f"pull access denied for {familiar_name}, repository does not exist or may require "
            f"'docker login': {words}"
        )


class ManifestUnknown(NotThere):
    """The repository has no such tag or digest."""

    def __init__(self, familiar: str, words: str = "manifest unknown: manifest unknown") -> None:
        super().__init__(f"manifest for {familiar} not found: {words}")


class RepositoryUnknown(NotThere):
    """The registry has no such repository."""

    def __init__(self, familiar_name: str, words: str) -> None:
        super().__init__(f"repository {familiar_name} not found: {words}")


class BlobUnknown(NotThere):
    """The repository has no such blob, although one of its manifests names it."""


class NoMatchingPlatform(NotThere):
    """None of a manifest list's entries is for the platform asked for."""


class WrongContent(RegistryError):
    """What came is not what its digest or size says; it was not and will not be used."""


class UnsupportedManifest(RegistryError):
    """A manifest that is none of an image that can be run here."""

    status = 400
