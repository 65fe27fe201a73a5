"""What a container may do, from the command line to HostConfig: capabilities, profiles, paths."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mdocker.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mdocker.container_options import ContainerOptions

_NO_PATHS = ("systempaths=unconfined", "systempaths:unconfined")
"""No security option to the API, which has lists of paths instead."""
_LONGEST_PROFILE = 4 << 20
"""Characters; no request's body may be longer."""
_KNOWN_PROFILES = ("unconfined", "builtin", "default", "")


def privileges(options: ContainerOptions) -> dict[str, Any]:
    """What HostConfig says of them; nothing of what was not asked."""
    asked: dict[str, Any] = {
        "CapAdd": _names(options.cap_add),
        "CapDrop": _names(options.cap_drop),
        "Privileged": options.privileged,
    }
    asked = {key: value for key, value in asked.items() if value}
    if any(word in _NO_PATHS for word in options.security_opt):
        asked |= {"MaskedPaths": [], "ReadonlyPaths": []}
    return asked


def security_words(options: ContainerOptions) -> list[str]:
    """The --security-opt words that the engine is to read: a profile by its content.

    Raises:
        UsageError: A profile can't be read, or is no JSON.
    """
    return [_with_profile(word) for word in options.security_opt if word not in _NO_PATHS]


def _with_profile(word: str) -> str:
    sign = "=" if "=" in word else ":"
    name, _, path = word.partition(sign)
    if name != "seccomp" or path in _KNOWN_PROFILES:
        return word
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_LONGEST_PROFILE)  # /dev/zero never ends
        if len(text) == _LONGEST_PROFILE:
            raise UsageError(f"seccomp profile ({path}) is larger than the engine takes")
        profile = json.loads(text)
    except OSError as error:
        raise UsageError(f"opening seccomp profile ({path}) failed: {error.strerror}") from error
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, or far too deep
        raise UsageError(f"compacting json for seccomp profile ({path}) failed: {error}") from error
    return "seccomp=" + json.dumps(profile, separators=(",", ":"), ensure_ascii=False)


def _names(words: Iterable[str]) -> list[str]:
    """As docker's own client writes them: each once, sorted, in upper case, with CAP_."""
    upper = [word.upper() for word in words]
    return sorted(
        {word if word == "ALL" or word.startswith("CAP_") else f"CAP_{word}" for word in upper}
    )
