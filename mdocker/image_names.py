"""An image's name as Docker shows it, of what a person has typed. Pure.

It is the engine that knows which names are allowed: what is none comes out as it went in.
"""

from __future__ import annotations

from typing import NamedTuple

from mdocker.registry_names import HUB, registry_of

_HUB = "docker.io"
_OFFICIAL = "library/"


class ImageName(NamedTuple):
    """A name's parts.

    Attributes:
        registry: `docker.io` if none was typed.
        path: The repository there; with `library/` for Docker's official images.
        suffix: `:tag` or `@sha256:…`, as typed; empty if there is none.
    """

    registry: str
    path: str
    suffix: str

    @property
    def full(self) -> str:
        """The whole name."""
        return f"{self.registry}/{self.path}{self.suffix}"

    @property
    def familiar(self) -> str:
        """The name as short as it may be."""
        if self.registry != _HUB:
            return self.full
        return self.path.removeprefix(_OFFICIAL) + self.suffix

    def tagged(self) -> ImageName:
        """The same, with the tag `latest` where there is neither tag nor digest."""
        return self if self.suffix else self._replace(suffix=":latest")


def read(text: str) -> ImageName:
    """Take a name apart."""
    registry, path = _HUB, text.removeprefix("index.").removeprefix(f"{_HUB}/")
    if registry_of(text) != HUB:
        registry, _, path = text.partition("/")
    name, at, digest = path.partition("@")
    name, colon, tag = name.partition(":")
    if registry == _HUB and "/" not in name:
        name = _OFFICIAL + name
    return ImageName(registry, name, colon + tag + at + digest)
