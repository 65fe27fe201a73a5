"""Capabilities, --privileged and unprotected paths, from the command line to HostConfig. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mdocker.container_options import ContainerOptions

_NO_PATHS = ("systempaths=unconfined", "systempaths:unconfined")
"""No security option to the API, which has lists of paths instead."""


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
    """The --security-opt words that the engine is to read."""
    return [word for word in options.security_opt if word not in _NO_PATHS]


def _names(words: Iterable[str]) -> list[str]:
    """As docker's own client writes them: each once, sorted, in upper case, with CAP_."""
    upper = [word.upper() for word in words]
    return sorted(
        {word if word == "ALL" or word.startswith("CAP_") else f"CAP_{word}" for word in upper}
    )
