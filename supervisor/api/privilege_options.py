"""Capabilities, --privileged and protected paths of a create request, checked in Docker's words."""

from __future__ import annotations

from collections.abc import Sequence

from supervisor.api import wire
from supervisor.errors import BadParameter
from supervisor.privileges import CapabilityRefused, Privileges, at_hand, canonical


def checked_privileges(host: wire.AskedHostConfig) -> Privileges:
    """Return what is asked for, as it was typed.

    Raises:
        BadParameter: An unknown capability, one that this machine's root has not, or a path that
            is none.
    """
    for option, names in (("CapAdd", host.CapAdd), ("CapDrop", host.CapDrop)):
        try:
            canonical(names or ())
        except CapabilityRefused as error:
            raise BadParameter(f"invalid {option}: {error}") from error
    found = Privileges(
        added=tuple(host.CapAdd or ()),
        dropped=tuple(host.CapDrop or ()),
        privileged=bool(host.Privileged),
        masked_paths=_paths("MaskedPaths", host.MaskedPaths),
        readonly_paths=_paths("ReadonlyPaths", host.ReadonlyPaths),
    )
    try:
        found.capabilities(at_hand())
    except CapabilityRefused as error:
        raise BadParameter(f"invalid CapAdd: {error}") from error
    return found


def _paths(option: str, asked: Sequence[str] | None) -> tuple[str, ...] | None:
    """An empty list is a wish of its own: protect nothing."""
    if asked is None:
        return None
    for path in asked:
        if not path.startswith("/") or "\0" in path:
            raise BadParameter(f"invalid {option}: {path[:256]!r}: it needs to be an absolute path")
    return tuple(asked)
