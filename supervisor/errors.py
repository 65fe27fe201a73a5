"""What the engine refuses, as one tree.

    EngineError                 status  meaning
    ├── BadParameter            400     the request asks for something that can't be
    ├── StartFailed             400     the payload could not be executed (carries exit code)
    ├── NotFound                404
    │   ├── NoSuchContainer
    │   └── NoSuchImage
    ├── Conflict                409     right request, wrong moment
    │   └── NameInUse
    ├── NotJoined               a container whose namespace is to be shared: DonorMissing (404),
    │                           DonorNotRunning (409), DonorNotShareable (400)
    ├── Unsupported             501     a Docker option that this engine does not do yet
    └── EngineFault             500     the machine failed us (disk, kernel, descriptors)

Each class carries the HTTP status that the Engine API gives it; the message is what a person
reads behind "Error response from daemon: ", so it says what is wrong and what to do.
"""

from __future__ import annotations

from typing import ClassVar


class EngineError(Exception):
    """Base of all refusals."""

    status: ClassVar[int] = 500


class BadParameter(EngineError):
    """The request can't be fulfilled by any engine in any state."""

    status = 400


class StartFailed(EngineError):
    """The container's process could not be brought to its execve.

    Attributes:
        exit_code: What Docker records for it: 127 not found, 126 not executable, else 128.
    """

    status = 400

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class NotFound(EngineError):
    """The thing named does not exist."""

    status = 404


class NoSuchContainer(NotFound):
    """No container has this name or id."""

    def __init__(self, reference: str) -> None:
        super().__init__(f"No such container: {reference}")


class NoSuchImage(NotFound):
    """No image has this name or id."""

    def __init__(self, reference: str) -> None:
        super().__init__(f"No such image: {reference}")


class Conflict(EngineError):
    """The thing is in a state that does not allow this now."""

    status = 409


class NotJoined(EngineError):
    """A start could not join a namespace of another container."""


class DonorMissing(NotJoined, NoSuchContainer):
    """That container is gone."""


class DonorNotRunning(NotJoined, Conflict):
    """That container does not run now."""


class DonorNotShareable(NotJoined, BadParameter):
    """That container has not said that its namespace may be shared."""


class NameInUse(Conflict):
    """Another container has this name. Clients parse the text (cri-dockerd does by regex)."""

    def __init__(self, name: str, holder_id: str) -> None:
        super().__init__(
            f'Conflict. The container name "/{name}" is already in use by container '
            f'"{holder_id}". You have to remove (or rename) that container to be able to '
            "reuse that name."
        )


class Unsupported(EngineError):
    """A valid Docker option that this engine refuses rather than ignores."""

    status = 501


class EngineFault(EngineError):
    """The machine failed us; the text says which call on which path."""

    status = 500
