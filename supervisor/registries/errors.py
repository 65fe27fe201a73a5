"""What registries refuse, or do wrong, as one tree over `supervisor.errors.EngineError`.

    RegistryError                   status  meaning
    ├── RegistryUnreachable         500     broken off, or silent for too long
    │   └── Refused                         no connection at all
    ├── RegistryFault               500     it answers with a 5xx, or not as a registry does
    ├── TooManyRequests             429     the registry's own limit (`toomanyrequests: …`)
    ├── Unauthorized                500     it wants to know who asks, or knows and does not agree
    │   └── LoginRefused            401     … asked by `POST /auth`
    ├── Denied                      403     this name may not be written to, or read
    ├── NotThere                    404
    │   ├── PullDenied                      no such repository, or not for everybody
    │   ├── ManifestUnknown                 the repository has no such tag or digest
    │   ├── RepositoryUnknown
    │   ├── BlobUnknown, UploadUnknown
    │   └── NoMatchingPlatform              a manifest list without this machine's platform
    ├── WrongContent                500     a digest or a size that is not what was announced
    └── UnsupportedManifest         400     schema 1, or a media type that is no image

Texts are those that Docker's users and tools know, with what to do next where Docker is silent.
"""

from __future__ import annotations

from supervisor.errors import EngineError


class RegistryError(EngineError):
    """Base of all.

    Attributes:
        temporary: Whether the same may succeed a little later: who can begin anew, may try again.
        retry_after: Seconds that the registry asks to wait before that, if it does.
    """

    temporary: bool = False
    retry_after: float | None = None


class RegistryUnreachable(RegistryError):
    """Nobody answers, the connection broke off, or nothing came for too long."""

    temporary = True


class RegistryFault(RegistryError):
    """It answers, with a failure of its own (`temporary` then) or with what no registry says."""


class Refused(RegistryUnreachable):
    """Nobody listens there, or there is no such host: a moment later it is no different."""

    temporary = False


class TooManyRequests(RegistryError):
    """The registry's own limit was reached."""

    status = 429
    temporary = True

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unauthorized(RegistryError):
    """No credentials, or wrong ones. Its status is Docker's: with 401 clients would ask anew."""


class LoginRefused(Unauthorized):
    """A login was tried, and the registry does not agree."""

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


class UploadUnknown(NotThere):
    """The registry has forgotten an upload that was under way."""

    temporary = True


class NoMatchingPlatform(NotThere):
    """None of a manifest list's entries is for the platform asked for."""


class WrongContent(RegistryError):
    """What came is not what its digest or size says; it was not and will not be used."""


class UnsupportedManifest(RegistryError):
    """A manifest that is none of an image that can be run here."""

    status = 400
