"""Which entry of a manifest list is for which machine. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from supervisor.registries.manifests import Descriptor, PlatformSpec


def parse(text: str) -> PlatformSpec:
    """Read a platform as people write it: `linux/arm64/v8`, `amd64`; "" is this machine's.

    Raises:
        BadParameter: It is none (Docker's words).
    """
    raise NotImplementedError


def here() -> PlatformSpec:
    """Return the platform of this machine."""
    raise NotImplementedError


def shown(platform: PlatformSpec) -> str:
    """Return it as people write it: linux/amd64, or linux/arm/v7."""
    raise NotImplementedError


def choose(entries: Sequence[Descriptor], wanted: PlatformSpec) -> Descriptor:
    """Return the best of a list's entries; the first of several that are equally good.

    Raises:
        NoMatchingPlatform: There is none (Docker's words).
    """
    raise NotImplementedError
