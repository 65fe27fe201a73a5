"""`daemon --seccomp-profile`: read once, when the engine starts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from runtime.spec import DEFAULT_CAPABILITIES
from supervisor.security_words import BUILTIN, UNCONFINED


class RefusedProfile(Exception):
    """The profile can't be the default; the text says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class SeccompOptions:
    """What containers get that say nothing of it.

    Attributes:
        path: As it was given: a file, "unconfined", or "" for what is built in.
        profile: "" for what is built in, "unconfined", or the file's content.
        lost: Why the file, which an earlier engine has read, can't be read any more; else "".
    """

    path: str = ""
    profile: str = ""
    lost: str = ""

    @property
    def shown(self) -> str:
        """As `docker info` names it."""
        return self.path or BUILTIN

    def words(self) -> list[str]:
        """As an engine that is started with them has them."""
        return ["--seccomp-profile", self.path] if self.path else []


def checked(path: str) -> SeccompOptions:
    """Read the profile, and be sure that it is one.

    Raises:
        RefusedProfile: It is missing, or no profile.
    """
    if path in ("", BUILTIN):
        return SeccompOptions()
    if path == UNCONFINED:
        return SeccompOptions(path, UNCONFINED)
    from runtime.seccomp.profile import ProfileRefused, read

    file = Path(path).absolute()
    try:
        text = file.read_text()
        read(text, DEFAULT_CAPABILITIES)
    except OSError as error:
        raise RefusedProfile(
            f"opening seccomp profile ({file}) failed: {error.strerror or error}"
        ) from error
    except (ProfileRefused, UnicodeDecodeError) as error:
        raise RefusedProfile(f"--seccomp-profile {file}: {error}") from error
    return SeccompOptions(str(file), text)
