"""Capabilities, --privileged and protected paths of a create request, checked in Docker's words."""

from __future__ import annotations

from collections.abc import Sequence

from supervisor.api import wire
from supervisor.errors import BadParameter
from supervisor.privileges import CapabilityRefused, Privileges, canonical


def checked_privileges(host: wire.AskedHostConfig) -> Privileges:
    """Return what is asked for, as it was typed.

    Raises:
        BadParameter: An unknown capability, or a path that is none.
    """
    added, dropped = _names(host.CapAdd), _names(host.CapDrop)
    for option, names in (("CapAdd", added), ("CapDrop", dropped)):
        try:
            canonical(names)
        except CapabilityRefused as error:
            raise BadParameter(f"invalid {option}: {error}") from error
    return Privileges(
        added=added,
        dropped=dropped,
        privileged=bool(host.Privileged),
        masked_paths=_paths("MaskedPaths", host.MaskedPaths),
        readonly_paths=_paths("ReadonlyPaths", host.ReadonlyPaths),
    )


def _names(asked: Sequence[str] | str | None) -> tuple[str, ...]:
    """A name that is no list is one of one, as in Docker."""
    return (asked,) if isinstance(asked, str) else tuple(asked or ())


def _paths(option: str, asked: Sequence[str] | None) -> tuple[str, ...] | None:
    """An empty list is a wish of its own: protect nothing."""
    if asked is None:
        return None
    for path in asked:
        if not path.startswith("/") or "\0" in path:
            raise BadParameter(f"invalid {option}: {path[:256]!r}: it needs to be an absolute path")
    return tuple(asked)
