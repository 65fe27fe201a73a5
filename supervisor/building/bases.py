"""What a FROM, or a COPY --from, means by the name of an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from runtime.images import references
from runtime.images.errors import ImageNotFound
from runtime.images.model import Image
from supervisor.building.asked import Asked
from supervisor.progress import Progress
from supervisor.registries import platforms
from supervisor.registries.credentials import Credentials
from supervisor.registries.manifests import PlatformSpec
from supervisor.transfers import pulling

if TYPE_CHECKING:
    from supervisor.engine import Engine

_DOCKER_HUB = "https://index.docker.io/v1/"
"""What clients call it in their credentials."""


async def find(engine: Engine, asked: Asked, name: str, platform: str, progress: Progress) -> Image:
    """Return an image; one that is missing, or for another platform, is pulled.

    Args:
        platform: As a person writes it; empty for whatever is here.

    Raises:
        BadParameter: The platform is none.
        ImageError, RegistryError: It can't be had.
    """
    wanted = platforms.parse(platform) if platform else None
    if not asked.pull:
        try:
            image = engine.images.resolve(name)
        except ImageNotFound:
            pass
        else:
            here = PlatformSpec(image.os, image.architecture)
            if wanted is None or platforms.fitness(here, wanted) is not None:
                return image
    reference = references.parse(name)
    credentials = _credentials(asked.credentials, reference.domain)
    return await pulling.pull(engine, pulling.Asked(reference, platform, credentials), progress)


def _credentials(known: Mapping[str, Credentials], domain: str) -> Credentials | None:
    if domain == references.DEFAULT_DOMAIN and _DOCKER_HUB in known:
        return known[_DOCKER_HUB]
    for host, credentials in known.items():
        plain = host.removeprefix("https://").removeprefix("http://").partition("/")[0]
        if plain == domain:
            return credentials
    return None
